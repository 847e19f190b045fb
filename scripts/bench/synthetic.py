"""Synthetic experience of any shape, from environments with random observations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from metarl.agent import MetaAgent
from metarl.sampling import LocalSampler, collects
from metarl.seeding import Streams
from metarl.tasks import Family
from metarl.types import Bools, Floats, MetaBatch, Spaces, Task, TaskParameter
from metarl.vector import TaskVecEnv


class SyntheticEnvs(TaskVecEnv):
    """Environments with standard normal observations; the reward is minus the squared distance to the task's action.

    Args:
        like: Environments with the same spaces.
        num_tasks: `M`.
        episodes: `E`.
        horizon: `T`.
    """

    def __init__(self, like: TaskVecEnv, num_tasks: int, episodes: int, horizon: int) -> None:
        super().__init__(num_tasks, episodes, horizon, like.single_observation_space, like.single_action_space)
        self._wanted = np.zeros((self.num_envs, like.spaces.action_size))
        self._seen = np.zeros((self.num_envs, like.spaces.observation_size))

    def _apply_tasks(self, tasks: Sequence[Task]) -> None:
        self._wanted = self.task_values(tasks, "action")

    def _reset_rows(self, rows: np.ndarray, rng: np.random.Generator) -> None:
        self._seen[rows] = rng.standard_normal((len(rows), self._seen.shape[1]))

    def _step_rows(self, rows: np.ndarray, actions: Floats) -> tuple[Floats, Bools, Bools, dict[str, np.ndarray]]:
        self._reset_rows(rows, self.np_random)
        reward = -np.square(actions.reshape(len(rows), -1) - self._wanted[rows]).sum(axis=1)
        never = np.zeros(len(rows), dtype=np.bool_)
        return reward, never, never, {}

    def _observe(self, rows: np.ndarray) -> Floats:
        return self._seen[rows]


def synthetic_spaces(family: Family, horizon: int) -> Spaces:
    """The spaces of a family, with the hidden parameter of `SyntheticEnvs`."""
    spaces = family.spaces(horizon)
    return replace(spaces, task_parameters=(TaskParameter("action", spaces.action_size),))


def synthetic_tasks(count: int, action_size: int, rng: np.random.Generator) -> list[Task]:
    """Tasks of `SyntheticEnvs`: random target actions in [-1, 1]."""
    return [Task.of("synthetic", action=tuple(rng.uniform(-1.0, 1.0, action_size).tolist())) for _ in range(count)]


def synthetic_batch(
    agent: MetaAgent[Any], family: Family, num_tasks: int, episodes: int, horizon: int, seed: int
) -> tuple[MetaBatch[Any], Any]:
    """The experience of one iteration, and the agent's state before adaptation.

    Args:
        agent: Agent that acts and adapts; its parameters do not change.
        family: Source of the spaces.
        num_tasks: `M`.
        episodes: `E`.
        horizon: `T`.
        seed: Seed of tasks, observations and actions.
    """
    like = family.make_envs(1, 1, horizon)
    envs, streams = SyntheticEnvs(like, num_tasks, episodes, horizon), Streams(seed)
    like.close()
    tasks = synthetic_tasks(num_tasks, envs.spaces.action_size, streams.tasks)
    envs.set_tasks(tasks)
    state = agent.begin_training(tasks, episodes)
    trajectories = [collected for collected, _ in collects(LocalSampler(envs), agent, state, streams)]
    return MetaBatch(tuple(tasks), tuple(trajectories)), state
