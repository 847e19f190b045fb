"""Checks of metarl's requirements on a family, beyond Gymnasium's own rules; each message says what to change."""

from __future__ import annotations

import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env

from metarl.gymnasium_envs.answers import AnswerError, plain_flags, reset_answer, step_answer
from metarl.gymnasium_envs.check.derived import partial_effects
from metarl.gymnasium_envs.check.ends import Reasons
from metarl.gymnasium_envs.check.findings import Clock, Findings, Note, OutOfTimeError, Problem, Seen
from metarl.gymnasium_envs.check.playing import play, varied_actions
from metarl.gymnasium_envs.check.task_check import compare_tasks, long_time_limit
from metarl.gymnasium_envs.check.tasks_apart import parts_of
from metarl.gymnasium_envs.family import GymnasiumEnvs, gymnasium_envs_of
from metarl.gymnasium_envs.rows import Env, Maker, farewell
from metarl.own_code.errors import EnvError
from metarl.parameters import describe
from metarl.stepping import MakeEnvs
from metarl.tasks import Family
from metarl.types import Task
from metarl.vector import fixed_actions

__all__ = ["Clock", "Findings", "Note", "Problem", "Seen", "check_family", "examine"]

TASKS, ROWS, LONGEST_EPISODE = 6, 20, 100
"""Largest number of tasks played, of episodes per task, and of steps per episode."""
SLOW = tuple((rows, steps) for rows in (ROWS, 10, 5, 2) for steps in (LONGEST_EPISODE, 50, 20, 10, 5))
"""Smaller numbers of episodes and steps for slow environments; the largest that fit into the time are used."""
COMPARED_TASKS = 1000
"""Training tasks that are compared with the held-out ones."""
WORKER_START = 3.0
"""Seconds that the start of a worker process takes, about: it imports torch."""
SHARE = 0.6
"""Share of the remaining time that the comparison of tasks is planned to take."""


def check_family(family: Family) -> list[Problem]:
    """The problems of a family; Gymnasium environments also run Gymnasium's `check_env`."""
    return examine(family).problems


def examine(family: Family, clock: Clock | None = None, spec: str = "", *, reasons: Reasons | None = None) -> Findings:
    """Problems, notes, observations and skipped checks of a family.

    Args:
        family: The family.
        clock: Time limit and progress display; no limit by default.
        spec: Name of the family on the command line, by which a worker process can make it.
        reasons: Finds reasons in a simulation why a parameter has no effect, such as `metarl.envs.silence.silence`.
    """
    findings, clock = Findings(), clock or Clock()
    for finding in _looked_at(family, clock, spec, reasons):
        findings.add(finding)
    findings.skipped = list(dict.fromkeys(clock.skipped))
    return findings


def _looked_at(family: Family, clock: Clock, spec: str, reasons: Reasons | None) -> Iterator[Problem | Note | Seen]:
    """Runs the checks in order, until a problem prevents the next ones or the time is up."""
    tasks = _some_tasks(family)
    if not tasks:
        yield Problem("overlap", "got no task; a TaskDistribution has to return training and held-out tasks")
        return
    yield from _tasks_apart(family)
    if make := gymnasium_envs_of(family):
        found = _single_environment(make, tasks[0], clock)
        yield from found
        if any(isinstance(p, Problem) and p.kind in ("space", "fault") for p in found):
            return
        if clock.start("construction in a worker process", WORKER_START):
            yield from _in_a_worker(family, spec, make, tasks[0], clock)
        make = make.with_stepping(replace(make.stepping, timeout=_patience(make, clock)))
        family = family.with_single_envs(make)
    if not clock.start("speed"):
        clock.skipped += ["seeds", "leaks", "effects of tasks"]
        return
    explained = set[str]()
    try:
        plan = _plan(family, tasks, clock)
        yield Seen(plan.words(family))
        envs = family.make_envs(1, plan.rows, plan.steps)
        try:
            yield from compare_tasks(envs, family, tasks[: plan.tasks], clock, explained, reasons)
        finally:
            envs.close()
        if make:
            yield from partial_effects(family, make, tasks[0], plan.steps, clock, explained)
            yield from long_time_limit(family, tasks[0], plan.steps, clock)
    except EnvError as failure:
        if clock.left > 0:
            yield Problem("fault", str(failure), failure.trace)
        else:
            clock.skipped.append(f"the checks after a call of the environment that took too long ({failure})")


