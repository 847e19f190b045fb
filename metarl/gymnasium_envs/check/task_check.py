"""Checks that compare tasks under the same seeds and actions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from metarl.gymnasium_envs.check.derived import reasons_without_effect
from metarl.gymnasium_envs.check.effect import Played, effects
from metarl.gymnasium_envs.check.ends import Reasons, at_both_ends, reasons_of
from metarl.gymnasium_envs.check.findings import Clock, Note, OutOfTimeError, Problem, Seen
from metarl.gymnasium_envs.check.leak import leaks
from metarl.gymnasium_envs.check.playing import (
    Recording,
    difference,
    differs_from,
    play,
    same_length_terminations,
    varied_actions,
)
from metarl.gymnasium_envs.family import gymnasium_envs_of
from metarl.parameters import describe
from metarl.tasks import Family
from metarl.types import Floats, Task
from metarl.vector import TaskVecEnv

LONG_ROWS, LONG_EPISODE = 9, 1000
"""Episodes and their steps, if shorter ones showed no effect."""
LIMIT_ROWS = 4
"""Episodes for the search of longer time limits."""


def compare_tasks(
    envs: TaskVecEnv,
    family: Family,
    tasks: Sequence[Task],
    clock: Clock,
    explained: set[str],
    reasons: Reasons | None = None,
) -> Iterator[Problem | Note | Seen]:
    """Checks seeds, finite numbers, time limits, leaks, and effects of tasks and parameters.

    Args:
        envs: One task of `E` rows.
        family: The family.
        tasks: Tasks to compare, the base task first.
        clock: Time limit.
        explained: Receives the parameters whose lack of effect is explained.
        reasons: Finds reasons in the simulation; parameters are then also played at both ends of their ranges.
    """
    actions, recordings = varied_actions(envs), list[Recording]()

    def played(task: Task) -> Recording:
        clock.pause()
        return play(envs, task, actions, going=clock.going)

    for number, task in enumerate(tasks):
        if not clock.start(f"task {number + 1} of {len(tasks)}"):
            break
        recordings.append(played(task))
        if recordings[-1].diverged:
            yield Problem(
                "finite",
                f"an observation or a reward is not finite under random actions, task: {describe(task)}; look for "
                "a division or logarithm, or end the episode before",
            )
            return
    if not recordings or not recordings[0].steps:
        clock.skipped.append("effects of tasks")
        return
    outside = ~((recordings[0].observations >= _bounds(envs)[0]) & (recordings[0].observations <= _bounds(envs)[1]))
    if outside.any():
        yield Problem(
            "space", f"component {np.argwhere(outside)[0][-1]} of an observation leaves the bounds of its space"
        )
    if clock.start("repeated episodes under one seed"):
        wrong = _not_repeated(recordings[0], played(tasks[0]))
        if wrong:
            yield wrong
            return
    if length := same_length_terminations(recordings):
        yield _limit_as_termination(length, len(recordings) * envs.num_envs)
    shifted = set[Task]()
    if clock.start("leaks"):
        clock.pause()
        yield from leaks(envs, family, tasks, clock, shifted)
    said = set[str]()
    yield from _effects(envs, family, tasks, recordings, clock, shifted, explained, reasons, said)
    if reasons is not None:
        yield from at_both_ends(envs, family, tasks[0], clock, reasons, said)


def _not_repeated(one: Recording, two: Recording) -> Problem | None:
    """The problem of a task with different episodes under the same seed and actions; None if they are equal."""
    apart = difference(one, two)
    if apart.observations and apart.observations.step == 0:
        return Problem(
            "seed",
            "reset(seed=0) gives another observation each time; call super().reset(seed=seed) first, and draw every "
            "random number from self.np_random",
        )
    if apart:
        return Problem(
            "seed",
            "the same seed and actions give another episode each time; draw every random number from "
            "self.np_random, and let reset restore all that step changes",
        )
    return None


def long_time_limit(family: Family, task: Task, played: int, clock: Clock) -> Iterator[Note]:
    """Notes a time limit beyond the episodes played so far that is reported as termination."""
    if family.horizon <= played or not clock.start(f"time limits of more than {played} steps"):
        return
    envs = family.make_envs(1, LIMIT_ROWS, min(family.horizon, LONG_EPISODE))
    try:
        recording = play(envs, task, varied_actions(envs), began=clock.pause, going=clock.going)
    finally:
        envs.close()
    length = same_length_terminations([recording])
    if length > played:
        yield _limit_as_termination(length, envs.num_envs)


def _limit_as_termination(length: int, episodes: int) -> Note:
    return Note(
        "time limit",
        f"all of {episodes} random episodes ended by termination after {length} steps: a time limit seems to be "
        "reported as terminated; report it as truncated, so that agents bootstrap from the last state (fairly sure: "
        "episodes that fail or succeed seldom all do so at one step)",
    )


def _effects(
    envs: TaskVecEnv,
    family: Family,
    tasks: Sequence[Task],
    recordings: Sequence[Recording],
    clock: Clock,
    shifted: set[Task],
    explained: set[str],
    known: Reasons | None,
    said: set[str],
) -> Iterator[Problem | Note | Seen]:
    """Reports the effects of tasks and parameters; `said` receives those without effect."""

    def way(batch: TaskVecEnv, recording: Recording | None = None) -> Played:
        given = varied_actions(batch)

        def played(task: Task, briefly: bool) -> Recording:
            clock.pause()
            return play(batch, task, given, going=clock.going, stop=differs_from(first) if briefly else None)

        clock.pause()
        first = recording or play(batch, tasks[0], given, going=clock.going)
        steps = batch.horizon if (first.terminated | first.truncated).any(axis=0).all() else first.steps
        return Played(played, tasks[0], first, batch.num_envs, steps, whole=steps >= family.horizon)

    longer: list[TaskVecEnv] = []

    def further() -> Played | None:
        if family.horizon <= envs.horizon or not clock.start("longer episodes"):
            return None
        longer.append(family.make_envs(1, LONG_ROWS, min(family.horizon, LONG_EPISODE)))
        return way(longer[0])

    def reasons(name: str) -> list[str]:
        make = gymnasium_envs_of(family)
        said.add(name)
        if make is None:
            return [one.words for one in reasons_of(known, envs, family, tasks[0], name)[1]] if known else []
        other = next((t for t in tasks if t[name] != tasks[0][name]), tasks[-1])
        try:
            with clock.limit():
                found = reasons_without_effect(make, other, [name]).get(name, [])
        except OutOfTimeError:
            return []
        if found:
            explained.add(name)
        return found

    try:
        first = way(envs, recordings[0])
        yield from effects(family, tasks[: len(recordings)], recordings, first, further, reasons, clock, shifted)
    finally:
        for batch in longer:
            batch.close()


def _bounds(envs: TaskVecEnv) -> tuple[Floats, Floats]:
    """Bounds of an observation, widened by rounding errors."""
    box = envs.single_observation_space
    slack = 1e-5 * (1.0 + np.abs(np.nan_to_num(box.low, posinf=0.0, neginf=0.0)))
    return box.low - slack, box.high + slack
