"""The short test before a training: visible effects of the varying parameters."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from metarl.gymnasium_envs.check.derived import reasons_without_effect
from metarl.gymnasium_envs.check.effect import REWARDS
from metarl.gymnasium_envs.check.ends import Reason, Reasons, reasons_of
from metarl.gymnasium_envs.check.findings import Clock, OutOfTimeError
from metarl.gymnasium_envs.check.playing import Recording, difference, differs_from, play, reward_kind, varied_actions
from metarl.gymnasium_envs.check.tasks_apart import Part, partners, parts_of
from metarl.gymnasium_envs.family import GymnasiumEnvs, gymnasium_envs_of
from metarl.own_code.errors import EnvError
from metarl.own_code.generators import global_generators_kept
from metarl.registry import make_family
from metarl.stepping import Stepping
from metarl.tasks import Family
from metarl.types import Floats, Task
from metarl.vector import TaskVecEnv, random_actions

SECONDS = 2.0
"""Wall-clock limit of the test, s."""
PLANNED = 0.85
"""Planned share of the limit; the rest is a reserve for slower calls."""
PER_CALL = 0.5
"""Share of the limit after which a single call of an environment ends the test."""
ROWS, STEPS = 9, 1000
"""Largest number of episodes and of steps."""
MOST_COMPONENTS = 8
"""Largest number of components that are tested one by one."""
MOST_BYTES = 2**22
"""Largest memory for the observations of one recording, bytes, which limits the time of comparisons."""
LEAST = 0.25
"""Share of the first recording's steps that another one needs to count as equal."""
SLOW = "the environment is too slow for the test before the training whether its tasks have an effect"
NOT_REPEATED = "the same task, seed and actions give another episode each time, so the effect of tasks cannot be tested"
FOR_REASONS = 0.4
"""Seconds reserved for the search for reasons."""


def effect_warnings(family: Family, seconds: float = SECONDS, reasons: Reasons | None = None) -> list[str]:
    """A sentence about each parameter or component whose effect is not seen, or is known to be partial.

    There is also a sentence if the environment is too slow for the test or does not repeat episodes. Exceptions are
    left to the training to report.

    Args:
        family: The family.
        seconds: Wall-clock limit.
        reasons: Finds reasons in the simulation, as for `metarl check`.
    """
    # Gymnasium environments have a time limit per call, by the same signal.
    limit = contextlib.nullcontext() if family.stepping else Clock(seconds).limit()
    try:
        with global_generators_kept(), limit:
            return list(_warnings(family, seconds, reasons))
    except OutOfTimeError:
        return [SLOW]
    except Exception:
        return []


def effect_warnings_apart(spec: str, stepping: Stepping | None, horizon: int, seconds: float = SECONDS) -> list[str]:
    """As `effect_warnings`, in a worker process: an environment that ends its process does not end this one.

    Args:
        spec: Name of the family on the command line.
        stepping: Settings of its single environments; None for any other family.
        horizon: `T`, steps of an episode.
        seconds: As in `effect_warnings`.
    """
    from metarl.workers.apart import called_apart  # it imports torch
    from metarl.workers.faults import WorkersError

    try:
        return called_apart(partial(_named_warnings, spec, stepping, horizon, seconds), 5 * seconds)
    except (EnvError, WorkersError):
        return []


def _named_warnings(spec: str, stepping: Stepping | None, horizon: int, seconds: float) -> list[str]:
    return effect_warnings(replace(make_family(spec).with_stepping(stepping), horizon=horizon), seconds)


