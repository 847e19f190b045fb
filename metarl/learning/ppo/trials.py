"""PPO on whole trials: settings, ends of returns, advantages across episodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from metarl.learning.experience.returns import (
    baseline_features,
    discounted_sums,
    fit_linear_baseline,
    generalised_advantages,
)
from metarl.learning.experience.trials import Trials, steps_in_episode
from metarl.learning.ppo.learner import PpoSamples, PpoSettings, normalise_over_steps
from metarl.learning.trials.settings import MemorySettings
from metarl.types import Bools, Floats


@dataclass(frozen=True, kw_only=True)
class TrialSettings(MemorySettings, PpoSettings):
    """Settings of all agents with a memory that spans a trial and that are trained by PPO."""

    critic: Literal["network", "linear"] = "network"
    """Baseline of the advantages: network, the value function that reads the memory.
    linear: the linear feature baseline, fitted to the returns of each trial; then no value function is trained."""


def trial_advantages(
    rewards: Floats,
    values: Floats,
    ends: Bools,
    gamma: float,
    lam: float,
    cut: Bools | None = None,
    final_values: Floats | None = None,
) -> Floats:
    """Generalised advantages over trials, `[B, L]`; returns continue into the next episode unless they end.

    Args:
        rewards: `[B, L]`.
        values: Values before each step, `[B, L]`, zero on padding.
        ends: Ends of returns, `[B, L]`, from `trial_ends`.
        gamma: Discount per step.
        lam: Decay of the multi-step estimators.
        cut: Ends by a time limit, which are bootstrapped, `[B, L]`; none by default.
        final_values: The bootstrap value of each end, in the order of `ends`; read if `cut` is True there.
    """
    next_values = np.zeros_like(values)
    next_values[:, :-1] = values[:, 1:]
    if cut is None or final_values is None:
        return generalised_advantages(rewards, values, next_values, ends, np.zeros_like(ends), gamma, lam)
    next_values[ends] = final_values
    return generalised_advantages(rewards, values, next_values, ends & ~cut, cut, gamma, lam)


def trial_returns(rewards: Floats, ends: Bools, gamma: float) -> Floats:
    """Discounted returns over trials, `[B, L]`; the arguments are those of `trial_advantages`."""
    return discounted_sums(rewards, (~ends).astype(np.float64), gamma)


def linear_values(observations: Floats, trials: Trials, returns: Floats) -> Floats:
    """The linear feature baseline, fitted to the returns of each trial (Duan et al. 2016, arXiv:1604.06778).

    Args:
        observations: Observations that the policy saw, `[B, L, O]`.
        trials: The trials. The time in the features starts anew with each episode.
        returns: Returns from each step on, `[B, L]`, from `trial_returns`.

    Returns:
        Values before each step, `[B, L]`, zero on padding.
    """
    features = baseline_features(observations[:, None], steps_in_episode(trials.over)[:, None])
    values = fit_linear_baseline(features, returns[:, None], trials.mask[:, None])[:, 0]
    return np.where(trials.mask, values, 0.0)


def trial_samples(
    trials: Trials,
    ends: Bools,
    reward_scale: float,
    settings: PpoSettings,
    device: torch.device,
    final_values: Floats | None = None,
    values: Floats | None = None,
) -> PpoSamples:
    """The samples of whole trials for PPO, `[B, L, ...]`, on the device.

    Args:
        trials: The trials, with the extras `policy_output`, `log_prob`, `value`.
        ends: Ends of returns, from `trial_ends`.
        reward_scale: Divisor of the rewards.
        settings: Discount and estimator.
        device: Device of the samples.
        final_values: Bootstrap value of each end by a time limit, in the order of `ends`; by default all ends are
            terminal.
        values: Values before each step, `[B, L]`; by default those that were recorded while acting.
    """
    values = trials.extras["value"].astype(np.float64) if values is None else values
    rewards = trials.rewards / reward_scale
    cut = ends & trials.truncated
    advantages = trial_advantages(rewards, values, ends, settings.gamma, settings.gae_lambda, cut, final_values)
    arrays = {
        "actions": trials.extras["policy_output"],
        "log_probs": trials.extras["log_prob"],
        "values": values,
        "targets": advantages + values,
        "advantages": normalise_over_steps(advantages, trials.mask) if settings.normalise_advantages else advantages,
        "mask": trials.mask,
    }
    return PpoSamples.of(arrays, device)
