"""Meta-SGD for few-shot learning: learns initial parameters and one step size for each of them.

Li, Zhou, Chen and Li 2017, "Meta-SGD: Learning to Learn Quickly for Few-Shot Learning" (arXiv:1707.09835),
algorithm 1. The page `docs/meta-sgd.md` has the equations and every detail that changes a result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from metarl.config import NonNegative
from metarl.learning.few_shot.gradient import GradientConfig, GradientLearner
from metarl.learning.rules.base import LearnedStepSizes


@dataclass(frozen=True, kw_only=True)
class MetaSgdConfig(GradientConfig):
    """Settings of Meta-SGD."""

    inner_lr: NonNegative = 0.01
    """Initial step size of every parameter; usually 0.005 to 0.1."""


class MetaSgd(GradientLearner[MetaSgdConfig]):
    """Meta-SGD as a `metarl.few_shot.learner.FewShotLearner`; its state is an `AdaptedNetwork`."""

    Config: ClassVar[type] = MetaSgdConfig
    summary: ClassVar[str] = "gradient steps with a learned step size per parameter (Li et al. 2017)"

    def _make_rule(self) -> LearnedStepSizes:
        return LearnedStepSizes(self.config.inner_lr)
