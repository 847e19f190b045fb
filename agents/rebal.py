"""ReBAL: a model of the dynamics that adapts to the last transitions by a recurrent network.

Nagabandi et al. 2019 (arXiv:1803.11347), algorithms 1 and 2 with the recurrence-based rule: an LSTM (Hochreiter and
Schmidhuber 1997) reads the last M transitions `x_t = (s, a, s' - s)`, and the model sees its state h:

    i, f, o = sigmoid(...), g = tanh(...) of x_t W_x + h W_h + b
    c <- f c + i g,   h <- o tanh(c)
    f(s, a, h): the first layer is (s, a) W + h V + b

A state h that is an input of every prediction is the same as another bias of the first layer, `b + h V`. So the adapted
model is an MLP like the others, and planner and losses are those of GrBAL. LSTM and MLP minimise the loss on the next K
transitions together.

Deviations: in the paper the LSTM itself predicts, and its state goes on along a plan; here h is what the last M
transitions made of it. The planner and the window are those of `metarl.agents.grbal`, with the same corrections.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from metarl.config import Rows, Units
from metarl.learning.networks.flat import Layout
from metarl.learning.planning.agent import PlanningAgent, PlanningConfig
from metarl.learning.planning.dynamics import Windows
from metarl.types import Spaces


@dataclass(frozen=True, kw_only=True)
class RebalConfig(PlanningConfig):
    """Settings of ReBAL."""

    past: Rows = 16
    """`M`, transitions that the recurrent network reads."""
    future: Rows = 16
    """`K`, transitions after them that the model has to predict."""
    units: Units = 64
    """Units of the recurrent network; 256 in the paper."""


class Rebal(PlanningAgent[RebalConfig]):
    """ReBAL as a `metarl.agent.MetaAgent`; its state is `Plans`.

    Args:
        config: The settings; at least one hidden layer.
        spaces: Sizes and action bounds, and the declared reward.
        device: Device of the models.
        rng: Source of the initial parameters and of the minibatches.

    Raises:
        ValueError: Actions are discrete or unbounded, the family declares no reward to plan with, or the model has no
            hidden layer.
    """

    _name = "rebal"
    Config: ClassVar[type] = RebalConfig
    summary: ClassVar[str] = "plans with a model that a recurrent network adapts (Nagabandi et al. 2019)"
    adapts_within_episodes: ClassVar[bool] = True

    def __init__(self, config: RebalConfig, spaces: Spaces, *, device: torch.device, rng: np.random.Generator) -> None:
        if not config.hidden:
            raise ValueError("rebal: got a model without hidden layers, expected at least one (--agent.hidden)")
        super().__init__(config, spaces, device=device, rng=rng)

    @classmethod
    def _numbers(cls, config: RebalConfig, spaces: Spaces) -> int:
        seen = 2 * spaces.observation_size + spaces.action_size
        return super()._numbers(config, spaces) + config.units * (4 * (seen + config.units + 1) + config.hidden[0])

    @property
    def _past(self) -> int:
        return self.config.past

    @property
    def _future(self) -> int:
        return self.config.future

    @cached_property
    def _rule(self) -> Layout:
        """Layout of the parameters after those of the model: input, recurrent and bias of the LSTM, and `V`."""
        units, (inputs, first, *_) = self.config.units, self.dynamics.networks.sizes
        seen = inputs + self.spaces.observation_size
        shapes = {
            "input": (seen, 4 * units),
            "recurrent": (units, 4 * units),
            "bias": (4 * units,),
            "shift": (units, first),
        }
        return Layout(tuple(shapes.items()))

    def _initial(self, rng: np.random.Generator) -> Tensor:
        """Models and rules, `[members, P + R]`; weights of the rule are uniform within `1 / sqrt(units)`."""
        models = super()._initial(rng)
        bound = 1.0 / math.sqrt(self.config.units)
        rules = rng.uniform(-bound, bound, (len(models), self._rule.size))
        return torch.cat([models, torch.tensor(rules, dtype=torch.float32)], dim=1)

    def _adapted(self, parameters: Tensor, past: Windows, *, exact: bool) -> Tensor:
        model, rule = torch.split(parameters, [parameters.shape[1] - self._rule.size, self._rule.size], dim=1)
        arrays = self._rule.split(rule.contiguous())
        h = after_transitions(arrays["input"], arrays["recurrent"], arrays["bias"], past)
        shift = torch.bmm(h.unsqueeze(1), arrays["shift"]).squeeze(1)  # [n, units of the first layer]
        inputs, first, *_ = self.dynamics.networks.sizes
        start = inputs * first  # the first layer's bias stands after its weights
        before, bias, after = torch.split(model, [start, first, model.shape[1] - start - first], dim=1)
        return torch.cat([before, bias + shift, after], dim=1)


def after_transitions(input_: Tensor, recurrent: Tensor, bias: Tensor, past: Windows) -> Tensor:
    """The state of an LSTM of each row after its transitions, `[n, U]`; zero without any.

    Args:
        input_: Weights of the inputs, `[n, I, 4 U]`, in the order i, f, g, o.
        recurrent: Weights of the state, `[n, U, 4 U]`.
        bias: `[n, 4 U]`.
        past: The transitions; those that do not count leave the state as it is.
    """
    x = torch.baddbmm(bias.unsqueeze(1), torch.cat([past.inputs, past.targets], dim=-1), input_)  # [n, M, 4 U]
    h = c = x.new_zeros(len(x), recurrent.shape[1])
    for t in range(x.shape[1]):
        i, f, g, o = (x[:, t] + torch.bmm(h.unsqueeze(1), recurrent).squeeze(1)).chunk(4, dim=1)
        counts = past.mask[:, t : t + 1] > 0
        new = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.where(counts, torch.sigmoid(o) * torch.tanh(new), h)
        c = torch.where(counts, new, c)
    return h
