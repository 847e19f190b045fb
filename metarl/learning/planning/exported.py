"""One step of an agent that plans, for export: the window, the adaptation and the planner are parts of the graph.

The candidates come from random numbers that are an input. A plan has no mode: other numbers give another action.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from metarl.learning.networks.exported.step import Actions, Given, Part, PolicyStep
from metarl.learning.networks.fast_weights import evaluate
from metarl.learning.planning.dynamics import Dynamics, Scales, Windows
from metarl.learning.planning.planner import Bounds, PlannerConfig, fresh_plans, planned_with, shifted
from metarl.learning.planning.scoring import Reward, Scorer


class PlanningStep(PolicyStep):
    """Planning with a model that adapts to the last transitions.

    Args:
        observation_size: `O`.
        actions: The map of the actions.
        config: Settings of the planner.
        dynamics: The model.
        parameters: Parameters of the ensemble, `[members, P]`.
        adapted: Maps parameters `[members, P]` and their windows to models `[members, P]`.
        past: `W`, transitions of a window; 0 if the models do not adapt.
        scales: Statistics of the data.
        reward: The declared reward.
        bounds: Bounds of an action in the environment's units.
    """

    def __init__(
        self,
        observation_size: int,
        actions: Actions,
        config: PlannerConfig,
        *,
        dynamics: Dynamics,
        parameters: Tensor,
        adapted: Callable[[Tensor, Windows], Tensor],
        past: int,
        scales: Scales,
        reward: Reward,
        bounds: Bounds,
    ) -> None:
        a, width = len(bounds.low), 2 * observation_size + len(bounds.low)
        parts = (
            Part("plan", config.plan_steps * a, f"{config.plan_steps} actions of the last plan, scaled to [-1, 1]"),
            Part("observation", observation_size, "observation of the last step"),
            Part("window", past * width, f"observation, scaled action and next observation of the last {past} steps"),
            Part("count", 1, "steps of the episode that are in the window"),
        )
        draws = (config.rounds, 1, config.candidates, config.plan_steps, a)
        super().__init__(observation_size, actions, parts, adapts=past > 0, noise=math.prod(draws))
        self._config, self._dynamics, self._adapted, self._past = config, dynamics, adapted, past
        self._ensemble, self._scales, self._reward, self._bounds = parameters, scales, reward, bounds
        ones = torch.ones(a)
        self._scaled = Bounds(-ones, ones)
        self._draws = draws

    def _act(self, given: Given) -> tuple[Tensor, Tensor]:
        sizes = [part.size for part in self.parts[1:]]
        plan, before, window, count = torch.split(given.memory, sizes, dim=1)
        count = torch.where(given.first, torch.zeros_like(count), (count + 1.0).clamp(max=float(self._past)))
        window = torch.cat([window, before, given.action, given.observation], dim=1)[:, -window.shape[1] :]
        models = self._models(window.view(1, self._past, -1), count) if self._past else self._ensemble
        scorer = Scorer(
            self._dynamics,
            models.unsqueeze(0),
            given.observation,
            self._scales,
            self._reward,
            self._bounds,
            networks=lambda layers, activation: lambda x: evaluate(layers, x, activation),
        )
        start = shifted(plan.view(1, self._config.plan_steps, -1), self._scaled)
        start = torch.where(given.first.unsqueeze(2), fresh_plans(self._config, self._scaled, 1), start)
        plans, _ = planned_with(self._config, scorer, start, self._scaled, given.noise.view(self._draws).unbind())
        action = self.actions.to_environment(plans[:, 0])
        return action, torch.cat([plans.flatten(1), given.observation, window[:, : sizes[2]], count], dim=1)

    def _models(self, window: Tensor, count: Tensor) -> Tensor:
        """The models `[members, P]` adapted to `count` `[1, 1]` transitions of a window `[1, W, O + A + O]`."""
        members, o = len(self._ensemble), self.observation_size
        mask = (torch.arange(self._past, 0, -1) <= count).float().expand(members, -1)
        before, scaled, after = torch.split(window.expand(members, -1, -1), [o, window.shape[2] - 2 * o, o], dim=-1)
        inputs = torch.cat([self._scales.inputs(before), scaled], dim=-1)
        return self._adapted(self._ensemble, Windows(inputs, self._scales.targets(before, after), mask))
