"""What PPO learns from whole trials: settings, where returns end, advantages across episodes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from metarl.config import Positive, Rounds
from metarl.learning.experience.returns import discounted_sums, generalised_advantages
from metarl.learning.experience.trials import Trials, last_steps
from metarl.learning.ppo.learner import PpoSamples, PpoSettings, normalise_over_steps
from metarl.types import Bools, Floats


@dataclass(frozen=True, kw_only=True)
class TrialSettings(PpoSettings):
    """What the agents that act and learn in trials have in common."""

    episodes_per_trial: Rounds = 2
    """Episodes of one task that a memory lives through; usually 2 to 10."""
    reward_input_scale: Positive = 1.0
    """Factor of the previous reward where it is an input, and there alone; Meta-World+ uses 0.1."""
    episodes_cut_returns: bool = False
    """Let the learner's returns end with each episode, in place of going on to the end of the trial."""
    finite_trials: bool = False
    """Treat the end of a trial as terminal (bandits, whose steps are counted), and the end of each episode with
    episodes_cut_returns. Otherwise bootstrap from the value function where the time limit ended the return."""


def trial_ends(trials: Trials, cut_episodes: bool) -> Bools:
    """Where a return ends, `[B, L]`: at the trial's last step, or at every episode's."""
    return trials.over if cut_episodes else last_steps(trials.mask)


def trial_advantages(
    rewards: Floats,
    values: Floats,
    ends: Bools,
    gamma: float,
    lam: float,
    cut: Bools | None = None,
    final_values: Floats | None = None,
) -> Floats:
    """Generalised advantages over trials, `[B, L]`: the return goes on into the next episode unless it ends.

    Args:
        rewards: `[B, L]`.
        values: Of the memory and observation before each step, `[B, L]`, zero on padding.
        ends: `[B, L]`, as `trial_ends` has them.
        gamma: Discount per step.
        lam: Decay of the multi-step estimators.
        cut: Ends that are time limits, after which there was more to earn, `[B, L]`; none by default.
        final_values: What there was to earn after each end, in the order of `ends`; counts where `cut` is True.
    """
    next_values = np.zeros_like(values)
    next_values[:, :-1] = values[:, 1:]
    if cut is None or final_values is None:
        return generalised_advantages(rewards, values, next_values, ends, np.zeros_like(ends), gamma, lam)
    next_values[ends] = final_values
    return generalised_advantages(rewards, values, next_values, ends & ~cut, cut, gamma, lam)


def trial_returns(rewards: Floats, ends: Bools, gamma: float) -> Floats:
    """Discounted returns over trials, `[B, L]`; the arguments are as in `trial_advantages`."""
    return discounted_sums(rewards, (~ends).astype(np.float64), gamma)


def trial_samples(
    trials: Trials,
    ends: Bools,
    reward_scale: float,
    settings: PpoSettings,
    device: torch.device,
    final_values: Floats | None = None,
) -> PpoSamples:
    """What PPO learns from whole trials, `[B, L, ...]`, on the device.

    Args:
        trials: With what acting recorded: `policy_output`, `log_prob`, `value`.
        ends: As `trial_ends` has them.
        reward_scale: What the rewards are divided by.
        settings: Discount and estimator.
        device: Where to.
        final_values: What there was to earn after each end, in the order of `ends`, had the clock not cut it; by
            default an end is that of a problem of finite length, after which there is nothing.
    """
    values = trials.extras["value"].astype(np.float64)
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
