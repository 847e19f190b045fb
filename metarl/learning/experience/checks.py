"""Checks of what a loop of one's own hands to an agent: cheap, and one line for what does not fit."""

from __future__ import annotations

import numpy as np

from metarl.types import Spaces, Step, Trajectories


def check_step(step: Step, spaces: Spaces, tasks: int | None = None, episodes: int | None = None) -> None:
    """Refuses a step that an agent's state does not fit.

    Args:
        step: What the agent is to act on.
        spaces: What it was built for.
        tasks: `M` of its state; None for any.
        episodes: `E` of its state; None for any.

    Raises:
        ValueError: The numbers of tasks, of episodes or of observation features differ.
    """
    m, e, o = step.observation.shape
    if o != spaces.observation_size or m != (tasks or m) or e != (episodes or e):
        raise ValueError(
            f"act: got observations of {m} tasks x {e} episodes x {o} numbers, expected {tasks or m} x {episodes or e} "
            f"x {spaces.observation_size}, as the agent was built and `begin` was told"
        )


def check_episodes(
    trajectories: Trajectories,
    spaces: Spaces,
    tasks: int | None = None,
    episodes: int | None = None,
    *,
    recorded: tuple[str, ...] = (),
) -> int:
    """Refuses trajectories that an agent cannot adapt to.

    Args:
        trajectories: Of whole episodes.
        spaces: What the agent was built for.
        tasks: `M` of its state; None for any.
        episodes: `E` of its state; None where episodes are pooled.
        recorded: Extras of its `act` that it reads.

    Returns:
        How many recordings of all its environments there are, one after another (`Trajectories.join_episodes`).

    Raises:
        ValueError: Sizes differ, an episode has not ended, or an extra is missing.
    """
    m, e, t = trajectories.shape
    o = trajectories.all_observations.shape[-1]
    if (m, t, o) != (tasks or m, spaces.horizon, spaces.observation_size) or e % (episodes or 1):
        raise ValueError(
            f"adapt: got trajectories of {m} tasks x {e} episodes x {t} steps with {o} numbers, expected {tasks or m} "
            f"x {episodes or e} x {spaces.horizon} with {spaces.observation_size}, as the agent was built and `begin` "
            "was told, or several such recordings joined by Trajectories.join_episodes"
        )
    missing = [name for name in recorded if name not in trajectories.extras]
    if missing:
        raise ValueError(
            f"adapt: got trajectories without {missing[0]!r}, which `act` records; hand its Action to `add` as it is"
        )
    steps = trajectories.mask.sum(axis=2)
    open_ended = (steps < t) & ~(trajectories.terminated | trajectories.truncated).any(axis=2)
    if open_ended.any():
        task, episode = (int(i) for i in np.argwhere(open_ended)[0])
        raise ValueError(
            f"adapt: got an episode that has not ended (task {task}, episode {episode}: {steps[task, episode]} of {t} "
            "steps, neither terminated nor truncated); play on while `unfinished`, or call its last step truncated"
        )
    return e // (episodes or e)


def check_task(task: int, tasks: int) -> None:
    """Refuses the number of a task that the state does not have.

    Raises:
        ValueError: There is none.
    """
    if not 0 <= task < tasks:
        raise ValueError(f"save_policy: got task {task}, expected a number from 0 to {tasks - 1}, as `begin` was told")
