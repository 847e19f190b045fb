"""CONTRIBUTING's agent, family and network work as shown, and its diffs apply."""

from __future__ import annotations

import importlib
import re
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

import metarl
from metarl.registry import make_family
from metarl.storage import read_tensors

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def section(heading: str) -> str:
    return PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def code_of(heading: str) -> str:
    return str(re.findall(r"```python\n(.*?)```", section(heading), re.DOTALL)[-1])


@pytest.fixture
def shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], ModuleType]:
    """Writes the file of a section into the working folder and imports it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)

    def run(heading: str, name: str) -> ModuleType:
        (tmp_path / f"{name}.py").write_text(code_of(heading))
        monkeypatch.delitem(sys.modules, name, raising=False)
        module = importlib.import_module(name)
        monkeypatch.delitem(sys.modules, name)
        return module

    return run


def test_the_agent_learns_and_can_be_saved(shown, tmp_path: Path) -> None:
    kind = shown("Add an agent", "contributed_agent").EsReptile
    family = make_family("point-robot")
    envs, streams = family.make_envs(8, 20, 20), metarl.Streams(0)
    agent = kind.build(kind.Config(), envs.spaces, device=torch.device("cpu"), rng=streams.learner)
    reports = list(metarl.meta_train(agent, metarl.LocalSampler(envs), family.distribution, streams, iterations=10))
    assert set(reports[0].metrics) >= {"return/0", "return/1", "update/step_norm"}
    gains = [report.metrics["return/1"] - report.metrics["return/0"] for report in reports]
    assert np.mean(gains) > 0.2, "adaptation pays"
    other = kind.build(kind.Config(), envs.spaces, device=torch.device("cpu"), rng=np.random.default_rng(9))
    other.restore(agent.tensors(), agent.counters())
    tasks = family.distribution.held_out(4)
    one, two = (metarl.evaluate(a, family, tasks, metarl.Streams(1), episodes=4, horizon=20) for a in (agent, other))
    assert np.array_equal(one.returns, two.returns)
    with pytest.raises(ValueError, match=r"got parameters \(4, 2\), expected \(3, 2\)"):
        other.restore({"parameters": torch.zeros(4, 2)}, {})
    state = agent.begin(tasks, 2)
    parts = [state.tasks(slice(0, 1)), state.tasks(slice(1, 4))]
    assert np.array_equal(type(state).join(parts).centre, state.centre)
    agent.save_policy(state, tmp_path / "policy.safetensors", task=1)
    assert read_tensors(tmp_path / "policy.safetensors")[0]["weight_0"].shape == (2, 2)


def test_the_agent_is_trained_by_the_command(shown, run_metarl, tiny) -> None:
    shown("Add an agent", "my_agents")
    (line,) = re.findall(r"^metarl train (my_agents:EsReptile point-robot)", section("Add an agent"), re.MULTILINE)
    code, _, err = run_metarl("train", *line.split(), "--out", "run", *tiny)
    assert code == 0, err


def test_the_family_is_sound_and_trains(shown, run_metarl, tiny, tmp_path: Path) -> None:
    shown("Add a family", "my_families")
    code, out, err = run_metarl("check", "my_families:gain")
    assert code == 0, err
    assert "no problems found" in out
    code, _, err = run_metarl("train", "rl2", "my_families:gain", "--out", "run", *tiny)
    assert code == 0, err


def test_the_network_continues_from_its_memory_and_its_agent_learns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, agent = re.findall(r"```python\n(.*?)```", section("Add a network"), re.DOTALL)
    (tmp_path / "window_network.py").write_text(network)
    (tmp_path / "window_agent.py").write_text(agent.replace("metarl.learning.networks.window", "window_network"))
    monkeypatch.syspath_prepend(tmp_path)
    kind = importlib.import_module("window_agent").WindowAgent
    family = make_family("point-robot")
    envs, streams = family.make_envs(4, 2, 10), metarl.Streams(0)
    built = kind.build(kind.Config(window=3), envs.spaces, device=torch.device("cpu"), rng=streams.learner)
    x = torch.randn(2, 7, 6, generator=torch.Generator().manual_seed(0))  # 2 observations, 2 actions, reward, done
    whole, values, memory = built.network(x, built.network.fresh_memory(2))
    parts = built.network.fresh_memory(2)
    for t in range(7):
        part, value, parts = built.network(x[:, t : t + 1], parts)
        torch.testing.assert_close((part.mean[:, 0], value[:, 0]), (whole.mean[:, t], values[:, t]))
    assert torch.equal(parts, memory)
    assert torch.equal(memory, x[:, -3:])
    before = {name: tensor.clone() for name, tensor in built.tensors().items()}
    reports = list(metarl.meta_train(built, metarl.LocalSampler(envs), family.distribution, streams, iterations=2))
    assert {"return/0", "return/1", "update/kl"} <= set(reports[-1].metrics)
    assert any(not torch.equal(tensor, before[name]) for name, tensor in built.tensors().items())


@pytest.mark.parametrize("heading", ["Add an agent", "Add a family", "Add a network"])
def test_each_diff_applies_and_names_what_is_shown(heading: str) -> None:
    (diff,) = re.findall(r"```diff\n(.*?)```", section(heading), re.DOTALL)
    file, *lines = diff.splitlines()
    text = (ROOT / file.removeprefix("--- a/")).read_text(encoding="utf-8")
    before = "".join(f"{line[1:]}\n" for line in lines if line[0] != "+")
    after = "".join(f"{line[1:]}\n" for line in lines)
    assert text.count(before) == 1
    changed = tomllib.loads(text.replace(before, after))["project"]["entry-points"]
    (new,) = (line[1:] for line in lines if line[0] == "+")
    name, value = re.fullmatch(r'(\S+) = "(\S+)"', new).groups()  # type: ignore[union-attr]
    assert value in [group.get(name) for group in changed.values()]
    module, _, attribute = value.partition(":")
    assert f"`{module.removeprefix('metarl.').replace('.', '/')}.py`" in section(heading)
    assert f"class {attribute}(" in code_of(heading) or f"def {attribute}(" in code_of(heading)
