"""First-order MAML for few-shot learning: MAML without the second derivatives.

Finn et al. 2017 (arXiv:1703.03400), section 5.2; the name is that of Nichol et al. 2018 (arXiv:1803.02999). The page
`docs/fomaml.md` has the equations and every detail that changes a result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from metarl.config import NonNegative
from metarl.learning.few_shot.gradient import GradientConfig, GradientLearner
from metarl.learning.rules.base import GradientStep


@dataclass(frozen=True, kw_only=True)
class FomamlConfig(GradientConfig):
    """Settings of first-order MAML."""

    inner_lr: NonNegative = 0.01
    """Step size of the inner loop (alpha); usually 0.01 to 0.4."""


class Fomaml(GradientLearner[FomamlConfig]):
    """First-order MAML as a `metarl.few_shot.learner.FewShotLearner`; its state is an `AdaptedNetwork`."""

    Config: ClassVar[type] = FomamlConfig
    summary: ClassVar[str] = "as maml, with gradients of the inner loop as constants"
    first_order = True

    def _make_rule(self) -> GradientStep:
        return GradientStep(self.config.inner_lr)
