"""The reference `multitask`: one policy for all tasks, without memory and without any input about the task.

Its return is the return without adaptation. It is trained by the same PPO as RL2 (Schulman et al. 2017,
arXiv:1707.06347). The page `docs/references.md` has the details.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from metarl.learning.experience.checks import check_episodes, check_step
from metarl.learning.networks.exported.step import PolicyStep
from metarl.learning.ppo.feed_forward import FeedForwardAgent, FeedForwardSettings
from metarl.types import Action, MetaBatch, Spaces, Step, Task, Trajectories


@dataclass(frozen=True, kw_only=True)
class MultitaskConfig(FeedForwardSettings):
    """Settings of the reference without adaptation."""


@dataclass(frozen=True)
class Nothing:
    """An empty state."""

    def tasks(self, part: slice) -> Nothing:
        """The state of some of the tasks, in order."""
        return self

    @classmethod
    def join(cls, parts: Sequence[Nothing]) -> Nothing:
        """The state of all tasks of the parts, in order."""
        return cls()


class Multitask(FeedForwardAgent[Nothing]):
    """A policy for all tasks as a `metarl.agent.MetaAgent`; its state is `Nothing`.

    Args:
        config: The settings.
        spaces: Sizes and action bounds of the environments.
        device: Device of the policy and its training.
        rng: Source of the initial parameters and of the minibatches.
    """

    Config: ClassVar[type] = MultitaskConfig
    summary: ClassVar[str] = "reference: one policy for all tasks, without adaptation (PPO)"

    def __init__(
        self, config: MultitaskConfig, spaces: Spaces, *, device: torch.device, rng: np.random.Generator
    ) -> None:
        super().__init__("multitask", config, spaces, device=device, rng=rng)

    def begin(self, tasks: Sequence[Task], episodes: int) -> Nothing:
        """An empty state; the tasks are not read."""
        return Nothing()

    def act(self, state: Nothing, step: Step, rng: np.random.Generator, mode: bool = False) -> tuple[Action, Nothing]:
        """Samples from the policy."""
        check_step(step, self.spaces)
        return self._sample(step.observation, rng, mode), state

    def adapt(self, state: Nothing, trajectories: Trajectories) -> Nothing:
        """Changes nothing."""
        check_episodes(trajectories, self.spaces)
        return state

    def meta_update(self, batch: MetaBatch[Trajectories]) -> dict[str, float]:
        """PPO on all episodes of all tasks."""
        episodes = Trajectories.join_episodes(batch.collects)
        return self._learn(episodes.observations, episodes.all_observations[:, :, -1], episodes, batch.progress)

    def policy_step(self, state: Nothing, task: int = 0, *, sampled: bool = False) -> PolicyStep:
        """One step of the policy, the same for every task; see `metarl.agent.MetaAgent`."""
        return self._policy_step(None, sampled)

    def save_policy(self, state: Nothing, path: str | Path, task: int = 0) -> None:
        """Writes the policy, the same for every task."""
        self._export(path, "observation", {})
