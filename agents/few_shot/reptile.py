"""Reptile for few-shot learning: moves the initial parameters toward the mean of the adapted parameters.

Nichol, Achiam and Schulman 2018, "On First-Order Meta-Learning Algorithms" (arXiv:1803.02999), the batched version. The
page `docs/reptile.md` has the equations and every detail that changes a result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from metarl.config import NonNegative, Positive, Rounds
from metarl.learning.few_shot.base import Examples
from metarl.learning.few_shot.gradient import GradientConfig, GradientLearner
from metarl.learning.rules.base import GradientStep


@dataclass(frozen=True, kw_only=True)
class ReptileConfig(GradientConfig):
    """Settings of Reptile."""

    inner_lr: NonNegative = 0.01
    """Step size of the inner loop (alpha); usually 0.01 to 0.1."""
    inner_steps: Rounds = 10
    """Steps of adaptation; in training they alternate between support and queries. More than 1."""
    learning_rate: Positive = 1.0
    """Step size of the outer loop (epsilon); 1 moves to the mean of the adapted parameters."""


class Reptile(GradientLearner[ReptileConfig]):
    """Reptile as a `metarl.few_shot.learner.FewShotLearner`; its state is an `AdaptedNetwork`.

    The outer step is `theta - epsilon * mean over tasks of (theta - theta_i)`, without Adam.
    """

    Config: ClassVar[type] = ReptileConfig
    summary: ClassVar[str] = "moves toward the mean of the adapted parameters (Nichol et al. 2018)"

    def _make_rule(self) -> GradientStep:
        return GradientStep(self.config.inner_lr)

    @torch.no_grad()
    def _outer_gradient(self, support: Examples, queries: Examples) -> tuple[Tensor, Tensor]:
        """Loss of the queries after the steps, and `mean over tasks of (theta - theta_i)`, `[P]`."""
        start, state = self.parameters.detach(), self._fresh(self.parameters.detach(), len(support.x))
        for step in range(self.config.inner_steps):
            state = self._adapted(start, state, (support, queries)[step % 2], exact=False, steps=1)
        return self._losses(queries, state.parameters).mean(), start - state.parameters.mean(dim=0)

    @torch.no_grad()
    def _descend(self, gradient: Tensor, size: float) -> None:
        self.parameters -= size * gradient
