"""`metarl.train` and `metarl.make_agent`: the same presets, numbers and folder as the command line."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

import metarl
from metarl.agents.reptile import Reptile, ReptileConfig
from metarl.checkpoint import list_checkpoints
from metarl.storage import read_tensors

SMALL = {"iterations": 3, "tasks": 2, "episodes": 2, "horizon": 6, "eval_every": 2, "eval_tasks": 2}
WORDS = tuple(w for name, value in SMALL.items() for w in (f"--{name.replace('_', '-')}", str(value)))


def newest(out: Path) -> dict[str, torch.Tensor]:
    """The arrays of a run's last checkpoint."""
    return read_tensors(list_checkpoints(out / "checkpoints")[-1])[0]


@pytest.mark.parametrize(
    ("agent", "family", "settings", "words"),
    [
        ("maml-trpo", "point-robot", {"inner_lr": 0.05}, ("--agent.inner-lr", "0.05")),
        ("rl2", "half-cheetah-dir", {"units": 8, "encoder": (8,)}, ("--agent.units", "8", "--agent.encoder", "8")),
    ],
)
def test_training_by_a_call_and_by_the_command_line_is_the_same(
    run_metarl: Any, assert_same_run: Any, tmp_path: Path, agent: str, family: str, settings: Any, words: Any
) -> None:
    trained = metarl.train(agent, family, out=tmp_path / "call", **SMALL, **settings)
    code, _, err = run_metarl("train", agent, family, "--out", tmp_path / "words", *WORDS, *words)
    assert code == 0, err
    assert_same_run(tmp_path / "call", tmp_path / "words")
    config = [(tmp_path / name / "config.json").read_bytes() for name in ("call", "words")]
    assert config[0] == config[1]
    folders = [{p.relative_to(tmp_path / n).parts[0] for p in (tmp_path / n).rglob("*")} for n in ("call", "words")]
    assert folders[0] == folders[1]
    assert (trained.out, trained.progress.iteration) == (tmp_path / "call", 3)
    tensors = newest(tmp_path / "call")
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in trained.agent.tensors().items())


def test_a_run_goes_on_with_its_own_settings(assert_same_run: Any, tmp_path: Path) -> None:
    metarl.train("reptile", "point-robot", out=tmp_path / "whole", outer_lr=0.5, **SMALL | {"iterations": 4})
    metarl.train("reptile", "point-robot", out=tmp_path / "parts", outer_lr=0.5, **SMALL)
    metarl.train("reptile", "point-robot", out=tmp_path / "parts", resume=True, iterations=4)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    for path in list_checkpoints(tmp_path / "parts" / "checkpoints")[-1:]:
        path.write_bytes(b"cut short")
    with pytest.warns(UserWarning, match="falling back"):
        metarl.train("reptile", "point-robot", out=tmp_path / "parts", resume=True)
    with pytest.raises(ValueError, match=r"differs from that of .* in agent.outer_lr"):
        metarl.train("reptile", "point-robot", out=tmp_path / "parts", resume=True, outer_lr=0.4)
    with pytest.raises(ValueError, match=r"got the agent 'rl2', but .*parts was trained by 'reptile'$"):
        metarl.train("rl2", "point-robot", out=tmp_path / "parts", resume=True)


def test_a_family_and_a_class_may_be_given_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    seen = []

    class Watcher:
        def start(self, start: Any) -> None:
            seen.append(start.run.agent)

        def iteration(self, report: Any) -> None:
            seen.append(report.progress.iteration)

        def close(self) -> None:
            seen.append("closed")

    family = metarl.make_family("point-robot")
    trained = metarl.train(Reptile, family, track="none", watch=[Watcher()], **SMALL)
    assert seen == ["reptile", 1, 2, 3, "closed"], "an announced class has its name"
    assert trained.out.parent == Path("runs")
    assert not (trained.out / "tensorboard").exists()
    assert json.loads((trained.out / "config.json").read_text())["family"] == "point-robot"


@pytest.mark.parametrize(
    ("agent", "settings", "expected"),
    [
        ("maml-tpro", {}, "Did you mean 'maml-trpo'"),
        ("maml-trpo", {"iner_lr": 0.1}, "'iner_lr', which neither a run nor MamlTrpo has. Did you mean 'inner_lr'"),
        ("maml-trpo", {"inner_lr": -1.0}, "agent.inner_lr: got -1.0"),
        ("maml-trpo", {"tasks": 0}, "tasks: got 0"),
        ("maml-trpo", {"track": "tensorbord"}, "Did you mean 'tensorboard'"),
        ("maml-trpo", {"track": ["csv"]}, r"track: got \['csv'\], expected a text such as 'tensorboard,csv'"),
        (3, {}, "agent: got a int, expected a class"),
        (dict, {}, "agent: got a class without Config"),
        ("maml-trpo", {"preset": "published"}, "expected default"),
        ("maml-trpo", {"resume": True, "out": None}, "got no out"),
        ("maml-trpo", {"device": "cpu", "matmul": "tf32"}, "needs a GPU"),
    ],
)
def test_a_wrong_call_says_what_to_change_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, agent: str, settings: dict[str, Any], expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=expected):
        metarl.train(agent, "point-robot", **{"out": "run", **settings})
    assert not list(tmp_path.iterdir())


def test_a_family_is_a_name_or_a_family() -> None:
    expected = r"family: got 3, expected its name, a metarl\.Family or a metarl\.FewShotFamily"
    with pytest.raises(ValueError, match=expected):
        metarl.train("reptile", 3, track="none", **SMALL)  # type: ignore[arg-type]


def test_a_run_that_is_not_there_to_resume_is_a_warning(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="no checkpoint in .*: starting from scratch"):
        metarl.train("reptile", "point-robot", out=tmp_path / "run", resume=True, track="none", **SMALL)


def test_an_agent_is_made_from_its_name_or_class_and_settings() -> None:
    spaces = metarl.make_family("point-robot").spaces()
    one, two = (metarl.make_agent(which, spaces, seed=3, hidden=(8,), outer_lr=0.5) for which in ("reptile", Reptile))
    assert one.config == ReptileConfig(hidden=(8,), outer_lr=0.5)
    assert torch.equal(one.tensors()["parameters"], two.tensors()["parameters"])
    other = metarl.make_agent("reptile", spaces, seed=4, hidden=(8,), outer_lr=0.5)
    assert not torch.equal(one.tensors()["parameters"], other.tensors()["parameters"])
    with pytest.raises(ValueError, match=r"'outer_rl', which reptile does not have\. Did you mean 'outer_lr'"):
        metarl.make_agent("reptile", spaces, outer_rl=0.1)
    with pytest.raises(ValueError, match="got the setting 'inner_rate', which reptile does not have"):
        metarl.make_agent("reptile", spaces, inner_rate=0.1)
    with pytest.raises(ValueError, match=r"agent.outer_lr: got 0.0, expected a finite number > 0"):
        metarl.make_agent("reptile", spaces, outer_lr=0.0)
    with pytest.raises(ValueError, match="device: got 'gpu'"):
        metarl.make_agent("reptile", spaces, device="gpu")


def test_a_slow_part_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metarl.memory.SLOW_SECONDS", 0.0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        metarl.train("reptile", "point-robot", out=tmp_path / "run", **SMALL | {"iterations": 1})
    assert any("linear baseline" in str(one.message) and one.filename == __file__ for one in caught)
