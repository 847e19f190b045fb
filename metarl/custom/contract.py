"""What metarl asks of a family beyond Gymnasium's own rules, checked, with words that say what to change."""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env

from metarl.custom.answers import AnswerError, plain_flags, reset_answer, step_answer
from metarl.custom.family import GymnasiumEnvs, random_actions
from metarl.custom.rows import Env, EnvError, Maker, close_env, describe
from metarl.tasks import ContinuousTasks, Family
from metarl.types import Bools, Floats, Task
from metarl.vector import TaskVecEnv, fixed_actions

TASKS, ROWS, LONGEST_EPISODE = 6, 20, 100
"""How much is played: so many tasks, episodes of each, and steps of an episode."""
COMPARED_TASKS = 1000
"""Training tasks that are compared with the held-out ones."""


@dataclass(frozen=True)
class Problem:
    """Something that a family does wrong.

    Args:
        kind: `gymnasium`, `space`, `finite`, `seed`, `leak`, `effect`, `pickle`, `overlap` or `fault`.
        message: What is wrong and what to change.
        trace: The environment's own traceback, where it raised.
    """

    kind: str
    message: str
    trace: str = ""


@dataclass(frozen=True)
class Recording:
    """Episodes of one task under given actions.

    Args:
        observations: `[T + 1, E, O]`.
        rewards: `[T, E]`.
        ended: `[T, E]`, terminated or truncated here.
        diverged: Whether anything was not finite, or a simulation blew up.
    """

    observations: Floats
    rewards: Floats
    ended: Bools
    diverged: bool

    def same_as(self, other: Recording) -> bool:
        """Whether nothing at all differs."""
        mine, theirs = ((r.observations, r.rewards, r.ended) for r in (self, other))
        return all(np.array_equal(a, b) for a, b in zip(mine, theirs, strict=True))


def check_family(family: Family) -> list[Problem]:
    """Everything found wrong with a family; Gymnasium environments are also put through Gymnasium's `check_env`."""
    tasks = _some_tasks(family)
    if not tasks:
        return [Problem("overlap", "got no task at all; TaskDistribution has to give training and held-out tasks")]
    problems = list(_tasks_apart(family))
    if isinstance(family.make_envs, GymnasiumEnvs):
        problems += _single_environment(family.make_envs, tasks[0])
        if any(p.kind in ("space", "fault") for p in problems):
            return problems
        problems += _in_a_worker(family, tasks[0])
        stepping = replace(family.make_envs.stepping, workers="sync")
        family = replace(family, make_envs=replace(family.make_envs, stepping=stepping))
    envs = family.make_envs(1, ROWS, min(family.horizon, LONGEST_EPISODE))
    try:
        problems += _batch(envs, family, tasks)
    except EnvError as failure:
        problems.append(Problem("fault", str(failure), failure.trace))
    finally:
        envs.close()
    return problems


# Tasks ----------------------------------------------------------------------------------------------------


def _some_tasks(family: Family) -> list[Task]:
    """A few different tasks, of both splits where they have to be."""
    found = dict.fromkeys([*family.distribution.held_out(TASKS), *family.distribution.train_tasks(TASKS)])
    return list(found)[:TASKS]


def _tasks_apart(family: Family) -> Iterator[Problem]:
    """Train and held-out tasks overlap, or there is none."""
    distribution = family.distribution
    if not distribution.held_out() or not distribution.train_tasks(1):
        yield Problem("overlap", "got no training or no held-out task; TaskDistribution has to give both")
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


def _mixed(family: Family, base: Task, other: Task, names: set[str]) -> Task:
    """`base` with the named parameters of `other`."""
    values = dict(base.parameters) | {name: v for name, v in other.parameters if name in names}
    return Task.of(family.distribution.family, **values)


# One Gymnasium environment ------------------------------------------------------------------------------------


def _single_environment(make: GymnasiumEnvs, task: Task) -> list[Problem]:
    """What a single environment returns, and what Gymnasium's own check says of it."""
    env = None
    try:
        env = make.maker.play(None, task)
        wrong = list(_returned(env))
        return wrong or list(_gymnasium_check(env, make.maker))
    except AnswerError as error:
        return [Problem("space", f"{error}, task: {describe(task)}")]
    except (Exception, SystemExit) as error:
        message = f"the environment raised {type(error).__name__} ({error}), task: {describe(task)}"
        return [Problem("fault", message, traceback.format_exc())]
    finally:
        if env is not None:
            close_env(env)


def _returned(env: Env) -> Iterator[Problem]:
    """Observations and rewards that are not what the spaces say."""
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
    """What differs between a value and its space, in words."""
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
            warnings.simplefilter("ignore")  # its recommendations: bounds, normalised actions
            with plain_flags(bare):
                check_env(bare, skip_render_check=True, skip_close_check=True)
    except Exception as error:
        yield Problem("gymnasium", f"Gymnasium's check_env: {' '.join(str(error).split()) or type(error).__name__}")


def _in_a_worker(family: Family, task: Task) -> list[Problem]:
    """The environment cannot be made in a worker process."""
    make = family.make_envs
    assert isinstance(make, GymnasiumEnvs)
    stepping = replace(make.stepping, workers="async", processes=1)
    envs = replace(make, stepping=stepping)(1, 1, family.horizon)
    try:
        envs.set_tasks([task])
        envs.reset(seed=0)
    except EnvError as failure:
        return [Problem("fault" if failure.trace else "pickle", str(failure), failure.trace)]
    finally:
        envs.close()
    return []


