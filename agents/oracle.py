"""The reference `oracle`: a policy without memory whose input includes the hidden parameters of the task.

Its return is that of an agent that knows the task from the first step. It is trained by the same PPO as RL2 (Schulman
et al. 2017, arXiv:1707.06347). The page `docs/references.md` has the details.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from metarl.learning.experience.checks import check_episodes, check_step, check_task
from metarl.learning.experience.told import check_told, told_inputs, told_tasks
from metarl.learning.networks.exported.step import PolicyStep
from metarl.learning.ppo.feed_forward import FeedForwardAgent, FeedForwardSettings
from metarl.types import Action, Floats, MetaBatch, Spaces, Step, Task, Trajectories


@dataclass(frozen=True, kw_only=True)
class OracleConfig(FeedForwardSettings):
    """Settings of the reference that observes the task parameters."""


@dataclass(frozen=True)
class ToldTasks:
    """The state of the agent.

    Args:
        parameters: Inputs about the task of each row, `[M, E, Z]` float32.
    """

    parameters: Floats

    def tasks(self, part: slice) -> ToldTasks:
        """The state of some of the tasks, in order."""
        return ToldTasks(self.parameters[part])

    @classmethod
    def join(cls, parts: Sequence[ToldTasks]) -> ToldTasks:
        """The state of all tasks of the parts, in order."""
        return cls(np.concatenate([part.parameters for part in parts]))


class Oracle(FeedForwardAgent[ToldTasks]):
    """A policy of observation and task as a `metarl.agent.MetaAgent`; its state is `ToldTasks`.

    The inputs about the task are those that `spaces.task_parameters` declares: numbers first, then one-hot codes.

    Args:
        config: The settings.
        spaces: Sizes and action bounds of the environments, and the declared task parameters.
        device: Device of the policy and its training.
        rng: Source of the initial parameters and of the minibatches.

    Raises:
        ValueError: The spaces declare no task parameters.
    """

    Config: ClassVar[type] = OracleConfig
    summary: ClassVar[str] = "reference: a policy that observes the task's hidden parameters (PPO)"

    def __init__(self, config: OracleConfig, spaces: Spaces, *, device: torch.device, rng: np.random.Generator) -> None:
        check_told("oracle", spaces.task_parameters)
        told = told_inputs(spaces.task_parameters)
        super().__init__("oracle", config, spaces, numbers=told.units, codes=told.codes, device=device, rng=rng)
        self.recorded = {**self.recorded, "task_parameters": (told.size,)}

    def begin(self, tasks: Sequence[Task], episodes: int) -> ToldTasks:
        """Reads the declared parameters of each task.

        Raises:
            ValueError: A task lacks a declared parameter, or the parameter has another size.
        """
        told = told_tasks("oracle", tasks, self.spaces.task_parameters)
        return ToldTasks(np.repeat(told[:, None], episodes, axis=1))

    def act(
        self, state: ToldTasks, step: Step, rng: np.random.Generator, mode: bool = False
    ) -> tuple[Action, ToldTasks]:
        """Samples from the policy, given observation and task parameters."""
        check_step(step, self.spaces, *state.parameters.shape[:2])
        action = self._sample(np.concatenate([step.observation, state.parameters], axis=-1), rng, mode)
        return Action(action.environment, {**action.extras, "task_parameters": state.parameters}), state

    def adapt(self, state: ToldTasks, trajectories: Trajectories) -> ToldTasks:
        """Changes nothing: the task is known."""
        check_episodes(trajectories, self.spaces, len(state.parameters))
        return state

    def meta_update(self, batch: MetaBatch[Trajectories]) -> dict[str, float]:
        """PPO on all episodes of all tasks."""
        episodes = Trajectories.join_episodes(batch.collects)
        told = episodes.extras["task_parameters"]  # [M, E, T, Z], zero on padding
        inputs = np.concatenate([episodes.observations, told], axis=-1)
        final = np.concatenate([episodes.all_observations[:, :, -1], told[:, :, 0]], axis=-1)
        return self._learn(inputs, final, episodes, batch.progress)

    def policy_step(self, state: ToldTasks, task: int = 0, *, sampled: bool = False) -> PolicyStep:
        """One step of the policy with the parameters of one task; see `metarl.agent.MetaAgent`."""
        check_task(task, len(state.parameters))
        return self._policy_step(torch.tensor(state.parameters[task, 0]), sampled)

    def save_policy(self, state: ToldTasks, path: str | Path, task: int = 0) -> None:
        """Writes the policy, and the inputs about one task, `task_parameters` `[Z]`."""
        check_task(task, len(state.parameters))
        told = torch.tensor(state.parameters[task, 0])
        self._export(path, "observation, task parameters", {"task_parameters": told, "given": told.clone()})
