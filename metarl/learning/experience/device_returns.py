"""The advantages of `returns` by torch, for a GPU: few and large kernels, float64.

The numbers equal NumPy's up to rounding. On a CPU NumPy is as fast.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from metarl.learning.device.chunks import chunks_that_fit
from metarl.learning.device.gpu import send
from metarl.learning.experience.returns import in_dual_form
from metarl.types import Floats, Trajectories

ATTEMPTS = 6
"""Attempts to solve the baseline of a task, each with ten times the ridge of the last."""
FEATURE_TENSORS = 4
"""Copies of a task's features in memory at a time, rounded up."""


def discounted_sums(values: Tensor, continues: Tensor, gamma: float) -> Tensor:
    """`y[t] = values[t] + gamma * continues[t] * y[t + 1]` along the last axis, in `log2(T)` passes over all steps.

    A pass doubles the number of steps in each partial sum and in each product of discounts (Hillis and Steele 1986,
    "Data Parallel Algorithms").

    Args:
        values: `[M, E, T]`.
        continues: `[M, E, T]`, 1 if the next step belongs to the same episode, else 0.
        gamma: Discount per step.
    """
    sums, weights, reach = values.clone(), gamma * continues, 1
    while reach < values.shape[-1]:
        sums[..., :-reach] += weights[..., :-reach] * sums[..., reach:].clone()
        weights[..., :-reach] *= weights[..., reach:].clone()
        reach *= 2
    return sums


def baseline_features(observations: Tensor) -> Tensor:
    """`returns.baseline_features` as a tensor: `[M, E, T, 2 O + 4]` float64 for observations `[M, E, T, O]`."""
    seen = observations.double()
    time = torch.arange(seen.shape[2], dtype=seen.dtype, device=seen.device).unsqueeze(-1) / 100.0  # [T, 1]
    powers = torch.cat([time, time**2, time**3, torch.ones_like(time)], dim=-1)
    return torch.cat([seen, seen.square(), powers.expand(*seen.shape[:2], *powers.shape)], dim=-1)


def fit_linear_baseline(observations: Tensor, targets: Tensor, mask: Tensor, ridge: float) -> Tensor:
    """Ridge regression of the targets on `baseline_features`; see `returns.fit_linear_baseline`.

    Args:
        observations: `[M, E, T, O]`.
        targets: `[M, E, T]` float64.
        mask: `[M, E, T]`, True on the steps to fit.
        ridge: Regularisation, in units of the squared features.

    Returns:
        Predicted values at every step, `[M, E, T]` float64.
    """
    x = baseline_features(observations).flatten(1, 2)  # [M, E * T, F]
    counted = x * mask.flatten(1).unsqueeze(-1)
    counted_targets = (targets * mask).flatten(1).unsqueeze(-1)  # [M, B, 1]
    dual = in_dual_form(x.shape[2], x.shape[1])
    if dual:
        gram, moment = counted @ counted.mT, counted_targets  # [M, B, B], [M, B, 1]
    else:
        gram, moment = counted.mT @ counted, counted.mT @ counted_targets  # [M, F, F], [M, F, 1]
    identity = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    weights = torch.full_like(moment, torch.nan)
    for attempt in range(ATTEMPTS):
        solved = weights.isfinite().all(dim=1, keepdim=True)
        if bool(solved.all()):
            break
        again, _ = torch.linalg.solve_ex(gram + ridge * 10.0**attempt * identity, moment)
        weights = torch.where(solved, weights, again)
    weights = torch.where(weights.isfinite().all(dim=1, keepdim=True), weights, 0.0)
    return (x @ (counted.mT @ weights if dual else weights)).reshape(targets.shape)


def normalise(advantages: Tensor, mask: Tensor) -> Tensor:
    """See `metarl.learning.experience.returns.normalise`; both arguments are `[M, E, T]`."""
    count = mask.sum(dim=(1, 2), keepdim=True)
    mean = torch.where(mask, advantages, 0.0).sum(dim=(1, 2), keepdim=True) / count
    centred = torch.where(mask, advantages - mean, 0.0)
    std = (centred.square().sum(dim=(1, 2), keepdim=True) / count).sqrt()
    return centred / (std + 1e-8)


def policy_advantages(
    observations: Tensor, rewards: Floats, trajectories: Trajectories, *, gamma: float, lam: float, ridge: float | None
) -> Tensor:
    """Advantages by torch; see `metarl.learning.experience.advantages.policy_advantages`.

    Args:
        observations: Observations that the policy saw, `[M, E, T, O]`, on the device to compute on.
        rewards: Rewards as the learner scales them, `[M, E, T]`.
        trajectories: Source of the mask and of the ends of episodes.
        gamma: Discount per step.
        lam: Decay of generalised advantage estimation.
        ridge: Regularisation of the linear baseline; None for no baseline.

    Returns:
        `[M, E, T]` float32, zero where masked.
    """
    m, e, t, o = observations.shape
    chunks = chunks_that_fit(m, 8 * FEATURE_TENSORS * e * t * (2 * o + 4), observations.device)
    arrays = (rewards.astype(np.float64), trajectories.terminated, trajectories.truncated, trajectories.mask)
    earned, terminated, truncated, mask = (send(a, observations.device) for a in arrays)
    over = terminated | truncated
    goes_on = (~over).double()
    values = torch.zeros_like(earned)
    if ridge is not None:
        returns = discounted_sums(earned, goes_on, gamma)
        parts = [fit_linear_baseline(observations[c], returns[c], mask[c], ridge) for c in chunks]
        values = torch.cat(parts)
    next_values = torch.zeros_like(values)
    next_values[..., :-1] = torch.where(over[..., :-1], 0.0, values[..., 1:])
    residuals = earned + gamma * torch.where(terminated, 0.0, next_values) - values
    return normalise(discounted_sums(residuals, goes_on, gamma * lam), mask).float()
