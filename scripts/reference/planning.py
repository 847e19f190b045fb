"""Planning as planners for a single state do it: one environment after another, and each prediction step by step.

The same arithmetic as `metarl.learning.planning.scoring`, from the same random numbers: one call of the planner per
environment, with PyTorch's usual products, in the environment's units.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from metarl.deviations import CLIP
from metarl.learning.device.gpu import send
from metarl.learning.planning.agent import PlanningAgent
from metarl.learning.planning.planner import Scores, fresh_plans, planned, shifted
from metarl.learning.planning.state import Plans
from metarl.types import Action, Floats, Step


class Drawn:
    """A generator that returns random numbers drawn before, in order.

    Args:
        arrays: The numbers of each call.
    """

    def __init__(self, arrays: list[Floats]) -> None:
        self._arrays = iter(arrays)

    def standard_normal(self, shape: tuple[int, ...], dtype: type) -> Floats:
        """The next numbers; shape and type are those that were drawn."""
        array = next(self._arrays)
        assert array.shape == shape
        assert array.dtype == np.dtype(dtype)
        return array


@torch.no_grad()
def act_one_by_one(
    agent: PlanningAgent[Any], state: Plans, step: Step, rng: np.random.Generator
) -> tuple[Action, Plans]:
    """As `PlanningAgent.act` after the warm-up, with one call of the planner per environment.

    Args:
        agent: The agent.
        state: Its state.
        step: The input, `[M, E, ...]`.
        rng: Source of the candidates.
    """
    state, config, bounds = agent.observed(state, step), agent.config, agent.bounds
    m, e, steps, size = state.plans.shape
    shape = (m * e, config.candidates, steps, size)
    noise = [rng.standard_normal(shape, dtype=np.float32) for _ in range(config.rounds)]
    chosen = []
    for n in range(m * e):
        one = Plans(*(t.flatten(0, 1)[n : n + 1, None] for t in vars(state).values()))
        start = fresh_plans(config, bounds, 1) if step.first.reshape(-1)[n] else shifted(one.plans[0], bounds)
        drawn = cast(np.random.Generator, Drawn([array[n : n + 1] for array in noise]))
        chosen.append(planned(config, plain_scores(agent, one), start, bounds, drawn)[0])
    plans = torch.cat(chosen).view(m, e, steps, size)
    return Action(agent.actions.to_environment(plans[:, :, 0].cpu().numpy())), replace(state, plans=plans)


def plain_scores(agent: PlanningAgent[Any], one: Plans) -> Scores:
    """The function from plans `[1, C, H, A]` of a single environment to their predicted returns `[1, C]`.

    Args:
        agent: The agent.
        one: The state of the environment, `M` = `E` = 1.
    """
    models, scales, dynamics = agent.models(one)[0], agent.scales(), agent.dynamics
    low, high = (send(bound, models.device) for bound in (agent.actions.low, agent.actions.high))

    def scores(plans: Tensor) -> Tensor:
        returns = []
        for model in models:
            weights, biases = dynamics.networks.layers(model.unsqueeze(0))
            seen, total = one.observation[0].expand(plans.shape[1], -1), plans.new_zeros(plans.shape[1])
            for t in range(plans.shape[2]):
                scaled = plans[0, :, t]
                normalised = ((seen - scales.mean) / scales.deviation).clamp(-CLIP, CLIP)
                x = torch.cat([normalised, scaled], dim=1)
                for i, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
                    x = torch.addmm(bias[0], x, weight[0])
                    if i + 1 < len(weights):
                        x = torch.relu(x) if dynamics.activation == "relu" else torch.tanh(x)
                moved = scales.difference_mean + scales.difference_deviation * x[:, : seen.shape[1]]
                played = low + (high - low) * (scaled + 1.0) / 2.0
                total = total + agent.reward(seen, played, seen + moved)
                seen = seen + moved
            returns.append(total)
        return torch.stack(returns).mean(dim=0, keepdim=True)

    return scores
