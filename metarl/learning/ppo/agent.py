"""Shared parts of all agents trained by PPO: learner, running statistics, and their saving."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from metarl.agent import MetaAgent
from metarl.learning.experience.actions import ActionMap
from metarl.learning.experience.normalisation import ReturnScale, RunningMoments
from metarl.learning.ppo.learner import Forward, PpoLearner, PpoSettings
from metarl.learning.saving import check_tensors
from metarl.types import Spaces

StateT = TypeVar("StateT")


class PpoAgent(MetaAgent[StateT], Generic[StateT]):
    """Learner, action map and running statistics of an agent that is trained by PPO.

    Args:
        name: Name of the agent, for messages and exported files.
        config: The settings.
        spaces: Sizes and action bounds of the environments.
        learns: The module whose parameters PPO trains, on the device.
        forward: Passes the inputs of a minibatch through the network; `learns` itself by default.
        settings: Settings of the learner; the config by default.
        statistics: Running statistics by their names in the checkpoint; the statistics of the returns are added.
        device: Device of the networks and their training.
        rng: Source of the minibatches.
    """

    acts_with: ClassVar[tuple[str, ...]] = ("config", "spaces", "recorded", "_device", "_actions")
    config: PpoSettings

    def __init__(
        self,
        name: str,
        config: PpoSettings,
        spaces: Spaces,
        learns: nn.Module,
        statistics: Mapping[str, RunningMoments],
        *,
        device: torch.device,
        rng: np.random.Generator,
        forward: Forward | None = None,
        settings: PpoSettings | None = None,
    ) -> None:
        self.config, self.spaces, self._name, self._device = config, spaces, name, device
        self.recorded = {"policy_output": (spaces.action_size,), "log_prob": (), "value": ()}
        self._actions = ActionMap(spaces, config.action_scale)
        self._learner = PpoLearner(learns, settings or config, rng, forward)
        self._return_moments = ReturnScale(config.deviation_floor)
        self._statistics = {**statistics, "return_moments": self._return_moments}

    def episodes_per_adaptation(self, episodes: int) -> int:
        """1: the environments of a task are independent."""
        return 1

    def tensors(self) -> dict[str, Tensor]:
        """Parameters, Adam's state and running statistics."""
        tensors = self._learner.tensors()
        for name, moments in self._statistics.items():
            tensors |= moments.tensors(name)
        return tensors

    def counters(self) -> dict[str, Any]:
        """The generator of the minibatches."""
        return self._learner.counters()

    def restore(self, tensors: Mapping[str, Tensor], counters: Mapping[str, Any]) -> None:
        """Restores what `tensors` and `counters` returned.

        Raises:
            ValueError: Names, shapes or generators do not fit this agent.
        """
        check_tensors(self._name, tensors, self.tensors())
        self._restore(tensors, counters)

    def _restore(self, tensors: Mapping[str, Tensor], counters: Mapping[str, Any]) -> None:
        """Restores arrays whose names and shapes have been checked."""
        self._learner.restore(tensors, counters)
        for name, moments in self._statistics.items():
            moments.restore(name, tensors)
