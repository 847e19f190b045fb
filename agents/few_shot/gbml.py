"""GBML for few-shot learning: learns initial parameters and the direction of the update.

The step is `theta' = theta - beta phi(D, theta)`; phi is a small network over gradients and data, learned through the
loss of the queries. The page `docs/gbml.md` has the equations and every detail that changes a result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from metarl.config import NonNegative, Units
from metarl.few_shot.shots import ShotSpaces
from metarl.learning.few_shot.base import Examples
from metarl.learning.few_shot.gradient import GradientConfig, GradientLearner
from metarl.learning.rules.base import RuleSize
from metarl.learning.rules.gbml import LearnedDirection

MOMENTS = 2
"""Statistics of each component of inputs and outputs: mean and standard deviation."""


@dataclass(frozen=True, kw_only=True)
class GbmlConfig(GradientConfig):
    """Settings of GBML."""

    inner_lr: NonNegative = 0.01
    """Step size (beta): at the start of the training the step is a gradient step of this size."""
    rule_units: Units = 20
    """Hidden units of the network that gives the direction of the update."""
    statistics: bool = False
    """Let that network read mean and deviation of every component of the support (channels of images)."""
    first_order: bool = False
    """Treat losses and gradients of the inner loop as constants in the meta-gradient."""


def shot_statistics(support: Examples) -> Tensor:
    """Mean and standard deviation over each task's support, `[M, 2 (C + O)]`.

    Args:
        support: The support; C is the number of components of an input, or of channels of an image.
    """
    values = (support.x.transpose(1, 2), support.y.transpose(1, 2))  # [M, C, B, ...], [M, O, B]
    moments = [torch.var_mean(v.flatten(2), dim=2, correction=0) for v in values]
    return torch.cat([part for variance, mean in moments for part in (mean, variance.sqrt())], dim=1)


class Gbml(GradientLearner[GbmlConfig]):
    """GBML as a `metarl.few_shot.learner.FewShotLearner`; its state is an `AdaptedNetwork`."""

    Config: ClassVar[type] = GbmlConfig
    summary: ClassVar[str] = "adapts along a learned function of gradient, parameters and data"

    @property
    def first_order(self) -> bool:
        """See `GradientLearner.first_order`."""
        return self.config.first_order

    @classmethod
    def rule_size(cls, config: GbmlConfig, spaces: ShotSpaces) -> RuleSize:
        """Sizes of the rule of these settings."""
        return rule_of(config, spaces).size

    def _make_rule(self) -> LearnedDirection:
        return rule_of(self.config, self.spaces)

    def _statistics(self, support: Examples) -> Tensor | None:
        return shot_statistics(support) if self.config.statistics else None


def rule_of(config: GbmlConfig, spaces: ShotSpaces) -> LearnedDirection:
    """The update rule of these settings."""
    components = spaces.x_shape[0] + spaces.y_size
    return LearnedDirection(config.inner_lr, MOMENTS * components if config.statistics else 0, config.rule_units)
