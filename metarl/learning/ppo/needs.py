"""Memory that agents trained by PPO will need (`metarl.memory.Need`)."""

from __future__ import annotations

from metarl.memory import FLOAT, LEARNED, SAVED, Need, RunSize
from metarl.types import Spaces


def networks_need(parameters: int, size: RunSize, remedy: str) -> Need:
    """Networks with so many parameters, learned by Adam.

    Args:
        parameters: How many there are.
        size: Of the training.
        remedy: The options that make them fewer, in words that follow "try".
    """
    copies = 1 if size.gpu else LEARNED
    return Need(f"networks of {parameters:,} parameters", FLOAT * copies * parameters, remedy)


def trials_need(spaces: Spaces, size: RunSize, episodes: int, units: int) -> Need:
    """The packed trials of an iteration, with a memory at each step of those that a minibatch learns from.

    Args:
        spaces: Sizes and horizon.
        size: Of the training.
        episodes: Episodes of a trial.
        units: Numbers of a memory.
    """
    steps = size.tasks * size.episodes * episodes * spaces.horizon
    return Need(
        f"trials of {episodes * spaces.horizon:,} steps for {size.tasks * size.episodes:,} environments",
        FLOAT * steps * (2 * spaces.observation_size + spaces.action_size + (0 if size.gpu else units)),
        "fewer --tasks or --episodes, or a shorter --horizon",
    )


def buffer_need(spaces: Spaces, size: RunSize, episodes: int, capacity: int) -> Need:
    """A buffer of whole trials, with both observations, action, reward and end of each step.

    Args:
        spaces: Sizes and horizon.
        size: Of the training.
        episodes: Episodes of a trial.
        capacity: Trials that the buffer holds at most.
    """
    o, steps = spaces.observation_size, episodes * spaces.horizon
    trial = FLOAT * steps * (2 * o + spaces.action_size + 2)
    stored = min(capacity, size.iterations * size.tasks * size.episodes)
    return Need(
        f"the buffer, of {capacity:,} trials of {steps:,} steps with {2 * o:,} numbers each,",
        SAVED * stored * trial,
        "a smaller --agent.buffer-trials",
        reserved=capacity * trial,
    )
