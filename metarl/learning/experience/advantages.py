"""Advantages for policy gradients: by NumPy on a CPU, by torch on a GPU."""

from __future__ import annotations

from torch import Tensor

from metarl.learning.device.gpu import send
from metarl.learning.experience import device_returns, returns
from metarl.types import Floats, Trajectories


def policy_advantages(
    observations: Tensor, rewards: Floats, trajectories: Trajectories, *, gamma: float, lam: float, ridge: float | None
) -> Tensor:
    """Advantages against a baseline that is fitted to the same episodes, normalised per task.

    The linear baseline sees the time step and estimates the return up to the horizon. After the last step, this return
    is zero by definition, so a truncated episode is not bootstrapped. CPU and GPU differ by rounding only.

    Args:
        observations: Observations that the policy saw, `[M, E, T, O]`, on the device to compute on.
        rewards: Rewards as the learner scales them, `[M, E, T]`.
        trajectories: Source of the mask and of the ends of episodes.
        gamma: Discount per step.
        lam: Decay of generalised advantage estimation.
        ridge: Regularisation of the linear baseline; None for no baseline.

    Returns:
        `[M, E, T]` float32 on the device of the observations, zero where masked.
    """
    if observations.is_cuda:
        return device_returns.policy_advantages(observations, rewards, trajectories, gamma=gamma, lam=lam, ridge=ridge)
    found = returns.policy_advantages(observations.numpy(), rewards, trajectories, gamma=gamma, lam=lam, ridge=ridge)
    return send(found, observations.device)  # a copy in torch's own memory: resumed runs repeat bit for bit