def _patience(make: GymnasiumEnvs, clock: Clock) -> float:
    """Seconds for one call of an environment: its timeout, or the time left if that is less."""
    return float(min(make.stepping.timeout, max(clock.left, 0.1) / 1.25))  # a hang is noticed up to a quarter later


@dataclass(frozen=True)
class _Plan:
    """Numbers of tasks, episodes and steps to play.

    Args:
        tasks: Number of tasks to compare.
        rows: `E`, episodes of each.
        steps: `T`.
        observation_size: `O`.
        slow: Whether the numbers are reduced for a slow environment.
    """

    tasks: int
    rows: int
    steps: int
    observation_size: int
    slow: bool

    def words(self, family: Family) -> str:
        """The size of observations and the reduced numbers, in words."""
        size, batch = 8 * self.observation_size, 8 * self.observation_size * 400 * family.horizon
        many = "numbers" if self.observation_size > 1 else "number"
        words = (
            f"an observation is {self.observation_size} {many} ({_bytes(size)}; those of 20 tasks x 20 episodes x "
            f"{family.horizon} steps are {_bytes(batch)})"
        )
        if self.slow:
            words += f"; the environment is slow: {self.rows} episodes of {self.steps} steps are played of each task"
        return words


def _bytes(number: float) -> str:
    for unit in ("bytes", "KiB", "MiB"):
        if number < 1024:
            return f"{number:.3g} {unit}"
        number /= 1024
    return f"{number:.3g} GiB"


def _plan(family: Family, tasks: Sequence[Task], clock: Clock) -> _Plan:
    """Times a reset and a step, and chooses numbers that fit into the time left."""
    longest = min(family.horizon, LONGEST_EPISODE)
    envs = family.make_envs(1, 1, longest)
    try:
        actions, size = varied_actions(envs), int(envs.single_observation_space.shape[0])
        play(envs, tasks[-1], actions[:1])  # imports at the first step do not count
        before = time.perf_counter()
        envs.set_tasks(tasks[:1])
        envs.reset(seed=0)
        made, before = time.perf_counter() - before, time.perf_counter()
        moments = [before] + [time.perf_counter() for action in actions[:5] if clock.going() and envs.step(action)]
        step = float(np.median(np.diff(moments))) if len(moments) > 1 else made
    finally:
        envs.close()
    if clock.left == float("inf"):
        return _Plan(len(tasks), ROWS, longest, size, slow=False)
    plays = len(tasks) + 1 + 2 * len(parts_of(tasks[0]))
    for few, plays in ((len(tasks), plays), (2, 5)):  # noqa: B020
        for rows, length in sorted(SLOW, key=lambda way: -way[0] * way[1]):
            length = min(length, longest)
            if plays * rows * (made + step * length) <= SHARE * clock.left:
                return _Plan(few, rows, length, size, slow=(few, rows, length) != (len(tasks), ROWS, longest))
    return _Plan(2, 2, min(5, longest), size, slow=True)


# Tasks ----------------------------------------------------------------------------------------------------


def _some_tasks(family: Family) -> list[Task]:
    """A few different tasks: held-out ones, then training tasks."""
    found = dict.fromkeys([*family.distribution.held_out(TASKS), *family.distribution.train_tasks(TASKS)])
    return list(found)[:TASKS]


def _tasks_apart(family: Family) -> Iterator[Problem]:
    """Reports overlapping training and held-out tasks, or an empty set."""
    distribution = family.distribution
    if not distribution.held_out() or not distribution.train_tasks(1):
        yield Problem("overlap", "got no training task or no held-out task; a TaskDistribution has to return both")
        return
    if not distribution.splits:
        return
    train = {*distribution.train_tasks(COMPARED_TASKS), *distribution.sample(COMPARED_TASKS, np.random.default_rng(0))}
    both = train & set(distribution.held_out())
    if both:
        yield Problem(
            "overlap",
            f"{len(both)} held-out tasks are training tasks too, such as {describe(next(iter(both)))}; take the "
            "held-out tasks out of `sample` and `train_tasks`, or set `splits` to False",
        )


# One Gymnasium environment ------------------------------------------------------------------------------------


