"""The short test before a training: do the parameters that vary change anything that can be seen?"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from metarl.gymnasium_envs.check.derived import reasons_without_effect
from metarl.gymnasium_envs.check.effect import REWARDS
from metarl.gymnasium_envs.check.findings import Clock, OutOfTimeError
from metarl.gymnasium_envs.check.playing import Recording, difference, differs_from, play, reward_kind, varied_actions
from metarl.gymnasium_envs.check.tasks_apart import Part, partners, parts_of
from metarl.gymnasium_envs.family import GymnasiumEnvs, gymnasium_envs_of
from metarl.own_code.errors import EnvError
from metarl.tasks import Family
from metarl.types import Floats, Task
from metarl.vector import TaskVecEnv, random_actions

SECONDS = 2.0
"""Wall clock that the test may take."""
PLANNED = 0.85
"""Part of it that is planned with: a call that takes longer than those before comes on top."""
PER_CALL = 0.5
"""Part of that after which a single call of an environment ends the test."""
ROWS, WORKER_ROWS, STEPS = 9, 3, 1000
"""Episodes at most, those in worker processes, and steps."""
MOST_COMPONENTS = 8
"""Components that are named one by one, at most."""
MOST_BYTES = 2**22
"""Memory of the observations of one recording: comparing more would take long."""
LEAST = 0.25
"""Share of the first episodes' steps that others have to be played for, to say that they are the same."""
SLOW = "the environment is too slow to test before the training whether its tasks have an effect"
NOT_REPEATED = "the same task, seed and actions give another episode each time, so no effect of tasks can be tested"
FOR_REASONS = 0.4
"""Seconds of it that are left for looking for reasons."""


def effect_warnings(family: Family, seconds: float = SECONDS) -> list[str]:
    """A sentence for each parameter, or component, that changes nothing that could be seen; none where all do.

    A sentence also says so where the environment is too slow for the test, or repeats no episode. A fault of the
    environment gives none: the training itself meets it.

    Args:
        family: The family, with who steps it settled.
        seconds: Wall clock that it may take; worker processes that have to be started first come on top.
    """
    # Gymnasium environments keep a limit of their own for each call, by the same signal.
    limit = contextlib.nullcontext() if family.stepping else Clock(seconds).limit()
    try:
        with _global_generators_kept(), limit:
            return list(_warnings(family, seconds))
    except OutOfTimeError:
        return [SLOW]
    except Exception:
        return []


@contextlib.contextmanager
def _global_generators_kept() -> Iterator[None]:
    """Puts the global generators back that an environment may draw from."""
    kept, numpys = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(kept)
        np.random.set_state(numpys)  # noqa: NPY002


def _warnings(family: Family, seconds: float) -> Iterator[str]:
    in_workers = False
    if stepping := family.stepping:
        limit = min(stepping.timeout, PER_CALL * seconds)
        in_workers = stepping.workers == "async"
        family = family.with_stepping(replace(stepping, processes=1, timeout=limit))
    base, whole = family.distribution.train_tasks(1)[0], Clock(PLANNED * seconds)
    horizon = min(family.horizon, STEPS)
    envs = family.make_envs(1, WORKER_ROWS if in_workers else 1, horizon)
    try:
        envs.set_tasks([base])
        envs.reset(seed=0)
        if in_workers:
            whole = Clock(PLANNED * seconds)  # they are started
        else:
            rows = _affordable_rows(envs, family, whole)
            if rows > 1:
                envs.close()
                envs = family.make_envs(1, rows, horizon)
                envs.set_tasks([base])
                envs.reset(seed=0)
        silent, words = (
            _silent(envs, family, base, Clock(whole.left - FOR_REASONS)) if in_workers or rows else ([], SLOW)
        )
    except EnvError as failure:
        if "time limit" in str(failure):
            yield SLOW
        return
    finally:
        envs.close()
    if not silent and words:
        yield words
    for part in silent:
        yield f"{_label(part)}: {words}{'' if in_workers else _reason(gymnasium_envs_of(family), base, part, whole)}"


