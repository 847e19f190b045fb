"""The rule of the LSTM meta-learner.

Ravi and Larochelle 2017, "Optimization as a Model for Few-Shot Learning" (ICLR), section 3. An LSTM reads loss and
gradient of every coordinate, and sets how much of the coordinate is kept and how far it moves. All coordinates share
its weights; each has a memory of its own.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from metarl.learning.networks.flat import Layout
from metarl.learning.networks.preprocessing import preprocessed
from metarl.learning.rules.base import Evidence, RuleSize

GATES = 4
INPUTS = 4
"""Two numbers of the loss, two of the gradient."""
WEIGHT_BOUND, FORGET_BIAS, INPUT_BIAS = 0.01, (4.0, 6.0), (-5.0, -4.0)
"""Ranges of the uniform initial values."""


class LstmRuleMemory(NamedTuple):
    """The memory of each coordinate of each task.

    Attributes:
        hidden: Hidden state of the LSTM, `[M, H, P]`.
        cell: Cell state of the LSTM, `[M, H, P]`.
        forget: Share of the parameter that the last step kept, `[M, P]`.
        step_size: Step size of the last step, `[M, P]`.
    """

    hidden: Tensor
    cell: Tensor
    forget: Tensor
    step_size: Tensor


class LstmRule:
    """The update rule of the LSTM meta-learner, with H units.

    With the logistic function s, the gradient g, the loss L, and `x` the hidden state of an LSTM whose input is
    `preprocessed(L)` and `preprocessed(g)`, for every coordinate:

        theta' = f' theta - i' g
        f' = s(W_F [x, theta, f] + b_F),  i' = s(W_I [x, theta, i] + b_I)

    Before the first step the LSTM's states, f and i are 0. Weights and the LSTM's biases start in U(-0.01, 0.01), b_F
    in U(4, 6) and b_I in U(-5, -4): at the start a step is nearly a gradient step of size 0.01.

    Args:
        units: `H`.
    """

    def __init__(self, units: int = 20) -> None:
        self.units = units
        self.layout = Layout(
            (
                ("of_evidence", (GATES * units, INPUTS)),
                ("of_hidden", (GATES * units, units)),
                ("bias", (GATES * units, 1)),
                ("gate_weight", (2, units + 2)),  # forget, input; columns: x, theta, the gate's last value
                ("gate_bias", (2,)),
            )
        )

    @property
    def size(self) -> RuleSize:
        """Sizes of the rule; a step keeps about 20 numbers per unit for its derivatives."""
        return RuleSize(self.layout.size, 2 * self.units + 2, 20 * self.units)

    def initial(self, parameters: Tensor, rng: np.random.Generator) -> Tensor:
        """The rule's own parameters, `[R]`."""
        weights = rng.uniform(-WEIGHT_BOUND, WEIGHT_BOUND, self.layout.size - 2)
        biases = [rng.uniform(*FORGET_BIAS), rng.uniform(*INPUT_BIAS)]
        return torch.tensor(np.concatenate([weights, biases]), dtype=parameters.dtype)

    def fresh_memory(self, own: Tensor, parameters: Tensor) -> LstmRuleMemory:
        """Zeros."""
        m, p = parameters.shape
        states, gates = parameters.new_zeros(2, m, self.units, p), parameters.new_zeros(2, m, p)
        return LstmRuleMemory(*states, *gates)

    def step(
        self, own: Tensor, parameters: Tensor, evidence: Evidence, memory: LstmRuleMemory
    ) -> tuple[Tensor, LstmRuleMemory]:
        """See `UpdateRule.step`."""
        m, units = len(parameters), self.units
        # Units before coordinates, [M, 4 H, P]: the gates of a task are contiguous.
        weights = {name: t.expand(m, *t.shape[1:]) for name, t in self.layout.split(own.unsqueeze(0)).items()}
        of_loss, of_gradient = torch.split(weights["of_evidence"], INPUTS // 2, dim=2)
        of_task = torch.baddbmm(
            weights["bias"], of_loss, preprocessed(evidence.loss.unsqueeze(1), dim=1)
        )  # [M, 4 H, 1]
        gates = torch.bmm(of_gradient, preprocessed(evidence.gradient, dim=1)) + of_task  # [M, 4 H, P]
        gates = torch.baddbmm(gates, weights["of_hidden"], memory.hidden)
        sigmoids, candidate = torch.split(gates, [3 * units, units], dim=1)
        enter, keep, show = sigmoids.sigmoid().chunk(3, dim=1)
        cell = keep * memory.cell + enter * candidate.tanh()
        hidden = show * cell.tanh()
        of_hidden, of_parameter, of_last = torch.split(weights["gate_weight"], [units, 1, 1], dim=2)
        last = torch.stack([memory.forget, memory.step_size], dim=1)  # [M, 2, P]
        both = torch.bmm(of_hidden, hidden) + of_parameter * parameters.unsqueeze(1) + of_last * last
        forget, step_size = (both + weights["gate_bias"].unsqueeze(2)).sigmoid().unbind(dim=1)
        after = LstmRuleMemory(hidden, cell, forget, step_size)
        return forget * parameters - step_size * evidence.gradient, after
