"""The reference `oracle`: a policy without memory that is told the parameters of its task.

What it earns is what an agent could earn if it knew the task from the first step. It is trained by the same PPO
as RL2 (Schulman et al. 2017, arXiv:1707.06347). The page `docs/references.md` has the details.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from metarl.config import Count
from metarl.learning.feed_forward import FeedForwardAgent, FeedForwardSettings
from metarl.types import Action, Floats, MetaBatch, Spaces, Step, Task, Trajectories


@dataclass(frozen=True, kw_only=True)
class OracleConfig(FeedForwardSettings):
    """Settings of the reference that is told the task."""

    task_parameters: Count = 1
    """Numbers that tell a task of the family apart, all parameters together (2 for a goal in the plane)."""


@dataclass(frozen=True)
class ToldTasks:
    """The state of the agent: the parameters of each row's task, `[M, E, Z]` float32."""

    parameters: Floats


class Oracle(FeedForwardAgent):
    """A policy of observation and task as a `metarl.agent.MetaAgent`; its state is `ToldTasks`.

    Args:
        config: The settings.
        spaces: Sizes and action bounds of the environments.
        device: Where the policy and its training run.
        rng: Source of the initial parameters and of the minibatches.
    """

    Config: ClassVar[type] = OracleConfig
    summary: ClassVar[str] = "reference: a policy that is told the task's parameters (PPO)"

    def __init__(self, config: OracleConfig, spaces: Spaces, *, device: torch.device, rng: np.random.Generator) -> None:
        numbers = ("parameter",) * config.task_parameters
        super().__init__("oracle", config, spaces, numbers=numbers, device=device, rng=rng)
        self.config = config

    def begin(self, tasks: Sequence[Task], episodes: int) -> ToldTasks:
        """Reads the tasks' parameters, sorted by name.

        Raises:
            ValueError: A task has another number of them than the configuration says.
        """
        values = [[v for _, numbers in task.parameters for v in numbers] for task in tasks]
        for task, row in zip(tasks, values, strict=True):
            if len(row) != self.config.task_parameters:
                raise ValueError(
                    f"oracle: got a task of {task.family!r} with {len(row)} numbers, expected "
                    f"task_parameters = {self.config.task_parameters}; set it with --agent.task-parameters {len(row)}"
                )
        parameters = np.array(values, dtype=np.float32)[:, None]  # [M, 1, Z]
        return ToldTasks(np.repeat(parameters, episodes, axis=1))

    def act(self, state: ToldTasks, step: Step, rng: np.random.Generator) -> tuple[Action, ToldTasks]:
        """Samples from the policy, given observation and task."""
        action = self._sample(np.concatenate([step.observation, state.parameters], axis=-1), rng)
        return Action(action.environment, {**action.extras, "task_parameters": state.parameters}), state

    def adapt(self, state: ToldTasks, trajectories: Trajectories) -> ToldTasks:
        """Changes nothing: there is nothing left to find out."""
        return state

    def meta_update(self, batch: MetaBatch) -> dict[str, float]:
        """PPO on all episodes of all tasks."""
        episodes = Trajectories.join_episodes(batch.trajectories)
        told = episodes.extras["task_parameters"]  # [M, E, T, Z], zero on padding
        inputs = np.concatenate([episodes.observations, told], axis=-1)
        final = np.concatenate([episodes.all_observations[:, :, -1], told[:, :, 0]], axis=-1)
        return self._learn(inputs, final, episodes)

    def save_policy(self, state: ToldTasks, path: str | Path, task: int = 0) -> None:
        """Writes the policy and the parameters that it is told in one task."""
        self._export(path, "observation, task parameters", {"task_parameters": torch.tensor(state.parameters[task, 0])})
