"""Packing episodes into trials.

A trial is all episodes of one environment with one task, in order. Packing moves the steps that happened to the front
and padding to the end, so that a recurrent pass over a packed trial computes the same memories as acting.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from metarl.types import Bools, Floats, Trajectories


@dataclass(frozen=True)
class Trials:
    """The episodes of each environment in order, without gaps: `B = M * E` trials of up to `L` steps.

    Args:
        observations: `[B, L, O]`, before each step.
        next_observations: `[B, L, O]`, after each step: at the end of an episode its last one, not the next's first.
        actions: `[B, L, A]`, as the environment received them.
        rewards: `[B, L]`.
        over: `[B, L]`, True on the last step of each episode.
        truncated: `[B, L]`, True if a time limit ended it, and the task did not terminate.
        mask: `[B, L]`, True on the steps that happened, which come first.
        extras: Arrays that the agent recorded while acting, each `[B, L, ...]`.
    """

    observations: Floats
    next_observations: Floats
    actions: Floats
    rewards: Floats
    over: Bools
    truncated: Bools
    mask: Bools
    extras: Mapping[str, Floats]


def pack_trials(trajectories: Sequence[Trajectories]) -> Trials:
    """Joins the collects of a meta-batch along time and moves the steps that happened to the front.

    Args:
        trajectories: One per episode of the trial, each `[M, E, T, ...]`.
    """
    rows = trajectories[0].mask.shape[0] * trajectories[0].mask.shape[1]

    def joined(arrays: Sequence[Floats]) -> Floats:
        long = np.concatenate(arrays, axis=2)  # [M, E, (K + 1) * T, ...]
        return long.reshape(rows, *long.shape[2:])

    mask = joined([t.mask for t in trajectories])
    order = np.argsort(~mask, axis=1, kind="stable")[:, : mask.sum(axis=1).max()]

    def packed(arrays: Sequence[Floats]) -> Floats:
        long = joined(arrays)
        return np.take_along_axis(long, order.reshape(*order.shape, *[1] * (long.ndim - 2)), axis=1)

    return Trials(
        observations=packed([t.observations for t in trajectories]),
        next_observations=packed([t.next_observations for t in trajectories]),
        actions=packed([t.actions for t in trajectories]),
        rewards=packed([t.rewards for t in trajectories]),
        over=packed([last_steps(t.mask) for t in trajectories]),
        truncated=packed([t.truncated & ~t.terminated for t in trajectories]),
        mask=packed([t.mask for t in trajectories]),
        extras={key: packed([t.extras[key] for t in trajectories]) for key in trajectories[0].extras},
    )


def last_steps(mask: Bools) -> Bools:
    """True on the last step that happened along the last axis; the mask has no gaps."""
    after = np.zeros_like(mask)
    after[..., :-1] = mask[..., 1:]
    return mask & ~after


def step_after(values: Tensor, mask: Bools) -> Tensor:
    """The entry after each trial's last step, `[B, ...]`, of `[B, L + 1, ...]`."""
    return values[torch.arange(len(mask)), torch.tensor(mask.sum(axis=1))]


def steps_in_episode(over: Bools) -> Floats:
    """Steps since the start of the episode, from 0 on, `[B, L]`.

    Args:
        over: True on the last step of each episode, `[B, L]`.
    """
    index = np.arange(over.shape[-1])
    starts = np.zeros(over.shape, dtype=np.int64)
    starts[..., 1:] = np.where(over[..., :-1], index[1:], 0)
    return (index - np.maximum.accumulate(starts, axis=-1)).astype(np.float64)
