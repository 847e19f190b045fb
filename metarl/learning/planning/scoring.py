"""Predicted returns of plans: many environments, candidates and models at once.

A model predicts `s' = s + mean_d + dev_d f(z, a)` from `z = (s - mean) / dev` (`metarl.learning.planning.dynamics`).
Along a plan the same is computed in normalised units,

    z' = z + (mean_d + dev_d f(clip(z), a)) / dev,

whose factors are part of the last layer. So a step is one forward pass and one addition, and the reward is computed
for all steps of all plans in one call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from metarl.deviations import CLIP
from metarl.learning.networks.fused import FusedMlps
from metarl.learning.networks.perceptron import Activation, Layers
from metarl.learning.planning.dynamics import Dynamics, Scales
from metarl.learning.planning.planner import Bounds

Reward = Callable[[Any, Any, Any], Any]
"""Maps observations, actions and next observations, in the environment's units, to rewards."""


class Scorer:
    """Predicted returns of plans from given observations, with given models.

    Args:
        dynamics: The model, a function of its parameters.
        models: Parameters `[N, members, P]`, or `[1, members, P]` if all environments have the same models.
        start: Observations `[N, O]`, in the environment's units.
        scales: The statistics.
        reward: Maps observations, actions and next observations, in the environment's units, to rewards.
        actions: Bounds of an action, in the environment's units.
        networks: Makes the function of all models' inputs `[n, B, in]` from their layers.
    """

    def __init__(
        self,
        dynamics: Dynamics,
        models: Tensor,
        start: Tensor,
        scales: Scales,
        reward: Reward,
        actions: Bounds,
        networks: Callable[[Layers, Activation], Callable[[Tensor], Tensor]] = FusedMlps,
    ) -> None:
        self._groups, self._members = models.shape[:2]
        self._start, self._scales = (start - scales.mean) / scales.deviation, scales
        self._reward, self._actions = reward, actions
        weights, biases = dynamics.networks.layers(models.flatten(0, 1))
        factor = scales.difference_deviation / scales.deviation
        last = weights[-1][..., : len(factor)] * factor  # of a probabilistic model, without the variances
        shift = biases[-1][..., : len(factor)] * factor + scales.difference_mean / scales.deviation
        self._networks = networks(Layers([*weights[:-1], last], [*biases[:-1], shift]), dynamics.activation)

    @torch.no_grad()
    def __call__(self, plans: Tensor) -> Tensor:
        """Predicted returns `[N, C]` of plans `[N, C, H, A]`, the mean over the members."""
        n, candidates, steps, _ = plans.shape
        groups, members = self._groups, self._members
        shape = (groups, n // groups * candidates)  # networks, rows of each
        played = plans.permute(2, 0, 1, 3).reshape(steps, *shape, -1)  # [H, G, B, A]
        z = self._start.unsqueeze(1).expand(-1, candidates, -1).reshape(*shape, -1)
        if members > 1:
            played, z = (t.repeat_interleave(members, dim=-3) for t in (played, z))
        path = [z]
        for scaled in played:
            z = z + self._networks(torch.cat([z.clamp(-CLIP, CLIP), scaled], dim=-1))
            path.append(z)
        seen = torch.stack(path).mul_(self._scales.deviation).add_(self._scales.mean)  # [H + 1, G * members, B, O]
        given = self._actions.centre + self._actions.half * played
        rewards = self._reward(seen[:-1], given, seen[1:]).sum(dim=0)
        return rewards.view(groups, members, -1).mean(dim=1).view(n, candidates)
