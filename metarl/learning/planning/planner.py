"""Planning by sampling, for `N` environments at once: the cross-entropy method (CEM) and MPPI.

A plan is a sequence of actions. Each of `I` rounds draws candidates around the mean plan of an environment, has its
model predict their returns, and moves the mean:

- CEM (Rubinstein 1999; Chua et al. 2018, arXiv:1805.12114): mean and deviation of the elites, the candidates with the
  largest returns.
- MPPI (Williams et al. 2017, arXiv:1707.02342, equation 26): all candidates, weighted by `exp(R / temperature)`.

The first action of the mean is played, and the rest is where the next step's search starts. No sum, sort or mean ever
runs over environments, so the plan of one does not depend on the others. Candidates are clipped before they are scored:
the model sees the actions that would be played.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from metarl.config import Count, Positive, Rounds, Rows
from metarl.learning.device.gpu import send

Method = Literal["cem", "mppi"]
Scores = Callable[[Tensor], Tensor]
"""Maps plans `[N, C, H, A]` to their predicted returns `[N, C]`."""
WORST = -1e30
"""Return of a plan whose prediction is not finite, in either direction."""


@dataclass(frozen=True, kw_only=True)
class PlannerConfig:
    """Settings of the planner."""

    method: Method = "cem"
    """Cross-entropy method, or MPPI."""
    plan_steps: Rounds = 10
    """Steps of a plan."""
    candidates: Rows = 100
    """Plans drawn in each round, per environment."""
    rounds: Rounds = 5
    """Rounds per control step."""
    elites: Count = 10
    """Candidates that the cross-entropy method keeps of each round."""
    plan_std: Positive = 0.5
    """Standard deviation of the candidates in the first round, relative to half the range of an action."""
    temperature: Positive = 1.0
    """Temperature of MPPI, in units of the return: smaller values weight the best candidates more."""


@dataclass(frozen=True)
class Bounds:
    """Bounds of an action.

    Args:
        low: `[A]`, in the environment's unit.
        high: `[A]`.
    """

    low: Tensor
    high: Tensor

    @property
    def centre(self) -> Tensor:
        """Middle of the range, `[A]`."""
        return (self.low + self.high) / 2

    @property
    def half(self) -> Tensor:
        """Half of the range, `[A]`."""
        return (self.high - self.low) / 2


def fresh_plans(config: PlannerConfig, bounds: Bounds, environments: int) -> Tensor:
    """Plans at the start of an episode, `[N, H, A]`: the middle of the range in each step.

    Args:
        config: The settings.
        bounds: Bounds of an action.
        environments: `N`.
    """
    return bounds.centre.expand(environments, config.plan_steps, -1).clone()


def shifted(plans: Tensor, bounds: Bounds) -> Tensor:
    """Plans `[N, H, A]` one step later: without their first action, and the middle of the range at the end."""
    return torch.cat([plans[:, 1:], bounds.centre.expand(len(plans), 1, -1)], dim=1)


def planned(
    config: PlannerConfig, scores: Scores, plans: Tensor, bounds: Bounds, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Plans after the rounds of a control step.

    Args:
        config: The settings.
        scores: Predicted returns of candidates; row n is environment n, with its own model and state.
        plans: Start of the search, `[N, H, A]`.
        bounds: Bounds of an action; finite.
        rng: Source of the candidates.

    Returns:
        The mean plans `[N, H, A]`, whose first actions are to be played, and the predicted return of the best candidate
        of the last round, `[N]`.
    """
    shape = (len(plans), config.candidates, *plans.shape[1:])
    draws = (rng.standard_normal(shape, dtype=np.float32) for _ in range(config.rounds))
    return planned_with(config, scores, plans, bounds, (send(noise, plans.device, plans.dtype) for noise in draws))


def planned_with(
    config: PlannerConfig, scores: Scores, plans: Tensor, bounds: Bounds, draws: Iterable[Tensor]
) -> tuple[Tensor, Tensor]:
    """`planned` with given standard normal numbers of the candidates, `[N, C, H, A]` for each round."""
    mean, deviation = plans, (config.plan_std * bounds.half).expand_as(plans)
    best = plans.new_full((len(plans),), WORST)
    for noise in draws:
        candidates = mean.unsqueeze(1) + deviation.unsqueeze(1) * noise
        candidates = torch.minimum(torch.maximum(candidates, bounds.low), bounds.high)
        returns = torch.nan_to_num(scores(candidates), nan=WORST, posinf=WORST, neginf=WORST)
        if config.method == "cem":
            mean, deviation = elite_moments(candidates, returns, config.elites)
        else:
            mean = weighted_mean(candidates, returns, config.temperature)
        best = returns.amax(dim=1)
    return mean, best


def elite_moments(candidates: Tensor, returns: Tensor, elites: int) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each environment's elites, `[N, H, A]` each.

    Args:
        candidates: `[N, C, H, A]`.
        returns: `[N, C]`.
        elites: Number of elites; all candidates if there are fewer.
    """
    chosen = returns.topk(min(elites, returns.shape[1]), dim=1).indices[..., None, None]
    kept = candidates.gather(1, chosen.expand(-1, -1, *candidates.shape[2:]))
    return kept.mean(dim=1), kept.std(dim=1, correction=0)


def weighted_mean(candidates: Tensor, returns: Tensor, temperature: float) -> Tensor:
    """Mean of each environment's candidates, weighted by `exp(R / temperature)`, `[N, H, A]`.

    Args:
        candidates: `[N, C, H, A]`.
        returns: `[N, C]`.
        temperature: Unit of the returns.
    """
    weights = torch.softmax(returns / temperature, dim=1)
    return torch.einsum("nc,ncha->nha", weights, candidates)
