"""`metarl bench rollout`: sampling speed, compared with bare physics and Gymnasium's vector environments."""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, cast, runtime_checkable

import gymnasium
import numpy as np
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv, VectorEnv

from metarl.config import Rounds, Rows, RowsOrOwn, Seed, check
from metarl.envs.metaworld.classes import MANIPULATIONS
from metarl.envs.metaworld.families import BenchmarkTasks, class_of
from metarl.memory import check_memory
from metarl.registry import FAMILIES, make_family, names
from metarl.scripts.bench.tables import cell, print_table
from metarl.scripts.common import border, end_with_json, parse
from metarl.scripts.reference.environments import GYMNASIUM_IDS, GYMNASIUM_OPTIONS, SINGLE_ENVS
from metarl.scripts.reference.metaworld import gymnasium_env
from metarl.sizes import check_actions, tasks_memory
from metarl.tasks import Family
from metarl.types import Task
from metarl.vector import TaskVecEnv, random_actions
from metarl.workers.server import ctrl_c_is_ours

REFERENCE_ROWS = 40
REFERENCE_STEPS = 100
TURN = 50
"""Steps of one contender before the other one continues."""
GOALS = 50
"""Training goals per class of Meta-World."""


@dataclass(frozen=True, kw_only=True)
class RolloutCommand:
    """Measures sampling with random actions, all contenders in turn, medians over the rounds."""

    family: str = "half-cheetah-vel"
    """Family to sample, with its options (`bandit:arms=10`); `all` for a table of all families, `ml1:all` for one of
    all classes of Meta-World."""
    tasks: Rows = 20
    """Tasks of the batch (M)."""
    episodes: Rows = 20
    """Environments per task (E)."""
    horizon: RowsOrOwn = 0
    """Steps of each episode; 0 for the family's horizon. Meta-World's own environments are compared in whole episodes
    only, because their resets are slow."""
    rounds: Rounds = 7
    """Measurements of each contender, after a warm-up round."""
    processes: bool = True
    """Measure Gymnasium's AsyncVectorEnv too, with one process per environment."""
    seed: Seed = 0
    """Seed of tasks, resets and actions."""
    json: bool = False
    """Print the results as one JSON line at the end."""


@runtime_checkable
class Physical(Protocol):
    """Environments with a method that steps the physics alone."""

    def set_controls(self, rows: np.ndarray, actions: np.ndarray) -> None:
        """Sets the controls of the next physics step of some rows from actions `[rows, A]`."""

    def bare_physics(self, rows: np.ndarray) -> None:
        """Steps some rows without computing observations or rewards."""


def _single_envs(family: Family, tasks: Sequence[Task]) -> list[Callable[[], gymnasium.Env[Any, Any]]]:
    """Constructors of single environments to compare with in a Gymnasium vector environment; empty if there are none.

    They make the registered environment, our plain reference, or Meta-World's environments of the same classes.
    """
    name = family.name.partition(":")[0]  # without the options
    if name in GYMNASIUM_IDS:
        env_id = GYMNASIUM_IDS[name]
        return [partial(gymnasium.make, env_id, **GYMNASIUM_OPTIONS.get(env_id, {}))] * REFERENCE_ROWS
    if name in SINGLE_ENVS:
        return [partial(SINGLE_ENVS[name], family.distribution.held_out(1)[0])] * REFERENCE_ROWS
    if isinstance(family.distribution, BenchmarkTasks):
        return [partial(gymnasium_env, class_of(task), i % GOALS) for i, task in enumerate(tasks)]
    return []


def time_episodes(
    envs: TaskVecEnv, twin: TaskVecEnv | None, actions: np.ndarray, seed: int
) -> tuple[float, float | None]:
    """Environment steps per second of one episode in every row, and of the same episodes in bare physics.

    The two alternate every `TURN` steps, so that machine drift affects both. Only live rows count. Resets count as time
    of ours only.

    Args:
        envs: Environments to measure.
        twin: `Physical` environments of the same kind; None for a family without physics.
        actions: `[steps, rows, ...]`.
        seed: Seed of the resets.
    """
    ours, physics, steps = 0.0, 0.0, 0
    if twin is not None:
        twin.reset(seed=seed)
    clock = time.perf_counter()
    envs.reset(seed=seed)
    ours += time.perf_counter() - clock
    rows = np.arange(envs.num_envs)
    for turn in range(0, len(actions), TURN):
        live = []
        clock = time.perf_counter()
        for action in actions[turn : turn + TURN]:
            if not len(rows):
                break
            _, _, terminated, truncated, _ = envs.step(action)
            live.append(rows)
            rows = rows[~(terminated | truncated)[rows]]
        ours += time.perf_counter() - clock
        steps += sum(map(len, live))
        if twin is not None:
            simulations = cast(Physical, twin)
            for action, these in zip(actions[turn:], live, strict=False):
                simulations.set_controls(these, action[these])
                clock = time.perf_counter()
                simulations.bare_physics(these)
                physics += time.perf_counter() - clock
    return steps / ours, steps / physics if physics else None


def _random_actions(space: Any, steps: int, rows: int, rng: np.random.Generator) -> np.ndarray:
    """Uniform random actions, `[steps, rows, ...]`; from -1 to 1 in unbounded components."""
    return np.stack([random_actions(space, rows, rng) for _ in range(steps)])