def _warnings(family: Family, seconds: float, reasons: Reasons | None) -> Iterator[str]:
    if stepping := family.stepping:
        family = family.with_stepping(replace(stepping, timeout=min(stepping.timeout, PER_CALL * seconds)))
    base, whole = family.distribution.train_tasks(1)[0], Clock(PLANNED * seconds)
    horizon = min(family.horizon, STEPS)
    envs = family.make_envs(1, 1, horizon)
    try:
        envs.set_tasks([base])
        envs.reset(seed=0)
        rows = _affordable_rows(envs, family, whole)
        if rows > 1:
            envs.close()
            envs = family.make_envs(1, rows, horizon)
            envs.set_tasks([base])
            envs.reset(seed=0)
        silent, words = _silent(envs, family, base, Clock(whole.left - FOR_REASONS)) if rows else ([], SLOW)
        known = _known(envs, family, base, reasons, whole) if rows and reasons else {}
    except EnvError as failure:
        if "time limit" in str(failure):
            yield SLOW
        return
    finally:
        envs.close()
    if not silent and words:
        yield words
    for part in silent:
        found = [one.words for one in known.pop(part.name, ("", ()))[1]] if part.component is None else []
        found = found or _reasons(gymnasium_envs_of(family), base, part, whole)
        why = f". A reason: {'; '.join(found)}" if found else ""
        yield f"{_label(part)}: {words}{why}"
    for ends, some in known.values():
        yield from (f"{ends}: {one.words}" for one in some if one.hides != "all")


def _known(
    envs: TaskVecEnv, family: Family, base: Task, reasons: Reasons, clock: Clock
) -> dict[str, tuple[str, Sequence[Reason]]]:
    """Range and reasons of each hidden parameter, as `reasons_of`; of those for which there is time."""
    found: dict[str, tuple[str, Sequence[Reason]]] = {}
    if clock.left < FOR_REASONS / 2:
        return found
    try:
        with clock.limit():
            for parameter in family.distribution.parameters:
                if parameter.hidden:
                    found[parameter.name] = reasons_of(reasons, envs, family, base, parameter.name)
    except OutOfTimeError:
        return found
    return found


def _label(part: Part) -> str:
    if part.component is None:
        return f"NO EFFECT SEEN of the parameter {part.name!r}"
    return f"NO EFFECT SEEN of component {part.component} of the parameter {part.name!r}"


def _affordable_rows(envs: TaskVecEnv, family: Family, clock: Clock) -> int:
    """Number of rows that can be made, reset and stepped often enough in the time left; 0 if not even one.

    Args:
        envs: One row, just made and reset.
        family: The family.
        clock: Time limit, running since before that row was made.
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
    """The parts of a task without effect, and a sentence about the episodes that showed it."""
    parts = [part for part in parts_of(base) if part.component is None or part.component < MOST_COMPONENTS]
    others = {part: found for part in parts if (found := partners(family, base, part, 2))}
    actions = varied_actions(envs, MOST_BYTES)
    own = Clock(clock.left / (3 + 2 * sum(part.component is None for part in others)))
    first = play(envs, base, actions, going=own.going, began=own.restart)  # its share of the time, without resets
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
            break  # out of time for this part and those after it
        silent.append(part)
        least = min(least, max(alike))
    return silent, _words(first, least, envs) if silent else ""


def _steps_alike(envs: TaskVecEnv, first: Recording, task: Task, actions: Floats, clock: Clock) -> int | None:
    """Number of steps for which a task repeats the recorded episodes; None if it does not."""
    clock.pause()
    second = play(envs, task, actions[: first.steps], going=clock.going, stop=differs_from(first))
    return None if difference(first, second) else second.steps


def _words(first: Recording, steps: int, envs: TaskVecEnv) -> str:
    """A sentence about the episodes that showed no effect, and its meaning."""
    episodes = f"{envs.num_envs} random episodes" if envs.num_envs > 1 else "a random episode"
    return (
        f"other values gave the same observations and rewards in {episodes} (at most {steps} steps; "
        f"{REWARDS[reward_kind([first])]}). It may matter later, or in states that random actions do not reach; if it "
        "does not, the tasks do not differ in it, and there is nothing to adapt to"
    )


def _reasons(make: GymnasiumEnvs | None, base: Task, part: Part, clock: Clock) -> list[str]:
    """The reasons for the lack of effect that are found in the time left."""
    if make is None or clock.left < FOR_REASONS / 2:
        return []
    try:
        with clock.limit():
            return reasons_without_effect(make, base, [part.name]).get(part.name, [])
    except OutOfTimeError:
        return []