# The batch ----------------------------------------------------------------------------------------------------


def _play(envs: TaskVecEnv, task: Task, actions: Floats, seed: int) -> Recording:
    """Plays one task in every row; `actions` is `[T, E, ...]`."""
    envs.set_tasks([task])
    observation, _ = envs.reset(seed=seed)
    observations, rewards, ended, diverged = [observation], [], [], not np.isfinite(observation).all()
    for action in actions:
        observation, reward, terminated, truncated, infos = envs.step(action)
        observations.append(observation)
        rewards.append(reward)
        ended.append(terminated | truncated)
        diverged |= bool(infos["diverged"].any() or not np.isfinite(reward).all() or not np.isfinite(observation).all())
    return Recording(np.stack(observations), np.stack(rewards), np.stack(ended), bool(diverged))


def _actions(envs: TaskVecEnv) -> Floats:
    """Random actions, `[T, E, ...]`: half of the rows keep theirs for the whole episode, and so get somewhere."""
    rng, rows = np.random.default_rng(0), envs.num_envs
    actions = np.stack([random_actions(envs.single_action_space, rows, rng) for _ in range(envs.horizon)])
    actions[:, : rows // 2] = actions[0, : rows // 2]
    return actions


def _batch(envs: TaskVecEnv, family: Family, tasks: Sequence[Task]) -> Iterator[Problem]:
    """Seeds, finite numbers, effect of the task, and leaks."""
    actions = _actions(envs)

    def play(task: Task, seed: int = 0) -> Recording:
        return _play(envs, task, actions, seed)

    played = [play(task) for task in tasks]
    for task, recording in zip(tasks, played, strict=True):
        if recording.diverged:
            yield Problem(
                "finite",
                f"an observation or a reward is not finite under random actions, task: {describe(task)}; find the "
                "division or logarithm that makes it, or end the episode before",
            )
            return
    outside = ~((played[0].observations >= _bounds(envs)[0]) & (played[0].observations <= _bounds(envs)[1]))
    if outside.any():
        yield Problem(
            "space", f"component {np.argwhere(outside)[0][-1]} of an observation leaves the bounds of its space"
        )
    again = play(tasks[0])
    if not np.array_equal(played[0].observations[0], again.observations[0]):
        yield Problem(
            "seed",
            "reset(seed=0) gives another observation each time; call super().reset(seed=seed) first, and draw every "
            "random number from self.np_random",
        )
        return
    if not played[0].same_as(again):
        yield Problem(
            "seed",
            "the same seed and actions give another episode each time; draw every random number from "
            "self.np_random, and let reset put back all that step changes",
        )
        return
    yield from _leak(family, tasks, play)
    yield from _effect(family, tasks, played, play)


def _bounds(envs: TaskVecEnv) -> tuple[Floats, Floats]:
    """Of an observation, with room for rounding."""
    box = envs.single_observation_space
    slack = 1e-5 * (1.0 + np.abs(np.nan_to_num(box.low, posinf=0.0, neginf=0.0)))
    return box.low - slack, box.high + slack


def _leak(family: Family, tasks: Sequence[Task], play: Callable[[Task], Recording]) -> Iterator[Problem]:
    """A hidden parameter shows in the first observation: two tasks that differ in nothing else look different."""
    declared = {p.name: p.hidden for p in family.distribution.parameters}
    independent = isinstance(family.distribution, ContinuousTasks)
    if not all(declared.values()) and not independent:
        return  # the visible parameters of two tasks may not fit each other
    base = tasks[0]
    first = play(base).observations[0]
    for other in tasks[1:]:
        hidden = {name for name, _ in other.parameters if declared.get(name, True)}
        mixed = _mixed(family, base, other, hidden)
        differs = np.argwhere(play(mixed).observations[0] != first)
        if len(differs):
            component = differs[0][1]
            yield Problem(
                "leak",
                f"component {component} of the observation at reset tells tasks apart that differ only in what is "
                f"hidden ({', '.join(sorted(hidden))}): {describe(base)} against {describe(mixed)}; take it out of the "
                "observation (and out of the state an episode starts in), or declare the parameter hidden=False",
            )
            return


def _effect(
    family: Family, tasks: Sequence[Task], played: Sequence[Recording], play: Callable[[Task], Recording]
) -> Iterator[Problem]:
    """The task, or one of its parameters, changes nothing."""
    if len(tasks) > 1 and all(r.same_as(played[0]) for r in played[1:]):
        yield Problem(
            "effect",
            f"{len(tasks)} tasks give the same rewards and transitions under the same seed and actions; the "
            "environment does not use the task it is told (is it set before reset, and on the bare environment?)",
        )
        return
    names = [name for name, _ in tasks[0].parameters]
    if len(names) == 1 or not isinstance(family.distribution, ContinuousTasks):
        return
    for name in names:
        others = (_mixed(family, tasks[0], other, {name}) for other in tasks[1:])
        if all(play(other).same_as(played[0]) for other in others):
            yield Problem(
                "effect",
                f"the parameter {name!r} changes neither rewards nor transitions; it may be read only when the "
                "environment is made (then take it as an argument), or be derived into another attribute there",
            )