def _label(part: Part) -> str:
    if part.component is None:
        return f"NO EFFECT SEEN of the parameter {part.name!r}"
    return f"NO EFFECT SEEN of component {part.component} of the parameter {part.name!r}"


def _affordable_rows(envs: TaskVecEnv, family: Family, clock: Clock) -> int:
    """Rows that can be made, and then reset and stepped often enough; 0 where not even this one can.

    Args:
        envs: One row, just made and reset.
        family: The family.
        clock: Has run since before that row was made.
    """
    tasks = family.distribution.train_tasks(2)
    plays = 2 + 2 * len(tasks[0].parameters)
    made, before = clock.seconds - clock.left, time.perf_counter()
    if made > clock.left:
        return 0
    envs.set_tasks(tasks[-1:])
    envs.reset(seed=0)
    again, before = time.perf_counter() - before, time.perf_counter()
    envs.step(random_actions(envs.single_action_space, 1, np.random.default_rng(0)))
    step, left = time.perf_counter() - before, clock.left - FOR_REASONS
    for rows, steps in ((ROWS, 10), (6, 10), (3, 5), (1, 5), (1, 1)):
        if rows * ((made if rows > 1 else 0.0) + plays * (again + steps * step)) < left:
            return rows
    return 0


def _silent(envs: TaskVecEnv, family: Family, base: Task, clock: Clock) -> tuple[list[Part], str]:
    """The parts of a task that changed nothing, and the words for how that was seen."""
    parts = [part for part in parts_of(base) if part.component is None or part.component < MOST_COMPONENTS]
    others = {part: found for part in parts if (found := partners(family, base, part, 2))}
    actions = varied_actions(envs, MOST_BYTES)
    own = Clock(clock.left / (3 + 2 * sum(part.component is None for part in others)))
    first = play(envs, base, actions, going=own.going, began=own.restart)  # their part of the time, resets left out
    clock.pause()
    again = play(envs, base, actions[: first.steps], going=clock.going)
    silent, least = list[Part](), first.steps
    if not first.steps or difference(first, again):
        return [], NOT_REPEATED if first.steps else SLOW
    for part, tasks in others.items():
        if any(part.name == known.name for known in silent if known.component is None):
            continue
        seen = [_steps_alike(envs, first, task, actions, clock) for task in tasks]
        alike = [steps for steps in seen if steps is not None]
        if len(alike) < len(seen):
            continue
        if max(alike) < max(LEAST * first.steps, 1):
            break  # out of time: no word on this part, or those after it
        silent.append(part)
        least = min(least, max(alike))
    return silent, _words(first, least, envs) if silent else ""


def _steps_alike(envs: TaskVecEnv, first: Recording, task: Task, actions: Floats, clock: Clock) -> int | None:
    """Steps over which a task plays the episodes of the recording; None where it plays others."""
    clock.pause()
    second = play(envs, task, actions[: first.steps], going=clock.going, stop=differs_from(first))
    return None if difference(first, second) else second.steps


def _words(first: Recording, steps: int, envs: TaskVecEnv) -> str:
    """How no effect was seen, and what that means."""
    episodes = f"{envs.num_envs} random episodes" if envs.num_envs > 1 else "a random episode"
    return (
        f"other values gave the same observations and rewards in {episodes} (at most {steps} steps; "
        f"{REWARDS[reward_kind([first])]}). It could matter later, or where random actions do not get; else the tasks "
        "do not differ in it, and there is nothing to adapt to"
    )


def _reason(make: GymnasiumEnvs | None, base: Task, part: Part, clock: Clock) -> str:
    """What is known about why, where there is time to look."""
    if make is None or clock.left < FOR_REASONS / 2:
        return ""
    try:
        with clock.limit():
            found = reasons_without_effect(make, base, [part.name]).get(part.name, [])
    except OutOfTimeError:
        return ""
    return f". A reason: {'; '.join(found)}" if found else ""
