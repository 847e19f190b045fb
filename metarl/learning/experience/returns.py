"""Returns, advantages and the linear feature baseline, batched over tasks (NumPy, float64)."""

from __future__ import annotations

import numpy as np

from metarl.learning.device.process import matrix_library
from metarl.types import Bools, Floats, Trajectories

PRIMAL_FEATURES = 500
"""Largest number of features for which the linear baseline is always solved in primal form."""


def discounted_sums(values: Floats, continues: Floats, gamma: float) -> Floats:
    """`y[t] = values[t] + gamma * continues[t] * y[t + 1]` along the last axis.

    Args:
        values: `[M, E, T]`.
        continues: `[M, E, T]`, 1 if the next step belongs to the same episode, else 0.
        gamma: Discount per step.
    """
    sums, running = np.empty_like(values), np.zeros(values.shape[:-1])
    for t in reversed(range(values.shape[-1])):
        running = values[..., t] + gamma * continues[..., t] * running
        sums[..., t] = running
    return sums


def generalised_advantages(
    rewards: Floats,
    values: Floats,
    next_values: Floats,
    terminated: Bools,
    truncated: Bools,
    gamma: float,
    lam: float,
) -> Floats:
    """Generalised advantage estimation (Schulman et al. 2016, arXiv:1506.02438, equation 16).

    A terminated step has no further return; a truncated one is bootstrapped from `next_values`.

    Args:
        rewards: `[M, E, T]`.
        values: Estimated value of the state before each step, `[M, E, T]`.
        next_values: Estimated value of the state after each step, `[M, E, T]`.
        terminated: `[M, E, T]`.
        truncated: `[M, E, T]`.
        gamma: Discount per step.
        lam: Decay of the multi-step estimators.

    Returns:
        Advantages, `[M, E, T]` float64.
    """
    residuals = rewards + gamma * np.where(terminated, 0.0, next_values) - values
    return discounted_sums(residuals, (~(terminated | truncated)).astype(np.float64), gamma * lam)


def normalise(advantages: Floats, mask: Bools, epsilon: float = 1e-8) -> Floats:
    """Advantages with mean 0 and standard deviation 1 over the steps of each task, `[M, E, T]`; zero where masked."""
    count = mask.sum(axis=(1, 2), keepdims=True)
    mean = np.sum(advantages, axis=(1, 2), keepdims=True, where=mask) / count
    centred = np.where(mask, advantages - mean, 0.0)
    std = np.sqrt(np.square(centred).sum(axis=(1, 2), keepdims=True) / count)
    return np.asarray(centred / (std + epsilon))


def baseline_size(observation_size: int) -> int:
    """Number of features of the linear baseline: its weights per task."""
    return 2 * observation_size + 4


def in_dual_form(features: int, steps: int) -> bool:
    """Whether to solve the baseline in dual form, with one unknown per step instead of one per feature."""
    return features > max(steps, PRIMAL_FEATURES)


def baseline_features(observations: Floats, steps: Floats | None = None) -> Floats:
    """`[o, o^2, t/100, (t/100)^2, (t/100)^3, 1]` (Duan et al. 2016, arXiv:1604.06778), `[M, E, T, 2 O + 4]`.

    Args:
        observations: `o`, `[M, E, T, O]`.
        steps: `t`, `[M, E, T]`; by default 0, 1, 2, ... along the last axis.
    """
    o = observations.shape[-1]
    features = np.empty((*observations.shape[:3], baseline_size(o)))
    features[..., :o] = observations
    np.square(features[..., :o], out=features[..., o : 2 * o])
    time = (np.arange(observations.shape[2]) if steps is None else steps) / 100.0
    features[..., 2 * o :] = np.stack([time, time**2, time**3, np.ones_like(time)], axis=-1)
    return features


def fit_linear_baseline(features: Floats, targets: Floats, mask: Bools, ridge: float = 1e-5) -> Floats:
    """Ridge regression per task, in one batched solve.

    Solves `(X^T X + ridge I) w = X^T y` over the steps of each task. If the solution of a task is not finite, its ridge
    is multiplied by 10, up to five times. With more features than steps (images) the dual form is solved instead:
    `(X X^T + ridge I) a = y` with `w = X^T a`, which has one unknown per step.

    Args:
        features: `X`, `[M, E, T, F]`.
        targets: `y`, `[M, E, T]`.
        mask: `[M, E, T]`, True on the steps to fit.
        ridge: Regularisation, in units of the squared features.

    Returns:
        Predicted values at every step, `[M, E, T]`.
    """
    with matrix_library().limit(limits=1):
        return _fitted(features, targets, mask, ridge)


def _fitted(features: Floats, targets: Floats, mask: Bools, ridge: float) -> Floats:
    m, f = len(features), features.shape[-1]
    x = (features if mask.all() else features * mask[..., None]).reshape(m, -1, f)
    y = (targets * mask).reshape(m, -1, 1)
    dual = in_dual_form(f, x.shape[1])
    if dual:
        gram, moment = x @ x.transpose(0, 2, 1), y  # [M, B, B], [M, B, 1]
    else:
        gram, moment = x.transpose(0, 2, 1) @ x, x.transpose(0, 2, 1) @ y  # [M, F, F], [M, F, 1]
    weights, unit = np.full(moment.shape, np.nan), np.eye(gram.shape[-1])
    for attempt in range(6):
        todo = np.flatnonzero(~np.isfinite(weights).all(axis=(1, 2)))
        if not len(todo):
            break
        try:
            weights[todo] = np.linalg.solve(gram[todo] + ridge * 10.0**attempt * unit, moment[todo])
        except np.linalg.LinAlgError:  # a singular task fails the whole batch: solve one by one
            for i in todo:
                try:
                    weights[i] = np.linalg.solve(gram[i] + ridge * 10.0**attempt * unit, moment[i])
                except np.linalg.LinAlgError:
                    continue
    weights = np.where(np.isfinite(weights).all(axis=(1, 2), keepdims=True), weights, 0.0)
    if dual:
        weights = x.transpose(0, 2, 1) @ weights
    return (features.reshape(m, -1, f) @ weights).reshape(targets.shape)


def policy_advantages(
    observations: Floats,
    rewards: Floats,
    trajectories: Trajectories,
    *,
    gamma: float,
    lam: float,
    ridge: float | None,
) -> Floats:
    """Advantages by NumPy; see `metarl.learning.experience.advantages.policy_advantages`.

    Args:
        observations: Observations that the policy saw, `[M, E, T, O]`.
        rewards: Rewards as the learner scales them, `[M, E, T]`.
        trajectories: Source of the mask and of the ends of episodes.
        gamma: Discount per step.
        lam: Decay of generalised advantage estimation.
        ridge: Regularisation of the linear baseline; None for no baseline.

    Returns:
        `[M, E, T]` float32, zero where masked.
    """
    over, mask = trajectories.terminated | trajectories.truncated, trajectories.mask
    rewards = rewards.astype(np.float64)
    if ridge is None:
        values = np.zeros_like(rewards)
    else:
        returns = discounted_sums(rewards, (~over).astype(np.float64), gamma)
        values = fit_linear_baseline(baseline_features(observations), returns, mask, ridge)
    next_values = np.zeros_like(values)
    next_values[..., :-1] = np.where(over[..., :-1], 0.0, values[..., 1:])
    advantages = generalised_advantages(
        rewards, values, next_values, trajectories.terminated, trajectories.truncated, gamma, lam
    )
    return normalise(advantages, mask).astype(np.float32)
