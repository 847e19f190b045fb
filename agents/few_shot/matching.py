"""Matching networks: classes by attention over the support, with the cosine between embeddings.

Vinyals et al. 2016, "Matching Networks for One Shot Learning" (arXiv:1606.04080), equation 1 and section 2.1.1. The
page `docs/matching.md` has the equations, the deviations, and every detail that changes a result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from metarl.config import Positive
from metarl.learning.few_shot.base import Examples
from metarl.learning.few_shot.metric import MetricConfig, MetricLearner
from metarl.learning.few_shot.supports import NEVER


@dataclass(frozen=True, kw_only=True)
class MatchingConfig(MetricConfig):
    """Settings of matching networks."""

    temperature: Positive = 0.1
    """Number that divides the cosines in the attention; 1 in the paper, usually 0.05 to 1."""


@dataclass(frozen=True)
class Remembered:
    """The embedded support.

    Args:
        embeddings: Embeddings of length 1, `[M, S, Z]`.
        labels: One-hot classes, `[M, S, O]`.
    """

    embeddings: Tensor
    labels: Tensor

    def tasks(self, part: slice) -> Remembered:
        """The state of some of the tasks."""
        return Remembered(self.embeddings[part].clone(), self.labels[part].clone())

    @classmethod
    def join(cls, parts: Sequence[Remembered]) -> Remembered:
        """The state of all tasks of the parts, in order; they have as many examples each."""
        return cls(torch.cat([part.embeddings for part in parts]), torch.cat([part.labels for part in parts]))


def log_probabilities(cosines: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Logarithms of `p(k|x) = sum of a(x, x_i) over the x_i of class k`, up to a constant (Vinyals et al., equation 1).

    The attention is `a(x, x_i) = softmax_i(cosine / temperature)` (section 2.1.1); without a support all are 0.

    Args:
        cosines: `[M, B, S]`.
        labels: One-hot classes of the support, `[M, S, O]`.
        temperature: Number that divides the cosines.

    Returns:
        `[M, B, O]`; `NEVER` or less for a class without examples.
    """
    if not cosines.shape[-1]:
        return cosines.new_zeros(*cosines.shape[:2], labels.shape[-1])
    scores = (cosines / temperature).unsqueeze(-1) + (1 - labels).unsqueeze(1) * NEVER  # [M, B, S, O]
    return torch.logsumexp(scores, dim=2)


class Matching(MetricLearner[MatchingConfig, Remembered]):
    """Matching networks as a `metarl.few_shot.learner.FewShotLearner`; the state is the embedded support."""

    name = "matching"
    Config: ClassVar[type] = MatchingConfig
    summary: ClassVar[str] = "classes by attention over the support, by cosine (Vinyals et al. 2016)"

    def _embedded(self, parameters: Tensor, x: Tensor) -> Tensor:
        """Embeddings of length 1, `[M, B, Z]`."""
        return functional.normalize(self.network.shared(parameters, x), dim=-1)

    def _fresh(self, parameters: Tensor, tasks: int) -> Remembered:
        empty = (parameters.new_zeros(tasks, 0, size) for size in (self.config.embedding, self.spaces.y_size))
        return Remembered(*empty)

    def _adapted(self, parameters: Tensor, state: Remembered, support: Examples, *, exact: bool) -> Remembered:
        embeddings = self._embedded(parameters, support.x)
        return Remembered(torch.cat([state.embeddings, embeddings], 1), torch.cat([state.labels, support.y], 1))

    def _outputs(self, parameters: Tensor, state: Remembered, x: Tensor) -> Tensor:
        cosines = self._embedded(parameters, x) @ state.embeddings.mT
        return log_probabilities(cosines, state.labels, self.config.temperature)
