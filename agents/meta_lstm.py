"""The LSTM meta-learner on policy gradients: learns initial parameters and an LSTM that updates them.

Ravi and Larochelle 2017, "Optimization as a Model for Few-Shot Learning" (ICLR), with a trust-region outer step over
both. The page `docs/meta-lstm.md` has the equations and every detail that changes a result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from metarl.config import NonNegative, Units
from metarl.learning.gradient.autograd_adaptation import RuleAgent, RuleAgentConfig
from metarl.learning.rules.base import RuleSize
from metarl.learning.rules.lstm import LstmRule
from metarl.types import Spaces


@dataclass(frozen=True, kw_only=True)
class MetaLstmConfig(RuleAgentConfig):
    """Settings of the LSTM meta-learner."""

    inner_lr: NonNegative = 0.1
    """Without effect: the LSTM gives the step size of every parameter."""
    rule_units: Units = 20
    """Units of the LSTM of every coordinate; 20 in the paper."""


class MetaLstm(RuleAgent[MetaLstmConfig]):
    """The LSTM meta-learner as a `metarl.agent.MetaAgent`; its state is a `RuleState`. Built like a `GradientAgent`."""

    Config: ClassVar[type] = MetaLstmConfig
    summary: ClassVar[str] = "adapts by a learned LSTM per parameter, of policy gradients (Ravi and Larochelle 2017)"

    @classmethod
    def rule_size(cls, config: MetaLstmConfig, spaces: Spaces) -> RuleSize:
        """Sizes of the rule of these settings."""
        return LstmRule(config.rule_units).size

    def _make_rule(self) -> LstmRule:
        return LstmRule(self.config.rule_units)