def _time_vector_env(
    envs: VectorEnv[Any, Any, Any] | None, steps_each: int, rng: np.random.Generator, seed: int
) -> float | None:
    """Steps per second of a Gymnasium vector environment; a call that resets a row is not a step of that row."""
    if envs is None:
        return None
    actions = _random_actions(envs.single_action_space, steps_each, envs.num_envs, rng)
    steps, resetting = 0, 0
    clock = time.perf_counter()
    envs.reset(seed=seed)
    for action in actions:
        _, _, terminated, truncated, _ = envs.step(action)
        steps += envs.num_envs - resetting
        resetting = int((terminated | truncated).sum())
    return steps / (time.perf_counter() - clock)


def bench_rollout(family: Family, command: RolloutCommand) -> dict[str, Any]:
    """Steps per second and ratios, as `metarl bench rollout` prints them.

    Args:
        family: The family.
        command: Sizes, rounds and seed.

    Raises:
        ValueError: The batch does not fit into memory.
    """
    _check_size(family, command)
    rng = np.random.default_rng(command.seed)
    horizon = command.horizon or family.horizon
    begun = time.perf_counter()
    tasks = family.distribution.sample(command.tasks, rng)
    drawn = time.perf_counter()
    envs = family.make_envs(command.tasks, command.episodes, horizon)
    envs.set_tasks(tasks)
    made = time.perf_counter()
    envs.reset(seed=command.seed)
    for action in _random_actions(envs.single_action_space, 2, envs.num_envs, rng):
        envs.step(action)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024  # without the contenders
    twin = None
    if isinstance(envs, Physical):
        twin = family.make_envs(command.tasks, command.episodes, horizon)
        twin.set_tasks(tasks)
    # A reset of Meta-World takes as long as a hundred steps: compare whole episodes, without a process per task.
    metaworld = isinstance(family.distribution, BenchmarkTasks)
    makers = [] if metaworld and horizon != family.horizon else _single_envs(family, tasks)
    steps_each = horizon if metaworld else REFERENCE_STEPS
    sync: VectorEnv[Any, Any, Any] | None = SyncVectorEnv(makers) if makers else None
    parallel: VectorEnv[Any, Any, Any] | None = None
    rounds = []
    try:
        if makers and not metaworld and command.processes:
            with ctrl_c_is_ours(later=True):
                parallel = AsyncVectorEnv(makers)
        for i in range(command.rounds + 1):
            clock = time.perf_counter()
            envs.set_tasks(tasks)
            tasks_set = time.perf_counter()
            envs.reset(seed=i)
            been_reset = time.perf_counter()
            actions = _random_actions(envs.single_action_space, horizon, envs.num_envs, rng)
            speed, physics_speed = time_episodes(envs, twin, actions, i)
            rounds.append(
                {
                    "set_tasks_ms": 1e3 * (tasks_set - clock),
                    "reset_ms": 1e3 * (been_reset - tasks_set),
                    "env_steps_per_s": speed,
                    "physics_steps_per_s": physics_speed,
                    "sync_env_steps_per_s": _time_vector_env(sync, steps_each, rng, i),
                    "async_env_steps_per_s": _time_vector_env(parallel, steps_each, rng, i),
                }
            )
            print(f"{family.name}: round {i} of {command.rounds}", file=sys.stderr, flush=True)
    except BaseException:
        if parallel is not None:
            parallel.close(terminate=True)
        raise
    finally:
        for one in filter(None, (envs, twin, sync, parallel)):
            one.close()

    def median(values: Sequence[float | None]) -> float | None:
        numbers = [v for v in values if v is not None]
        return round(statistics.median(numbers), 4) if numbers else None

    def ratio(over: str) -> float | None:
        """Median of the ratios within a round, so that machine drift cancels."""
        return median([r["env_steps_per_s"] / r[over] if r[over] else None for r in measured])  # type: ignore[operator]

    measured = rounds[1:]  # the first warms up
    return {
        "family": family.name,
        "tasks": command.tasks,
        "episodes": command.episodes,
        "tasks_s": round(drawn - begun, 4),
        "make_envs_s": round(made - drawn, 4),
        **{key: median([r[key] for r in measured]) for key in measured[0]},
        "peak_mib": peak,
        "fraction_of_physics": ratio("physics_steps_per_s"),
        "ratio_vs_sync": ratio("sync_env_steps_per_s"),
        "ratio_vs_async": ratio("async_env_steps_per_s"),
    }


def _check_size(family: Family, command: RolloutCommand) -> None:
    """Raises ValueError if the batch does not fit into memory."""
    horizon = command.horizon or family.horizon
    check_memory([tasks_memory(family.distribution, command.tasks)])
    envs = family.make_envs(1, 1, horizon)
    try:
        check_actions(envs, command.tasks, command.episodes, horizon)
    finally:
        envs.close()


COLUMNS = ("family", "env_steps_per_s", "fraction_of_physics", "ratio_vs_sync", "ratio_vs_async")
"""Columns of the table over all families."""


EVERY: Mapping[str, Callable[[], Sequence[str]]] = {
    "all": lambda: names(FAMILIES),
    "ml1:all": lambda: [f"ml1:{name}" for name in sorted(MANIPULATIONS)],
}
"""Values of `--family` for several families."""


def main(arguments: Sequence[str]) -> int:
    """Runs `metarl bench rollout`; returns its exit code."""
    with border():
        command: RolloutCommand = parse(RolloutCommand, "metarl bench rollout", arguments)
        check(command)
        everything = command.family in EVERY
        families = [make_family(name) for name in (EVERY[command.family]() if everything else [command.family])]
        rows = [bench_rollout(family, command) for family in families]
    if command.json:
        end_with_json(rows if everything else rows[0])
    elif everything:
        print_table(COLUMNS, rows)
    else:
        for name, value in rows[0].items():
            print(f"{name:>24}  {cell(value)}")
    return 0
