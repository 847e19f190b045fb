"""docs/exported-policies.md names every array and key of an exported policy, and its readers compute what agents do."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open

import metarl
from metarl.registry import AGENTS, agent_class, names
from metarl.rewards import DeclaredReward
from metarl.types import Spaces, Task, TaskParameter

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "exported-policies.md").read_text(encoding="utf-8")
OPEN, _, RL2, MEMORIES, MODELS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
README_READER = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)[1]
SPACES = Spaces(3, (-1.0, -np.inf), (3.0, np.inf), 4, task_parameters=(TaskParameter("goal", 1),))
BOUNDED = dataclasses.replace(SPACES, action_low=(-1.0, 0.0), action_high=(3.0, 0.5))
PLANNING = tuple(name for name in names(AGENTS) if getattr(agent_class(name), "needs_reward", False))
SMALL = {"encoder": (6, 5), "encoder_hidden": (6,), "units": 7, "replay_size": 10, "buffer_trials": 4}
SMALL |= {"normalise_observations": True, "window": 3, "past": 2, "future": 1}
WITHOUT_MEMORY = [name for name in names(AGENTS) if name not in ("rl2", "varibad", "rma", "recurrent-sac", *PLANNING)]


def nothing(observations: Any, actions: Any, following: Any, task: Any) -> Any:
    """A reward for the agents that plan."""
    return 0.0 * following[..., 0]


def built(name: str, **settings: Any) -> Any:
    """An untrained agent with a small network that has normalised observations, if it can."""
    kind: Any = agent_class(name)
    known = {f.name for f in dataclasses.fields(kind.Config)}
    config = kind.Config(**{key: value for key, value in {**SMALL, **settings}.items() if key in known})
    spaces = BOUNDED if name in ("pearl", "recurrent-sac", *PLANNING) else SPACES
    spaces = dataclasses.replace(spaces, reward=DeclaredReward(nothing))
    agent = kind(config, spaces, device=torch.device("cpu"), rng=np.random.default_rng(1))
    tensors = agent.tensors()
    moments = {key: t for key, t in tensors.items() if key.endswith((".count", ".mean")) and "return" not in key}
    agent.restore({**tensors, **{key: t + 0.5 for key, t in moments.items()}}, agent.counters())
    return agent


def exported(name: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays and the description of an agent's file in the working folder, read as the page shows."""
    agent = built(name)
    agent.save_policy(agent.begin([Task.of("a task", goal=0.5)], 2), "adapted.safetensors")
    lines: dict[str, Any] = {}
    exec(OPEN, lines)
    return lines["arrays"], lines["description"]


def documented(heading: str, column: int) -> dict[str, set[str]]:
    """The names in a table of the page for each agent."""
    rows = [line.split("|") for line in PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0].splitlines()]
    found: dict[str, set[str]] = {name: set() for name in names(AGENTS) if name not in PLANNING}
    for row in (row for row in rows if len(row) > 3 and "`" in row[1]):
        named, who = re.findall(r"`([^`]+)`", row[1]), row[column].partition(", with")[0]
        listed = set(re.findall(r"`([^`]+)`", who)) & set(found)
        agents = listed
        if who.strip().startswith("all"):
            agents = (set(WITHOUT_MEMORY) if "memory" in who else set(found)) - listed
        assert agents, row
        for agent in agents:
            found[agent] |= set(named)
    return found


ARRAYS, KEYS = documented("Arrays", 3), documented("Description", 2)


