"""The reference `multitask`: one policy without memory for all tasks, told nothing of the task.

What it earns is what can be had without adapting. It is trained by the same PPO as RL2 (Schulman et al. 2017,
arXiv:1707.06347). The page `docs/references.md` has the details.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from metarl.learning.feed_forward import FeedForwardPpo, FeedForwardSettings
from metarl.types import Action, MetaBatch, Spaces, Step, Task, Trajectories


@dataclass(frozen=True, kw_only=True)
class MultitaskConfig(FeedForwardSettings):
    """Settings of the reference without adaptation."""


@dataclass(frozen=True)
class Nothing:
    """The state of an agent that keeps none."""


class Multitask:
    """A policy for all tasks as a `metarl.agent.MetaAgent`; its state is `Nothing`.

    Args:
        config: The settings.
        spaces: Sizes and action bounds of the environments.
        device: Where the policy and its training run.
        rng: Source of the initial parameters and of the minibatches.
    """

    Config: ClassVar[type] = MultitaskConfig
    summary: ClassVar[str] = "reference: one policy for all tasks, without adaptation (PPO)"

    def __init__(
        self, config: MultitaskConfig, spaces: Spaces, *, device: torch.device, rng: np.random.Generator
    ) -> None:
        self.config, self.spaces = config, spaces
        self._ppo = FeedForwardPpo("multitask", config, spaces.observation_size, spaces, device=device, rng=rng)

    @property
    def adaptation_steps(self) -> int:
        """None."""
        return 0

    def episodes_per_adaptation(self, episodes: int) -> int:
        """Every environment counts its own episodes."""
        return 1

    def begin(self, tasks: Sequence[Task], episodes: int) -> Nothing:
        """Nothing: the tasks are not looked at."""
        return Nothing()

    def act(self, state: Nothing, step: Step, rng: np.random.Generator) -> tuple[Action, Nothing]:
        """Samples from the one policy."""
        return self._ppo.act(step.observation, rng), state

    def adapt(self, state: Nothing, trajectories: Trajectories) -> Nothing:
        """Changes nothing."""
        return state

    def meta_update(self, batch: MetaBatch) -> dict[str, float]:
        """PPO on all episodes of all tasks."""
        episodes = Trajectories.join_episodes(batch.trajectories)
        return self._ppo.update(episodes.observations, episodes.all_observations[:, :, -1], episodes)

    def tensors(self) -> dict[str, Tensor]:
        """Parameters, Adam's state and running statistics."""
        return self._ppo.tensors()

    def counters(self) -> dict[str, Any]:
        """The generator of the minibatches."""
        return self._ppo.counters()

    def restore(self, tensors: Mapping[str, Tensor], counters: Mapping[str, Any]) -> None:
        """Takes back what `tensors` and `counters` gave.

        Raises:
            ValueError: Names or shapes do not fit this agent.
        """
        self._ppo.restore(tensors, counters)

    def save_policy(self, state: Nothing, path: str | Path, task: int = 0) -> None:
        """Writes the policy, the same for every task."""
        self._ppo.save(path, "observation", {})
