"""Settings of every agent with a memory that spans a trial, and the ends of its returns."""

from __future__ import annotations

from dataclasses import dataclass

from metarl.config import Positive, Rounds
from metarl.learning.experience.trials import Trials, last_steps
from metarl.types import Bools, Spaces


@dataclass(frozen=True, kw_only=True)
class MemorySettings:
    """Settings of all agents with a memory that spans a trial."""

    episodes_per_trial: Rounds = 2
    """Episodes per trial; the memory is reset between trials. Usually 2 to 10."""
    reward_input_scale: Positive = 1.0
    """Factor on the previous reward as an input of the network; Meta-World+ uses 0.1."""
    episodes_cut_returns: bool = False
    """End each return with its episode instead of at the end of the trial."""
    finite_trials: bool = False
    """Treat the end of a trial as terminal (bandits); with episodes_cut_returns, the end of each episode.
    Otherwise bootstrap from the value function when the time limit ended the return."""


def trial_steps(settings: MemorySettings, spaces: Spaces) -> int:
    """`L`, steps of a trial if no episode ends early."""
    return settings.episodes_per_trial * spaces.horizon


def trial_ends(trials: Trials, cut_episodes: bool) -> Bools:
    """Ends of returns, `[B, L]`: True on the last step of the trial, or of each episode."""
    return trials.over if cut_episodes else last_steps(trials.mask)
