"""Prototypical networks: classes by the distance of an embedding to the mean embedding of each class.

Snell et al. 2017, "Prototypical Networks for Few-shot Learning" (arXiv:1703.05175), equations 1 and 2. The page
`docs/prototypical.md` has the equations and every detail that changes a result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from metarl.learning.few_shot.base import Examples
from metarl.learning.few_shot.metric import MetricConfig, MetricLearner
from metarl.learning.few_shot.supports import Summary


@dataclass(frozen=True, kw_only=True)
class PrototypicalConfig(MetricConfig):
    """Settings of prototypical networks."""


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


class Prototypical(MetricLearner[PrototypicalConfig, Summary]):
    """Prototypical networks as a `metarl.few_shot.learner.FewShotLearner`; the state has the sums of each class."""

    name = "prototypical"
    Config: ClassVar[type] = PrototypicalConfig
    summary: ClassVar[str] = "classes by the distance of an embedding to their means (Snell et al. 2017)"

    def _fresh(self, parameters: Tensor, tasks: int) -> Summary:
        return Summary.fresh(parameters, tasks, self.spaces.y_size, self.config.embedding)

    def _adapted(self, parameters: Tensor, state: Summary, support: Examples, *, exact: bool) -> Summary:
        return state.plus(self.network.shared(parameters, support.x), support.y)

    def _outputs(self, parameters: Tensor, state: Summary, x: Tensor) -> Tensor:
        return state.possible(negative_distances(self.network.shared(parameters, x), state.means))
