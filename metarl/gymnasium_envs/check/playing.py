"""Plays episodes of a task under given actions and seeds; compares two recordings."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from metarl.types import Bools, Floats, Task
from metarl.vector import TaskVecEnv, random_actions

ROUNDING = {np.float32: 1e-6, np.float64: 1e-9}
"""Relative differences up to these are rounding errors, by the precision of the numbers."""
FEWEST_STEPS = 3
"""Smallest number of recorded steps, even if observations need much memory."""
SMALLEST = 1e-13
"""Absolute differences up to this are rounding errors."""


@dataclass(frozen=True)
class Recording:
    """Episodes of one task under given actions.

    Args:
        observations: `[T + 1, E, O]`.
        rewards: `[T, E]`.
        terminated: `[T, E]`.
        truncated: `[T, E]`.
        diverged: Whether a number was not finite, or a simulation diverged.
    """

    observations: Floats
    rewards: Floats
    terminated: Bools
    truncated: Bools
    diverged: bool

    @property
    def steps(self) -> int:
        """`T`; less than the number of actions if the time was up or all episodes were done."""
        return len(self.rewards)

    @property
    def live(self) -> Bools:
        """Whether a row's episode was not done before the step, `[T, E]`."""
        over = np.cumsum(self.terminated | self.truncated, axis=0) > 0
        return ~np.concatenate([np.zeros_like(over[:1]), over[:-1]])


def play(
    envs: TaskVecEnv,
    task: Task,
    actions: Floats,
    seed: int = 0,
    *,
    began: Callable[[], None] = lambda: None,
    going: Callable[[], bool] = lambda: True,
    stop: Callable[[int, Floats, Floats, Bools], bool] | None = None,
) -> Recording:
    """Plays one task in every row.

    Args:
        envs: One task of `E` rows.
        task: The task.
        actions: `[T, E, ...]`.
        seed: Seed of the reset.
        began: Called after the reset.
        going: Called before each step; False ends the play.
        stop: Called after each step with step, observations `[E, O]`, rewards and dones `[E]`; True ends the play.
    """
    envs.set_tasks([task])
    observation, _ = envs.reset(seed=seed)
    observations, columns, diverged = [observation], list[Sequence[np.ndarray]](), not np.isfinite(observation).all()
    over = np.zeros(envs.num_envs, dtype=np.bool_)
    began()
    for t, action in enumerate(actions):
        if over.all() or not going():
            break
        observation, reward, terminated, truncated, infos = envs.step(action)
        observations.append(observation)
        columns.append((reward, terminated, truncated))
        diverged |= bool(infos["diverged"].any() or not np.isfinite(reward).all() or not np.isfinite(observation).all())
        over |= terminated | truncated
        if stop is not None and stop(t, observation, reward, terminated | truncated):
            break
    if not columns:
        none = np.zeros((0, envs.num_envs))
        return Recording(np.stack(observations), none, none > 0, none > 0, bool(diverged))
    rewards, terminations, truncations = (np.stack(column) for column in zip(*columns, strict=True))
    return Recording(np.stack(observations), rewards, terminations, truncations, bool(diverged))


