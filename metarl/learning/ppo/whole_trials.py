"""Trials outside of the update: how a memory takes episodes of a loop of one's own, and what trials need of memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from metarl.learning.device.gpu import send
from metarl.learning.experience.feedback import Feedback
from metarl.learning.experience.trials import pack_trials
from metarl.learning.networks.cells import Remembering
from metarl.learning.ppo.trials import Memory
from metarl.memory import FLOAT, Need, RunSize
from metarl.types import Floats, Spaces, Trajectories


def after_episodes(
    network: Remembering,
    feedback: Feedback,
    inputs: Callable[[Floats, Floats], Floats],
    state: Memory,
    episodes: Sequence[Trajectories],
) -> Memory:
    """The state after one or several episodes of each environment, told how the last one ended.

    Acting has passed a single episode through the memory. Of several that were played without `adapt` in between, the
    network was not told where each ended; they pass through it again, from the memory before them.

    Args:
        network: The network.
        feedback: What it is told of the step before.
        inputs: From observations and feedback to inputs of the network.
        state: The state after having acted.
        episodes: One recording per episode, in order.
    """
    cell = state.cell
    if len(episodes) > 1:
        trials = pack_trials(episodes)
        told = feedback.along(trials.actions, trials.rewards, trials.over)
        told[:, 0] = state.feedback.reshape(len(told), -1)
        before = state.cell if state.before is None else state.before
        with torch.no_grad():
            x = send(inputs(trials.observations, told), cell.device)
            cell = network.memory_after(x, before, torch.tensor(trials.mask.sum(axis=1)))
    return Memory(cell, feedback.at_the_end(episodes[-1]), cell)


def trials_memory(spaces: Spaces, size: RunSize, episodes: int, units: int) -> Need:
    """What packing the trials of an iteration takes, with a memory at each step of those that a minibatch learns from.

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
