"""Prototypical networks: classes by the distance of an embedding to the mean embedding of each class.

Snell et al. 2017, "Prototypical Networks for Few-shot Learning" (arXiv:1703.05175), equations 1 and 2. The page
`docs/prototypical.md` has the equations and every detail that changes a result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from metarl.config import Units
from metarl.few_shot.shots import ShotSpaces
from metarl.learning.few_shot.base import Examples, Learner, LearnerConfig
from metarl.learning.few_shot.losses import losses
from metarl.learning.few_shot.networks import Network
from metarl.learning.few_shot.supports import Summary, check_classification, networks_memory
from metarl.memory import Need, RunSize


@dataclass(frozen=True, kw_only=True)
class PrototypicalConfig(LearnerConfig):
    """Settings of prototypical networks."""

    embedding: Units = 64
    """Size of an embedding."""


def negative_distances(embeddings: Tensor, prototypes: Tensor) -> Tensor:
    """Negative squared Euclidean distances, `-|f - c|^2`: the logits of Snell et al., equation 2.

    Args:
        embeddings: `f`, `[M, B, Z]`.
        prototypes: `c`, `[M, O, Z]`.

    Returns:
        `[M, B, O]`.
    """
    products = torch.baddbmm(-prototypes.square().sum(dim=-1).unsqueeze(1), embeddings, prototypes.mT, alpha=2)
    return products - embeddings.square().sum(dim=-1, keepdim=True)


def network_of(config: PrototypicalConfig, spaces: ShotSpaces) -> Network:
    """The network of the embedding."""
    return Network(spaces.x_shape, tuple(config.hidden), config.embedding, config.channels)


class Prototypical(Learner[PrototypicalConfig, Summary]):
    """Prototypical networks as a `metarl.few_shot.learner.FewShotLearner`; the state has the sums of each class."""

    Config: ClassVar[type] = PrototypicalConfig
    summary: ClassVar[str] = "classes by the distance of an embedding to their means (Snell et al. 2017)"

    def __init__(
        self, config: PrototypicalConfig, spaces: ShotSpaces, *, device: torch.device, rng: np.random.Generator
    ) -> None:
        check_classification("prototypical", spaces)
        self.network = network_of(config, spaces)
        super().__init__(config, spaces, device=device, rng=rng)

    @classmethod
    def memory_needed(cls, config: Any, spaces: Any, size: RunSize) -> list[Need]:
        """Memory of the networks and of their outputs."""
        return networks_memory([network_of(config, spaces)], spaces, size)

    def _initial(self, rng: np.random.Generator) -> Tensor:
        return self.network.initial(rng)

    def _fresh(self, parameters: Tensor, tasks: int) -> Summary:
        return Summary.fresh(parameters, tasks, self.spaces.y_size, self.config.embedding)

    def _adapted(self, parameters: Tensor, state: Summary, support: Examples, *, exact: bool) -> Summary:
        return state.plus(self.network.shared(parameters, support.x), support.y)

    def _outputs(self, parameters: Tensor, state: Summary, x: Tensor) -> Tensor:
        return state.possible(negative_distances(self.network.shared(parameters, x), state.means))

    def _loss(self, parameters: Tensor, support: Examples, queries: Examples) -> Tensor:
        state = self._adapted(parameters, self._fresh(parameters, len(support.x)), support, exact=True)
        return losses(self.spaces, self._outputs(parameters, state, queries.x), queries.y).mean()
