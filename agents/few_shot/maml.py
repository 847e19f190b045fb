"""MAML for few-shot learning: meta-learns initial parameters from which gradient steps adapt.

Finn et al. 2017, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks" (arXiv:1703.03400), equation 1 and
algorithm 2. The page `docs/few-shot.md` has the equations and every detail that changes a result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from metarl.config import NonNegative
from metarl.learning.few_shot.gradient import GradientConfig, GradientLearner
from metarl.learning.rules.base import GradientStep


@dataclass(frozen=True, kw_only=True)
class MamlConfig(GradientConfig):
    """Settings of MAML."""

    inner_lr: NonNegative = 0.01
    """Step size of the inner loop (alpha); usually 0.01 to 0.4."""


class Maml(GradientLearner[MamlConfig]):
    """MAML as a `metarl.few_shot.learner.FewShotLearner`; its state is an `AdaptedNetwork`."""

    Config: ClassVar[type] = MamlConfig
    summary: ClassVar[str] = "gradient steps from meta-learned parameters, exact meta-gradient (Finn et al. 2017)"

    def _make_rule(self) -> GradientStep:
        return GradientStep(self.config.inner_lr)
