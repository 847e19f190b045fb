"""PEARL with small networks on point-robot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from metarl.agents.pearl import Pearl, PearlConfig
from metarl.registry import make_family
from metarl.sampling import LocalSampler, collects
from metarl.seeding import Streams
from metarl.types import MetaBatch, Spaces, Task, Trajectories

SMALL: dict[str, Any] = {
    "latent": 3,
    "encoder_hidden": (6, 5),
    "hidden": (7, 6),
    "gradient_steps": 3,
    "meta_batch": 3,
    "batch": 8,
    "context_batch": 6,
    "warmup_iterations": 0,
    "replay_size": 150,
    "replay_tasks": 8,
}


@pytest.fixture
def small_config() -> Callable[..., PearlConfig]:
    """Makes a configuration with small networks and batches."""
    return lambda **settings: PearlConfig(**{**SMALL, **settings})


@pytest.fixture
def make_pearl(small_config: Callable[..., PearlConfig]) -> Callable[..., Pearl]:
    """Makes a small agent."""

    def make(spaces: Spaces, seed: int = 0, **settings: Any) -> Pearl:
        config = small_config(**settings)
        return Pearl(config, spaces, device=torch.device("cpu"), rng=np.random.default_rng(seed))

    return make


class Point:
    """Point-robot with three environments per task and 20 steps; three of four goals are one step away.

    Args:
        make: Makes a small agent.
    """

    def __init__(self, make: Callable[..., Pearl]) -> None:
        self._make, self._family = make, make_family("point-robot")
        goals = ((0.05, 0.05), (-0.05, 0.05), (0.05, -0.05), (0.3, 0.2))
        self.tasks = [Task.of("point-robot", goal=goal) for goal in goals]

    def agent(self, seed: int = 0, **settings: Any) -> Pearl:
        """A small agent for these environments."""
        return self._make(self._family.spaces(20), seed, **settings)

    def iteration(self, agent: Pearl, tasks: list[Task], streams: Streams) -> MetaBatch[Trajectories]:
        """The episodes of one iteration."""
        sampler = LocalSampler(self._family.make_envs(len(tasks), 3, 20))
        sampler.set_tasks(tasks)
        every = collects(sampler, agent, agent.begin(tasks, 3), streams)
        return MetaBatch(tuple(tasks), tuple(experience for experience, _ in every))


@pytest.fixture
def point(make_pearl: Callable[..., Pearl]) -> Point:
    """Small agents and their episodes on point-robot."""
    return Point(make_pearl)
