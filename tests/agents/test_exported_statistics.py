"""Exported policies normalise observations as their agent does, for every agent that normalises."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from metarl.learning.gradient.agent import GradientAgent
from metarl.registry import AGENTS, agent_class, names
from metarl.storage import read_tensors
from metarl.types import Spaces, Step, Task, TaskParameter

NORMALISING = [
    name
    for name in names(AGENTS)
    if "normalise_observations" in {field.name for field in dataclasses.fields(agent_class(name).Config)}
]
KIND = TaskParameter("kind", 1, categories=((1.0,), (2.0,)))
SPACES = Spaces(
    3,
    (-1.0,),
    (1.0,),
    horizon=5,
    observation_units=("m", "m", "rad"),
    task_parameters=(KIND, TaskParameter("number", 1)),
)
MEAN, VARIANCE = [1.0, 2.0, 3.0], [4.0, 1e-10, 0.01]
OBSERVATION = np.array([[[5.0, 2.0 + 1e-5, 3.2], [0.0, 2.0 - 1e-5, 9.0]]], dtype=np.float32)  # [M, E, O]
STEP = Step(
    OBSERVATION, np.zeros((1, 2, 1), np.float32), np.zeros((1, 2), np.float32), np.ones((1, 2), np.bool_),
    np.ones((1, 2), np.bool_),
)  # fmt: skip


def build(name: str) -> Any:
    """An agent whose statistics come from a checkpoint of before deviations had a floor."""
    kind: Any = agent_class(name)
    config = dataclasses.replace(kind.Config(), normalise_observations=True)
    agent = kind(config, SPACES, device=torch.device("cpu"), rng=np.random.default_rng(0))
    tensors = agent.tensors()
    prefix = "input_moments" if "input_moments.mean" in tensors else "observation_moments"
    told = len(tensors[f"{prefix}.mean"]) - 3
    seen = {
        f"{prefix}.count": torch.tensor([9.0], dtype=torch.float64),
        f"{prefix}.mean": torch.tensor(MEAN + [0.0] * told, dtype=torch.float64),
        f"{prefix}.variance": torch.tensor(VARIANCE + [1.0] * told, dtype=torch.float64),
    }
    agent.restore(tensors | seen, agent.counters())
    return agent


def shown(agent: Any, state: Any, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """The observations that reach the policy's network when the agent acts, `[E, O]`."""
    inputs: list[np.ndarray] = []
    if isinstance(agent, GradientAgent):
        sample = agent._sample
        monkeypatch.setattr(agent, "_sample", lambda state, x, *rest: (inputs.append(x), sample(state, x, *rest))[1])
    else:
        step = agent.network.step
        monkeypatch.setattr(
            agent.network, "step", lambda x, *rest: (inputs.append(np.asarray(x).copy()), step(x, *rest))[1]
        )
    agent.act(state, STEP, np.random.default_rng(0))
    return inputs[0].reshape(2, -1)[:, :3]


@pytest.mark.parametrize("name", NORMALISING)
def test_a_reader_of_the_file_sees_what_the_agent_sees(name: str, tmp_path: Path, monkeypatch) -> None:
    agent = build(name)
    state = agent.begin([Task.of("noise", number=1.0, kind=2.0)], 2)
    agent.save_policy(state, tmp_path / "policy.safetensors")
    tensors, description = read_tensors(tmp_path / "policy.safetensors")
    prefix = "input" if "input.mean" in tensors else "observation"
    mean, deviation = (tensors[f"{prefix}.{which}"].numpy()[:3] for which in ("mean", "deviation"))
    assert deviation == pytest.approx([2.0, 0.02, 0.1])
    read = eval(description["normalisation"], {"clip": np.clip, "x": OBSERVATION, "mean": mean, "deviation": deviation})
    assert read[0] == pytest.approx(np.array([[2.0, 0.0005, 2.0], [-0.5, -0.0005, 10.0]]), abs=2e-5)
    assert shown(agent, state, monkeypatch) == pytest.approx(read[0], abs=1e-6)


def test_every_policy_but_pearls_normalises() -> None:
    planning = {name for name in names(AGENTS) if getattr(agent_class(name), "needs_reward", False)}
    assert set(names(AGENTS)) - set(NORMALISING) == {"pearl"} | planning, "their models always do"
