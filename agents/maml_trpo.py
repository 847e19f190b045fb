"""MAML with a trust-region outer step: learns initial parameters that one gradient step adapts to a task.

Finn, Abbeel and Levine 2017, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks"
(arXiv:1703.03400), algorithm 3, with TRPO (Schulman et al. 2015, arXiv:1502.05477) as meta-optimiser.
The page `docs/maml-trpo.md` has the equations and every detail that changes a result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from metarl.learning.gradient.adaptation import PolicyGradientAdaptation
from metarl.learning.gradient.policy import Samples
from metarl.learning.gradient.trust_region_agent import TrustRegionAgent, TrustRegionAgentConfig


@dataclass(frozen=True, kw_only=True)
class MamlTrpoConfig(TrustRegionAgentConfig):
    """Settings of MAML-TRPO."""


class MamlTrpo(TrustRegionAgent[MamlTrpoConfig]):
    """MAML-TRPO as a `metarl.agent.MetaAgent`; its state is an `AdaptedPolicy`."""

    Config: ClassVar[type] = MamlTrpoConfig
    summary: ClassVar[str] = "adapts by policy gradient from meta-learned parameters (Finn et al. 2017)"

    def _adaptation(self, samples: Sequence[Samples]) -> PolicyGradientAdaptation:
        """Policy-gradient steps, differentiated exactly."""
        return PolicyGradientAdaptation(self.policy, samples, self.parameters, self.config.inner_lr)
