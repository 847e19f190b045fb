"""The LSTM meta-learner for few-shot learning: learns initial parameters and an LSTM that updates them.

Ravi and Larochelle 2017, "Optimization as a Model for Few-Shot Learning" (ICLR), section 3. The page
`docs/meta-lstm.md` has the equations and every detail that changes a result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from metarl.config import Units
from metarl.few_shot.shots import ShotSpaces
from metarl.learning.few_shot.gradient import GradientConfig, GradientLearner
from metarl.learning.rules.base import RuleSize
from metarl.learning.rules.lstm import LstmRule


@dataclass(frozen=True, kw_only=True)
class MetaLstmConfig(GradientConfig):
    """Settings of the LSTM meta-learner."""

    rule_units: Units = 20
    """Units of the LSTM of every coordinate; 20 in the paper."""
    first_order: bool = False
    """Treat losses and gradients of the inner loop as constants in the meta-gradient, as in the paper."""


class MetaLstm(GradientLearner[MetaLstmConfig]):
    """The LSTM meta-learner as a `metarl.few_shot.learner.FewShotLearner`; its state is an `AdaptedNetwork`."""

    Config: ClassVar[type] = MetaLstmConfig
    summary: ClassVar[str] = "adapts by a learned LSTM per parameter (Ravi and Larochelle 2017)"

    @property
    def first_order(self) -> bool:
        """See `GradientLearner.first_order`."""
        return self.config.first_order

    @classmethod
    def rule_size(cls, config: MetaLstmConfig, spaces: ShotSpaces) -> RuleSize:
        """Sizes of the rule of these settings."""
        return LstmRule(config.rule_units).size

    def _make_rule(self) -> LstmRule:
        return LstmRule(self.config.rule_units)
