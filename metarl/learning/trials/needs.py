"""Memory that agents will need (`metarl.memory.Need`)."""

from __future__ import annotations

from metarl.memory import FLOAT, LEARNED, SAVED, Need, RunSize
from metarl.types import Spaces


def networks_need(parameters: int, size: RunSize, remedy: str) -> Need:
    """Networks that Adam trains.

    Args:
        parameters: Number of parameters.
        size: Size of the training.
        remedy: Options that reduce the number, worded to follow "try".
    """
    copies = 1 if size.gpu else LEARNED
    return Need(f"networks of {parameters:,} parameters", FLOAT * copies * parameters, remedy)


def trials_need(spaces: Spaces, size: RunSize, episodes: int, units: int) -> Need:
    """The packed trials of an iteration, and the memories at each step of one minibatch.

    Args:
        spaces: Sizes and horizon.
        size: Size of the training.
        episodes: Episodes of a trial.
        units: Numbers per memory.
    """
    steps = size.tasks * size.episodes * episodes * spaces.horizon
    return Need(
        f"trials of {episodes * spaces.horizon:,} steps for {size.tasks * size.episodes:,} environments",
        FLOAT * steps * (2 * spaces.observation_size + spaces.action_size + (0 if size.gpu else units)),
        "fewer --tasks or --episodes, or a shorter --horizon",
    )


def memories_need(size: RunSize, numbers: int) -> Need:
    """The memories of all environments, before and after an episode.

    Args:
        size: Size of the training.
        numbers: Numbers in the memory of one environment.
    """
    rows = size.tasks * size.episodes
    copies = 1 if size.gpu else 2
    remedy = (
        "fewer --tasks or --episodes, fewer --agent.units, a shorter --horizon, an --agent.attention-window, or "
        "another --agent.cell"
    )
    return Need(
        f"memories of {rows:,} environments, {numbers:,} numbers each,", FLOAT * copies * rows * numbers, remedy
    )


def buffer_need(spaces: Spaces, size: RunSize, episodes: int, capacity: int, flags: int = 1) -> Need:
    """A buffer of whole trials, with both observations, action, reward and flags of each step.

    Args:
        spaces: Sizes and horizon.
        size: Size of the training.
        episodes: Episodes of a trial.
        capacity: Capacity of the buffer, in trials.
        flags: Number of flags per step, such as the end of an episode.
    """
    width = 2 * spaces.observation_size + spaces.action_size + 1 + flags
    return columns_need(episodes * spaces.horizon, size, capacity, width)


def columns_need(steps: int, size: RunSize, capacity: int, width: int) -> Need:
    """A buffer of whole trials.

    Args:
        steps: Steps of a trial.
        size: Size of the training.
        capacity: Capacity of the buffer, in trials.
        width: Numbers of each step.
    """
    stored = min(capacity, size.iterations * size.tasks * size.episodes)
    return Need(
        f"the buffer, of {capacity:,} trials of {steps:,} steps with {width:,} numbers each,",
        SAVED * stored * FLOAT * steps * width,
        "a smaller --agent.buffer-trials",
        reserved=capacity * FLOAT * steps * width,
    )
