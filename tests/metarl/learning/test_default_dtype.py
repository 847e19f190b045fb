"""Agents compute in float32 whatever torch makes by default: a module of the user's may have set that."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from metarl.registry import AGENTS, agent_class, make_family, names
from metarl.sampling import LocalSampler
from metarl.seeding import Streams
from metarl.training import meta_train

SMALL: dict[str, dict[str, Any]] = {
    "pearl": {"gradient_steps": 2, "batch": 8, "warmup_iterations": 1},
    "recurrent-sac": {"units": 8, "hidden": (8,), "gradient_steps": 2, "warmup_iterations": 0},
    "rl2": {"units": 8, "epochs": 1},
    "rma": {"units": 8, "hidden": (8,), "epochs": 1},
    "varibad": {"units": 8, "hidden": (8,), "vae_updates": 1, "vae_trials": 2, "epochs": 1},
}
OTHERWISE: dict[str, dict[str, Any]] = {"rl2": {"cell": "lstm", "std": "state"}, "varibad": {"transition_weight": 1.0}}


def trained(name: str, family_name: str, settings: dict[str, Any], out: Path) -> tuple[dict[str, Any], bytes]:
    """All tensors of an agent after an iteration, and a policy saved from it."""
    family, streams = make_family(family_name), Streams(0)
    kind: Any = agent_class(name)
    config = kind.Config(**SMALL.get(name, {}) | settings)
    agent = kind(config, family.spaces(5), device=torch.device("cpu"), rng=streams.learner)
    envs = family.make_envs(2, 2, 5)
    list(meta_train(agent, LocalSampler(envs), family.distribution, streams, iterations=1))
    agent.save_policy(agent.begin(family.distribution.held_out(1), 2), out)
    return {key: tensor.numpy() for key, tensor in agent.tensors().items()}, out.read_bytes()


@pytest.mark.parametrize(
    ("name", "settings"), [*((name, {}) for name in names(AGENTS)), *((k, v) for k, v in OTHERWISE.items())]
)
def test_another_default_type_changes_no_bit(
    name: str, settings: dict[str, Any], tmp_path: Path, suited: Callable[[str], Any]
) -> None:
    fitting, more = suited(name)
    settings = {**more, **settings}
    choices = [] if more or name in ("pearl", "recurrent-sac") else ["bandit:arms=3,pulls=5"]
    for family in (fitting, *choices):
        tensors, policy = trained(name, family, settings, tmp_path / "policy")
        torch.set_default_dtype(torch.float64)
        try:
            others, other_policy = trained(name, family, settings, tmp_path / "policy")
        finally:
            torch.set_default_dtype(torch.float32)
        assert tensors.keys() == others.keys()
        for key, tensor in tensors.items():
            assert tensor.dtype == others[key].dtype
            assert np.array_equal(tensor, others[key])
        assert policy == other_policy


@pytest.mark.parametrize("name", ["maml-trpo", "rl2"])
def test_gradients_that_were_switched_off_are_on_again_for_learning(name: str, tmp_path: Path) -> None:
    torch.set_grad_enabled(False)
    try:
        tensors, _ = trained(name, "point-robot", {}, tmp_path / "policy")
    finally:
        torch.set_grad_enabled(True)
    assert all(np.isfinite(tensor).all() for tensor in tensors.values())
