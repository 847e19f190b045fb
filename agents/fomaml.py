"""First-order MAML with a trust-region outer step: MAML with the gradients of the adaptation treated as constants.

Finn, Abbeel and Levine 2017 (arXiv:1703.03400), section 5.2 (the first-order approximation), with the outer step of
MAML-TRPO. The page `docs/fomaml.md` has the equations and every detail that changes a result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from metarl.learning.gradient.adaptation import PolicyGradientAdaptation, first_order_steps
from metarl.learning.gradient.policy import Samples
from metarl.learning.gradient.trust_region_agent import TrustRegionAgent, TrustRegionAgentConfig


@dataclass(frozen=True, kw_only=True)
class FomamlConfig(TrustRegionAgentConfig):
    """Settings of first-order MAML."""


class Fomaml(TrustRegionAgent[FomamlConfig]):
    """First-order MAML as a `metarl.agent.MetaAgent`; its state is an `AdaptedPolicy`."""

    Config: ClassVar[type] = FomamlConfig
    summary: ClassVar[str] = "maml-trpo without second derivatives (Finn et al. 2017, section 5.2)"

    def _adaptation(self, samples: Sequence[Samples]) -> PolicyGradientAdaptation:
        """Policy-gradient steps with the identity as Jacobian; zero at the entries that a projection moved."""
        return PolicyGradientAdaptation(
            self.policy, samples, self.parameters, self.config.inner_lr, steps=first_order_steps
        )
