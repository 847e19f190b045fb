"""One network for all tasks, trained without adaptation: the reference that adaptation has to beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from metarl.config import NonNegative
from metarl.learning.few_shot.base import Examples
from metarl.learning.few_shot.gradient import GradientConfig, GradientLearner
from metarl.learning.rules.base import GradientStep


@dataclass(frozen=True, kw_only=True)
class PooledConfig(GradientConfig):
    """Settings of the pooled network."""

    inner_lr: NonNegative = 0.01
    """Step size of the gradient steps by which an evaluation adapts it; training makes none."""


class Pooled(GradientLearner[PooledConfig]):
    """The pooled network as a `metarl.few_shot.learner.FewShotLearner`.

    An evaluation with 0 shots shows it as it was trained; with more, after gradient steps on the support.
    """

    Config: ClassVar[type] = PooledConfig
    summary: ClassVar[str] = "reference: one network for all tasks, trained without adaptation"

    def _make_rule(self) -> GradientStep:
        return GradientStep(self.config.inner_lr)

    def _loss(self, parameters: Tensor, support: Examples, queries: Examples) -> Tensor:
        """Mean loss of all examples, before adaptation."""
        state = self._fresh(parameters, len(support.x))
        both = Examples(torch.cat([support.x, queries.x], dim=1), torch.cat([support.y, queries.y], dim=1))
        return self._losses(both, state.parameters).mean()