def varied_actions(envs: TaskVecEnv, most_bytes: int = 2**26) -> Floats:
    """Random actions `[T, E, ...]` of three kinds; independent actions alone explore little.

    `T` is the horizon, or less if the observations of one recording would need more than `most_bytes` of memory.

    Rows 0, 3, 6, ... repeat one action for the whole episode. Rows 1, 4, 7, ... repeat each action for a random number
    of steps, every second one from the corners of the space. The other rows act independently at each step.
    """
    rng, rows, space = np.random.default_rng(0), envs.num_envs, envs.single_action_space
    size = 8 * rows * int(np.prod(envs.single_observation_space.shape))
    horizon = min(envs.horizon, max(most_bytes // size, FEWEST_STEPS))
    actions = np.stack([random_actions(space, rows, rng) for _ in range(horizon)])
    actions[:, ::3] = actions[0, ::3]
    for row in range(1, rows, 3):
        start, corner = 0, False
        while start < horizon:
            stretch = round(math.exp(rng.uniform(math.log(3.0), math.log(max(horizon / 3, 4.0)))))
            action = actions[start, row]
            if corner and np.ndim(action):
                low, high = np.clip(space.low, -1e3, None), np.clip(space.high, None, 1e3)  # type: ignore[union-attr]
                bounded = np.isfinite(space.low) & np.isfinite(space.high)  # type: ignore[union-attr]
                action = np.where(bounded, np.where(rng.random(action.shape) < 0.5, low, high), action)
            actions[start : start + stretch, row] = action
            start, corner = start + stretch, not corner
    return actions


# Differences ---------------------------------------------------------------------------------------------


def rounding(*values: Floats) -> Floats:
    """Largest rounding error, for each component of the last axis (or one number for `[T, E]`)."""
    flat = np.concatenate([v.reshape(-1, v.shape[-1]) if v.ndim > 2 else v.reshape(-1, 1) for v in values])
    flat = np.where(np.isfinite(flat), flat, 0.0)
    single = (flat.astype(np.float32) == flat).all(axis=0)
    share = np.where(single, ROUNDING[np.float32], ROUNDING[np.float64])
    result: Floats = share * np.abs(flat).max(axis=0, initial=0.0) + SMALLEST
    return result if values[0].ndim > 2 else result[0]


@dataclass(frozen=True)
class Change:
    """A difference of a series between two recordings.

    Args:
        step: First step with a difference beyond rounding errors; 0 is the reset.
        share: Largest difference, relative to the range of its component over the episodes.
        grown: Whether the difference was at first a rounding error, so that the dynamics may be chaotic.
    """

    step: int
    share: float
    grown: bool


@dataclass(frozen=True)
class Difference:
    """Differences between two recordings under the same seeds and actions; None for no difference.

    Args:
        observations: Difference of the observations.
        rewards: Difference of the rewards, over the steps of both.
        ends: First step at which an episode ends in only one of them.
    """

    observations: Change | None
    rewards: Change | None
    ends: int | None

    def __bool__(self) -> bool:
        return self.observations is not None or self.rewards is not None or self.ends is not None


def difference(one: Recording, two: Recording) -> Difference:
    """Compares two recordings over the steps that both have."""
    steps = min(one.steps, two.steps)
    live = one.live[:steps] & two.live[:steps]
    (a, b), (p, q) = ((r.observations[: steps + 1] for r in (one, two)), (r.rewards[:steps] for r in (one, two)))
    ends = [(r.terminated | r.truncated)[:steps] for r in (one, two)]
    apart = np.flatnonzero((ends[0] != ends[1]).any(axis=1))
    both = np.concatenate([live[:1] | True, live]) if steps else np.ones(a.shape[:2], dtype=np.bool_)
    return Difference(
        observations=_change(a, b, both, 0),
        rewards=_change(p, q, live, 1),
        ends=int(apart[0]) + 1 if len(apart) else None,
    )


def _change(one: Floats, two: Floats, live: Bools, first: int) -> Change | None:
    """The change between series `[T, E]` or `[T, E, O]` over the live steps `[T, E]`; row 0 is step `first`."""
    if not one.size:
        return None
    gap = np.abs(np.nan_to_num(one) - np.nan_to_num(two)) * (live if one.ndim == 2 else live[..., None])
    beyond = (gap > rounding(one, two)).reshape(len(gap), -1).any(axis=1)
    if not beyond.any():
        return None
    step = int(np.flatnonzero(beyond)[0])
    both = np.concatenate([one, two])
    spread = both.max(axis=(0, 1)) - both.min(axis=(0, 1))
    largest = gap.max(axis=(0, 1))
    share = float(np.max(largest / np.where(spread > 0, spread, np.inf)))
    return Change(step + first, share, bool((gap[:step] > 0).any()))


def differs_from(first: Recording) -> Callable[[int, Floats, Floats, Bools], bool]:
    """A `stop` for `play`: true when an episode ends differently, or observations and rewards have clearly changed."""
    about, bar = 10.0 * rounding(first.observations), 10.0 * rounding(first.rewards)
    ends, seen = first.terminated | first.truncated, [False, False]

    def differs(t: int, observation: Floats, reward: Floats, ended: Bools) -> bool:
        seen[0] |= bool((np.abs(observation - first.observations[t + 1]) > about).any())
        seen[1] |= bool((np.abs(reward - first.rewards[t]) > bar).any())
        return all(seen) or bool((ended != ends[t]).any())

    return differs


RewardKind = Literal["constant", "action", "state"]


def reward_kind(recordings: Sequence[Recording]) -> RewardKind:
    """Whether rewards were constant, depended on the action alone, or depended on the state too.

    Rows 0, 3, 6, ... of `varied_actions` repeat their action, so a reward that changes there depends on the state.
    """
    rewards = np.concatenate([r.rewards[r.live] for r in recordings])
    if not rewards.size or np.ptp(rewards) <= 2 * float(rounding(rewards.reshape(1, -1))):
        return "constant"
    for recording in recordings:
        for row in range(0, recording.rewards.shape[1], 3):
            series = recording.rewards[recording.live[:, row], row]
            if series.size and np.ptp(series) > 2 * float(rounding(series.reshape(1, -1))):
                return "state"
    return "action"


def same_length_terminations(recordings: Sequence[Recording]) -> int:
    """The common length of all episodes if all terminated and it is above 1; otherwise 0.

    Random actions from several starts seldom all fail at one step, so this is a time limit reported as termination.
    """
    lengths = set[int]()
    for recording in recordings:
        if recording.truncated.any() or not recording.terminated.any(axis=0).all():
            return 0
        lengths |= {int(n) + 1 for n in recording.terminated.argmax(axis=0)}
    return lengths.pop() if len(lengths) == 1 and max(lengths) > 1 else 0