@pytest.mark.parametrize("name", [name for name in names(AGENTS) if name not in PLANNING])
def test_a_file_holds_what_the_page_says(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    arrays, description = exported(name)
    patterns = {re.sub(r"^(network|encoder)\..*", r"\1.{name}", re.sub(r"_\d+$", "_{i}", array)) for array in arrays}
    assert patterns == ARRAYS[name]
    assert set(description) == KEYS[name]
    assert description["format"] == 1
    assert {array.dtype.kind for array in arrays.values()} == {"f"}


@pytest.mark.parametrize("name", WITHOUT_MEMORY)
def test_numpy_alone_reproduces_the_mode(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    agent = built(name)
    state = agent.begin([Task.of("a task", goal=0.5)], 1)
    if name == "pearl":
        agent.save_policy(state, "adapted.safetensors")
        with safe_open("adapted.safetensors", framework="pt") as file:
            state = dataclasses.replace(state, latent=file.get_tensor("latent")[None, None])
    agent.save_policy(state, "adapted.safetensors")
    lines: dict[str, Any] = {}
    exec(README_READER, lines)
    rng = np.random.default_rng(0)
    for _ in range(5):
        seen = rng.uniform(-3, 3, 3).astype(np.float32)
        step = metarl.TrajectoryBuilder(1, 1, agent.spaces, seen).step
        step = dataclasses.replace(step, first=~step.live)  # else pearl draws another latent
        asked = agent.act(state, step, rng, mode=True)[0].single()
        assert lines["policy"](seen) == pytest.approx(asked, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("settings", [{}, {"ensemble": 2, "probabilistic": True}])
@pytest.mark.parametrize("name", PLANNING)
def test_numpy_alone_predicts_as_the_models(
    name: str, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    agent = built(name, **settings)
    state = agent.begin([Task("a task"), Task("another")], 2)
    rng = np.random.default_rng(0)
    window = torch.tensor(rng.standard_normal(state.window.shape, dtype=np.float32))
    state = dataclasses.replace(state, window=window, count=torch.full_like(state.count, 2.0))
    agent.save_policy(state, "adapted.safetensors", task=1)
    lines: dict[str, Any] = {}
    exec(MODELS, lines)
    read = lines["Models"]("adapted.safetensors")
    section = PAGE.partition("## Models of agents that plan")[2].partition("\n## ")[0]
    said = {
        name for row in re.findall(r"^\| (`.*?) \|", section, re.MULTILINE) for name in re.findall(r"`([^`]+)`", row)
    }
    assert {re.sub(r"_\d+$", "_{i}", array) for array in read.w} | set(read.about) == said
    models = agent.models(state)
    models = models[2] if len(models) > 1 else models[0]
    seen, action = rng.standard_normal(3), np.array([0.5, 0.1])
    scaled = torch.tensor(agent.actions.to_features(action), dtype=torch.float32)
    found = agent.dynamics.predicted(
        models,
        torch.tensor(seen, dtype=torch.float32).expand(len(models), 1, -1),
        scaled.expand(len(models), 1, -1),
        agent.scales(),
    )
    assert read.predict(seen, action) == pytest.approx(found[:, 0].numpy(), rel=1e-6, abs=1e-5)


HYPERNETWORK: dict[str, Any] = {"head": "hypernetwork"}
READERS: list[tuple[str, dict[str, Any]]] = [
    ("Rl2Policy", {}),
    ("Rl2Policy", {"mean": "tanh", "action_scale": 2.0}),
    ("Rl2Policy", {"encoder": (), "activation": "relu"}),
    ("HypernetworkPolicy", HYPERNETWORK),
    ("HypernetworkPolicy", {**HYPERNETWORK, "hidden": (4, 3), "mean": "tanh", "std": "state", "max_std": 2.0}),
    ("HypernetworkPolicy", {**HYPERNETWORK, "encoder": (), "hidden": (4,), "activation": "relu"}),
    ("AggregatedPolicy", {"aggregate": "max", "units": 8}),
]


@pytest.mark.parametrize(("reader", "option"), READERS)
def test_numpy_alone_reproduces_a_trial_of_rl2(reader: str, option: dict[str, Any], read_within_a_trial: Any) -> None:
    agent, rng = built("rl2", **option), np.random.default_rng(0)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in agent.network.parameters():  # a hypernetwork generates nothing at the start
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    lines: dict[str, Any] = {}
    exec(RL2 + MEMORIES, lines)
    policy = read_within_a_trial(agent, lines[reader], rng)
    assert np.abs(policy.memory).max() > 0.01