def _single_environment(make: GymnasiumEnvs, task: Task, clock: Clock) -> list[Problem]:
    """Checks the return values of a single environment, then runs Gymnasium's `check_env`."""
    env, looked = None, clock.start("return values of a single environment")
    if not looked:
        return []
    try:
        with clock.limit():
            env = make.maker.play(None, task)
            wrong = list(_returned(env))
            if wrong or not clock.start("Gymnasium's check_env"):
                return wrong
            return list(_gymnasium_check(env, make.maker))
    except OutOfTimeError as error:
        message = f"the environment did not return: {error}; it is slow or hangs there (--seconds raises the limit)"
        return [Problem("fault", message, traceback.format_exc())]
    except AnswerError as error:
        return [Problem("space", f"{error}, task: {describe(task)}")]
    except (Exception, SystemExit) as error:
        message = f"the environment raised {type(error).__name__} ({error}), task: {describe(task)}"
        return [Problem("fault", message, traceback.format_exc())]
    finally:
        if env is not None:
            farewell(env)


def _returned(env: Env) -> Iterator[Problem]:
    """Reports observations and rewards that do not fit the spaces."""
    observation, _ = reset_answer(env.reset(seed=0))
    wrong = list(_mismatch(env.observation_space, observation, "the observation at reset"))
    env.action_space.seed(0)
    observation, reward, *_ = step_answer(env.step(env.action_space.sample()))
    wrong = wrong or list(_mismatch(env.observation_space, observation, "the observation at step"))
    yield from (Problem("space", message) for message in wrong)
    shape = np.shape(np.asarray(reward))
    if shape:
        yield Problem("space", f"the reward has shape {shape}; return a single number, float(reward)")
    if complaint := fixed_actions(env.action_space):
        yield Problem("space", complaint)


def _mismatch(space: spaces.Space[Any], value: Any, what: str) -> Iterator[str]:
    """Describes the differences between a value and its space."""
    if isinstance(space, spaces.Dict):
        if not isinstance(value, dict) or set(value) != set(space.spaces):
            got = sorted(value) if isinstance(value, dict) else type(value).__name__
            yield f"{what} is {got}, but its space is a Dict of {sorted(space.spaces)}; make the two agree"
            return
        for key, part in space.spaces.items():
            yield from _mismatch(part, value[key], f"{what}, entry {key!r},")
    elif isinstance(space, spaces.Box):
        array = np.asarray(value)
        if array.shape != space.shape:
            yield f"{what} has shape {array.shape}, but its space says {space.shape}; make the two agree"
        elif not np.can_cast(array.dtype, space.dtype):
            yield (
                f"{what} has dtype {array.dtype}, but its space says {space.dtype}; return it as "
                f"observation.astype(np.{space.dtype}), or declare dtype=np.{array.dtype}"
            )
        elif np.isfinite(array).all() and not ((array >= space.low) & (array <= space.high)).all():
            where = tuple(int(i) for i in np.argwhere((array < space.low) | (array > space.high))[0])
            yield f"{what} is {array[where]} at index {where}, outside the bounds of its space; widen the space"
    elif value not in space:
        yield f"{what} is {value!r}, which is not in its space {space}; make the two agree"


def _gymnasium_check(env: Env, maker: Maker) -> Iterator[Problem]:
    """Gymnasium's `check_env` on the bare environment."""
    bare: gymnasium.Env[Any, Any] = env if maker.delivery == "options" else env.unwrapped
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its recommendations on bounds and normalised actions
            with plain_flags(bare):
                check_env(bare, skip_render_check=True, skip_close_check=True)
    except OutOfTimeError:
        raise
    except Exception as error:
        yield Problem("gymnasium", f"Gymnasium's check_env: {' '.join(str(error).split()) or type(error).__name__}")


def _in_a_worker(family: Family, spec: str, make: GymnasiumEnvs, task: Task, clock: Clock) -> list[Problem]:
    """Reports an environment that cannot be made in a worker process."""
    from metarl.workers.apart import called_apart  # it imports torch
    from metarl.workers.choice import sendable_envs
    from metarl.workers.faults import WorkersError

    patience = _patience(make, clock)
    family = family.with_single_envs(make.with_stepping(replace(make.stepping, timeout=patience)))
    try:
        called_apart(partial(_reset_once, sendable_envs(family, spec), task, family.horizon), 1.5 * patience)
    except EnvError as failure:
        return [Problem("fault", f"in a worker process: {failure}", failure.trace)]
    except WorkersError as error:
        message = (
            f"the environment {error}; make_env and all it refers to have to be importable by name, or picklable "
            "(--workers 0 needs neither)"
        )
        return [Problem("pickle", message)]
    return []


def _reset_once(make_envs: MakeEnvs, task: Task, horizon: int) -> None:
    """Makes an environment and resets it."""
    envs = make_envs(1, 1, horizon)
    try:
        envs.set_tasks([task])
        envs.reset(seed=0)
    finally:
        envs.close()
