"""GBML: learns initial parameters and the direction of the update, a small network over gradients and data.

The step is `theta' = theta - beta phi(D, theta)`, with phi learned through the outer objective, after the step. The
outer step is a trust-region step over both. The page `docs/gbml.md` has the equations and every detail that changes a
result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from metarl.config import Units
from metarl.learning.gradient.autograd_adaptation import RuleAgent, RuleAgentConfig
from metarl.learning.gradient.policy import Samples
from metarl.learning.rules.base import RuleSize
from metarl.learning.rules.gbml import LearnedDirection
from metarl.types import Spaces

MOMENTS = 3
"""Statistics of each component: mean, standard deviation, mean product with the advantage."""


@dataclass(frozen=True, kw_only=True)
class GbmlConfig(RuleAgentConfig):
    """Settings of GBML."""

    rule_units: Units = 20
    """Hidden units of the network that gives the direction of the update."""


def data_statistics(samples: Samples, choices: int = 0) -> Tensor:
    """Moments of observations and actions over each task's samples, `[M, 3 (O + A)]`.

    They are weighted means over the steps: the mean, the standard deviation, and the mean product with the advantage,
    of every component. Advantages are normalised, so moments of their own say nothing.

    Args:
        samples: Samples of a collect.
        choices: Number of discrete actions; each then counts as a component that is 1 where it was taken, and A is
            their number. 0 for continuous actions.
    """
    actions = samples.actions
    if choices:
        actions = torch.nn.functional.one_hot(actions.squeeze(-1).long(), choices).to(samples.observations.dtype)
    values, weights = torch.cat([samples.observations, actions], dim=2), samples.weights.unsqueeze(1)  # [M, 1, B]
    mean = torch.bmm(weights, values)  # [M, 1, O + A]
    variance = torch.bmm(weights, (values - mean).square())
    along = torch.bmm(weights * samples.advantages.unsqueeze(1), values)
    return torch.cat([mean, variance.sqrt(), along], dim=2).squeeze(1)


class Gbml(RuleAgent[GbmlConfig]):
    """GBML as a `metarl.agent.MetaAgent`; its state is a `RuleState`. It is built like a `GradientAgent`."""

    Config: ClassVar[type] = GbmlConfig
    summary: ClassVar[str] = "adapts along a learned function of policy gradient, parameters and data"

    @classmethod
    def rule_size(cls, config: GbmlConfig, spaces: Spaces) -> RuleSize:
        """Sizes of the rule of these settings."""
        return rule_of(config, spaces).size

    def _make_rule(self) -> LearnedDirection:
        return rule_of(self.config, self.spaces)

    def _statistics(self, samples: Samples) -> Tensor:
        return data_statistics(samples, self.spaces.choices)


def rule_of(config: GbmlConfig, spaces: Spaces) -> LearnedDirection:
    """The update rule of these settings."""
    components = spaces.observation_size + spaces.policy_outputs
    return LearnedDirection(config.inner_lr, MOMENTS * components, config.rule_units)
