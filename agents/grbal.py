"""GrBAL: a model of the dynamics that takes a gradient step on the last transitions at every control step.

Nagabandi et al. 2019, "Learning to Adapt in Dynamic, Real-World Environments through Meta-Reinforcement Learning"
(arXiv:1803.11347), algorithms 1 and 2 with the gradient-based rule: `theta' = theta - a psi * grad L(theta; last M)`.
The initial parameters theta and the factors psi on the step size minimise `L(theta'; next K)` together, differentiated
through the step exactly. Every control step adapts anew from theta. As in the paper, step sizes are learned; here the
factor of a weight is the product of a number of its input and one of its output (`Dynamics.rates`), or 1 for all.

Deviations from the authors' code: the newest transition is part of the window, the parameters are never set back, the
planner scores clipped actions for each environment apart, and the loss after adaptation is the one that is watched.
Within the first M steps of an episode a model adapts to the transitions that there are.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from metarl.config import NonNegative, Rows
from metarl.learning.planning.agent import PlanningAgent, PlanningConfig
from metarl.learning.planning.dynamics import Windows
from metarl.types import Spaces


@dataclass(frozen=True, kw_only=True)
class GrbalConfig(PlanningConfig):
    """Settings of GrBAL."""

    past: Rows = 16
    """`M`, transitions that a model adapts to."""
    future: Rows = 16
    """`K`, transitions after them that the adapted model has to predict."""
    inner_lr: NonNegative = 0.3
    """Step size of the adaptation, on the loss of normalised differences; 0.001 to 0.01 in the paper's code."""
    learned_rates: bool = True
    """Learn factors on the step size, one for each input and output of a layer; else it stays as it is."""


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

    @classmethod
    def _numbers(cls, config: GrbalConfig, spaces: Spaces) -> int:
        outputs = spaces.observation_size * (2 if config.probabilistic else 1)
        sizes = (spaces.observation_size + spaces.action_size, *config.hidden, outputs)
        rates = sum(i + o + 1 for i, o in pairwise(sizes)) if config.learned_rates else 0
        return super()._numbers(config, spaces) + rates

    def _initial(self, rng: np.random.Generator) -> Tensor:
        """Models and, if they are learned, factors on the step sizes, `[members, P + R]`; all factors are 1."""
        models = super()._initial(rng)
        if not self.config.learned_rates:
            return models
        return torch.cat([models, models.new_ones(len(models), self.dynamics.rates.size)], dim=1)

    def _split(self, parameters: Tensor) -> tuple[Tensor, Tensor | None]:
        """Models `[n, P]` and factors `[n, R]`."""
        if not self.config.learned_rates:
            return parameters, None
        size = self.dynamics.networks.layout.size
        model, rates = torch.split(parameters, [size, parameters.shape[1] - size], dim=1)
        return model, rates

    def _adapted(self, parameters: Tensor, past: Windows, *, exact: bool) -> Tensor:
        model, rates = self._split(parameters)
        return self.dynamics.adapted(model, past, self.config.inner_lr, rates, exact=exact)

    def meta_loss(self, parameters: Tensor, past: Windows, future: Windows) -> Tensor:
        """See `PlanningAgent.meta_loss`; computed without a copy of the weights for each window."""
        model, rates = self._split(parameters)
        losses = self.dynamics.losses_after_step(model, past, future, self.config.inner_lr, rates)
        return losses.view(len(parameters), -1).mean(dim=1)
