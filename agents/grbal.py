"""GrBAL: a model of the dynamics that takes a gradient step on the last transitions at every control step.

Nagabandi et al. 2019, "Learning to Adapt in Dynamic, Real-World Environments through Meta-Reinforcement Learning"
(arXiv:1803.11347), algorithms 1 and 2 with the gradient-based rule: `theta' = theta - a grad L(theta; last M)`, and
theta minimises `L(theta'; next K)`, differentiated through the step exactly. Every control step adapts anew from theta.

Deviations from the authors' code: the newest transition is part of the window, the parameters are never set back, the
planner scores clipped actions for each environment apart, and the loss after adaptation is the one that is watched.
Within the first M steps of an episode a model adapts to the transitions that there are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from metarl.config import NonNegative, Rows
from metarl.learning.planning.agent import PlanningAgent, PlanningConfig
from metarl.learning.planning.dynamics import Windows


@dataclass(frozen=True, kw_only=True)
class GrbalConfig(PlanningConfig):
    """Settings of GrBAL."""

    past: Rows = 16
    """`M`, transitions that a model adapts to."""
    future: Rows = 16
    """`K`, transitions after them that the adapted model has to predict."""
    inner_lr: NonNegative = 0.01
    """Step size of the adaptation, on the loss of normalised differences; 0.001 to 0.01 in the paper's code."""


class Grbal(PlanningAgent[GrbalConfig]):
    """GrBAL as a `metarl.agent.MetaAgent`; its state is `Plans`.

    Args:
        config: The settings.
        spaces: Sizes and action bounds, and the declared reward.
        device: Device of the models.
        rng: Source of the initial parameters and of the minibatches.

    Raises:
        ValueError: Actions are discrete or unbounded, or the family declares no reward to plan with.
    """

    _name = "grbal"
    Config: ClassVar[type] = GrbalConfig
    summary: ClassVar[str] = "plans with a model that adapts to the last steps (Nagabandi et al. 2019)"
    adapts_within_episodes: ClassVar[bool] = True

    @property
    def _past(self) -> int:
        return self.config.past

    @property
    def _future(self) -> int:
        return self.config.future

    def _adapted(self, parameters: Tensor, past: Windows, *, exact: bool) -> Tensor:
        return self.dynamics.adapted(parameters, past, self.config.inner_lr, exact=exact)

    def meta_loss(self, parameters: Tensor, past: Windows, future: Windows) -> Tensor:
        """See `PlanningAgent.meta_loss`; computed without a copy of the weights for each window."""
        losses = self.dynamics.losses_after_step(parameters, past, future, self.config.inner_lr)
        return losses.view(len(parameters), -1).mean(dim=1)
