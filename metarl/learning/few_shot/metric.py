"""The base class of learners that compare the embedding of a query with those of the support."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from metarl.config import Units
from metarl.few_shot.shots import ShotSpaces
from metarl.learning.few_shot.base import Examples, Learner, LearnerConfig
from metarl.learning.few_shot.losses import losses
from metarl.learning.few_shot.networks import Network
from metarl.learning.few_shot.supports import check_classification, networks_memory
from metarl.memory import Need, RunSize


@dataclass(frozen=True, kw_only=True)
class MetricConfig(LearnerConfig):
    """Settings of a learner of an embedding."""

    embedding: Units = 64
    """Size of an embedding."""


ConfigT = TypeVar("ConfigT", bound=MetricConfig)
StateT = TypeVar("StateT")


class MetricLearner(Learner[ConfigT, StateT], Generic[ConfigT, StateT]):
    """Learns an embedding by the cross-entropy of the queries. A subclass defines name, state and outputs.

    Attributes:
        network: The network of the embedding.
    """

    name: str
    """Name of the learner, for messages."""

    def __init__(self, config: ConfigT, spaces: ShotSpaces, *, device: torch.device, rng: np.random.Generator) -> None:
        check_classification(self.name, spaces)
        self.network = self._network_of(config, spaces)
        super().__init__(config, spaces, device=device, rng=rng)

    @staticmethod
    def _network_of(config: MetricConfig, spaces: ShotSpaces) -> Network:
        return Network(spaces.x_shape, tuple(config.hidden), config.embedding, config.channels)

    @classmethod
    def memory_needed(cls, config: Any, spaces: Any, size: RunSize) -> list[Need]:
        """Memory of the networks and of their outputs."""
        return networks_memory([cls._network_of(config, spaces)], spaces, size)

    def _initial(self, rng: np.random.Generator) -> Tensor:
        return self.network.initial(rng)

    def _loss(self, parameters: Tensor, support: Examples, queries: Examples) -> Tensor:
        state = self._adapted(parameters, self._fresh(parameters, len(support.x)), support, exact=True)
        return losses(self.spaces, self._outputs(parameters, state, queries.x), queries.y).mean()
