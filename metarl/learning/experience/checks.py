"""Checks of the arguments of an agent's methods, with one-line errors for users who write their own loop."""

from __future__ import annotations

import numpy as np

from metarl.types import Spaces, Step, Trajectories


def check_step(step: Step, spaces: Spaces, tasks: int | None = None, episodes: int | None = None) -> None:
    """Checks that a step fits an agent and its state.

    Args:
        step: The step to act on.
        spaces: Spaces that the agent was built for.
        tasks: `M` of the state; None for any.
        episodes: `E` of the state; None for any.

    Raises:
        ValueError: The number of tasks, episodes or observation features differs.
    """
    m, e, o = step.observation.shape
    if o != spaces.observation_size or m != (tasks or m) or e != (episodes or e):
        raise ValueError(
            f"act: got observations of {m} tasks x {e} episodes x {o} numbers, expected {tasks or m} x {episodes or e} "
            f"x {spaces.observation_size}, the sizes of the agent's spaces and of the last `begin`"
        )


def check_episodes(
    trajectories: Trajectories,
    spaces: Spaces,
    tasks: int | None = None,
    episodes: int | None = None,
    *,
    recorded: tuple[str, ...] = (),
) -> int:
    """Checks that an agent can adapt to trajectories.

    Args:
        trajectories: Trajectories of whole episodes.
        spaces: Spaces that the agent was built for.
        tasks: `M` of the state; None for any.
        episodes: `E` of the state; None if the agent pools episodes.
        recorded: Names of the extras that the agent reads.

    Returns:
        The number of episodes per environment, if several collects were joined by `Trajectories.join_episodes`.

    Raises:
        ValueError: Sizes differ, an episode has not ended, or an extra is missing.
    """
    m, e, t = trajectories.shape
    o = trajectories.all_observations.shape[-1]
    if (m, t, o) != (tasks or m, spaces.horizon, spaces.observation_size) or e % (episodes or 1):
        raise ValueError(
            f"adapt: got trajectories of {m} tasks x {e} episodes x {t} steps with {o} numbers, expected {tasks or m} "
            f"x {episodes or e} x {spaces.horizon} with {spaces.observation_size}, the sizes of the agent's spaces and "
            "of the last `begin` (or several collects joined by Trajectories.join_episodes)"
        )
    missing = [name for name in recorded if name not in trajectories.extras]
    if missing:
        raise ValueError(
            f"adapt: got trajectories without {missing[0]!r}, which `act` records; pass its Action unchanged to `add`"
        )
    steps = trajectories.mask.sum(axis=2)
    open_ended = (steps < t) & ~(trajectories.terminated | trajectories.truncated).any(axis=2)
    if open_ended.any():
        task, episode = (int(i) for i in np.argwhere(open_ended)[0])
        raise ValueError(
            f"adapt: got an episode that has not ended (task {task}, episode {episode}: {steps[task, episode]} of {t} "
            "steps, neither terminated nor truncated); continue while `unfinished`, or mark the last step truncated"
        )
    return e // (episodes or e)


def check_task(task: int, tasks: int) -> None:
    """Checks the index of a task.

    Raises:
        ValueError: The state has no such task.
    """
    if not 0 <= task < tasks:
        raise ValueError(f"save_policy: got task {task}, expected a number from 0 to {tasks - 1}, a task of this state")
