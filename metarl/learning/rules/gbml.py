"""A learned direction of the update: gradient-based meta-learning with a small network in place of the gradient.

The step `theta' = theta - beta phi(D, theta)` of the general form in which adaptation is a function of the data. It is
Finn et al. 2017's step (arXiv:1703.03400) if phi is the gradient.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from metarl.learning.networks.flat import Layout
from metarl.learning.rules.base import Evidence, RuleSize

COORDINATE_INPUTS = 2
"""The gradient relative to its root mean square, and the parameter."""
TASK_INPUTS = 2
"""The loss, and the root mean square of the gradient; the statistics of the data come after them."""
FLOOR = 1e-8
"""Added to the root mean square of a gradient: a gradient may be 0."""


class LearnedDirection:
    """A step along a direction phi that a network gives from gradient, parameter, and statistics of the data.

    With the gradient g, its root mean square over the task's coordinates `r`, the loss L and the statistics S,

        u   = [asinh(g / r), theta, asinh(L), asinh(log r), asinh(S)]      per coordinate; L, r, S are the task's
        h   = tanh(W u + b)
        phi = (1 + m) g + r d,   (m, d) = V h + c
        theta' = theta - beta phi

    m scales the gradient, and d adds a direction of its own. V and c start at 0, so that phi is the gradient; W starts
    Xavier-uniform and b at 0. All coordinates share the network. The inputs are smooth functions of the gradient, so
    derivatives through the step are bounded where a gradient changes its sign.

    Args:
        step_size: `beta`.
        statistics: `S`, how many numbers describe the data of a task.
        units: `H`, hidden units.
    """

    def __init__(self, step_size: float, statistics: int = 0, units: int = 20) -> None:
        self.step_size, self.units, self.statistics = step_size, units, statistics
        task_inputs = TASK_INPUTS + statistics
        self._fans = COORDINATE_INPUTS + task_inputs + units
        self.layout = Layout(
            (
                ("of_coordinate", (units, COORDINATE_INPUTS)),
                ("of_task", (units, task_inputs)),
                ("bias", (units, 1)),
                ("out", (2, units)),
                ("out_bias", (2, 1)),
            )
        )
        self._weights = units * (COORDINATE_INPUTS + task_inputs)

    @property
    def size(self) -> RuleSize:
        """Sizes of the rule; a step keeps about 4 numbers per unit for its derivatives."""
        return RuleSize(own=self.layout.size, graph=4 * self.units)

    def initial(self, parameters: Tensor, rng: np.random.Generator) -> Tensor:
        """The rule's own parameters, `[R]`."""
        bound = math.sqrt(6.0 / self._fans)
        zeros = np.zeros(self.layout.size - self._weights)
        return torch.tensor(np.concatenate([rng.uniform(-bound, bound, self._weights), zeros]), dtype=parameters.dtype)

    def fresh_memory(self, own: Tensor, parameters: Tensor) -> tuple[()]:
        """No memory."""
        return ()

    def step(self, own: Tensor, parameters: Tensor, evidence: Evidence, memory: tuple[()]) -> tuple[Tensor, tuple[()]]:
        """See `UpdateRule.step`.

        Raises:
            ValueError: There are more or fewer statistics than the rule was made for.
        """
        if (given := evidence.statistics.shape[1]) != self.statistics:
            raise ValueError(
                f"statistics: got {given} numbers about the data, expected {self.statistics}, as the rule was made; "
                "its argument `statistics` sets how many"
            )
        m, gradient = len(parameters), evidence.gradient
        weights = {name: t.expand(m, *t.shape[1:]) for name, t in self.layout.split(own.unsqueeze(0)).items()}
        size = (gradient.square().mean(dim=1, keepdim=True) + FLOOR**2).sqrt()  # [M, 1]
        of_task = torch.cat([evidence.loss.unsqueeze(1), size.log(), evidence.statistics], dim=1).asinh()
        hidden = torch.baddbmm(weights["bias"], weights["of_task"], of_task.unsqueeze(2))  # [M, H, 1]
        coordinate = torch.stack([(gradient / size).asinh(), parameters], dim=1)  # [M, 2, P]
        hidden = (torch.bmm(weights["of_coordinate"], coordinate) + hidden).tanh()
        factor, added = (torch.bmm(weights["out"], hidden) + weights["out_bias"]).unbind(dim=1)
        return parameters - self.step_size * ((1.0 + factor) * gradient + size * added), memory
