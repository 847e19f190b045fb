"""`metarl bench rollout`: sampling speed by number of workers, with random actions.

Compared with the physics alone on all cores, and with Gymnasium's vector environments.
"""

from __future__ import annotations

import contextlib
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv, VectorEnv

from metarl.config import Rounds, RoundsOrNone, Rows, RowsOrOwn, Seed, check
from metarl.envs.metaworld.classes import MANIPULATIONS
from metarl.envs.metaworld.families import BenchmarkTasks, class_of
from metarl.files import write_bytes
from metarl.memory import check_memory
from metarl.registry import FAMILIES, make_family, names
from metarl.scripts.bench.physics import Physical, PhysicsLimit
from metarl.scripts.bench.picture import check_picture, speed_picture
from metarl.scripts.bench.sampling import (
    SPEEDS,
    RandomActor,
    Sampling,
    median,
    progress,
    ratio,
    speed_row,
    worker_counts,
)
from metarl.scripts.bench.tables import cell, print_table
from metarl.scripts.common import border, end_with_json, parse
from metarl.scripts.reference.environments import GYMNASIUM_IDS, GYMNASIUM_OPTIONS, SINGLE_ENVS
from metarl.scripts.reference.metaworld import gymnasium_env
from metarl.scripts.reference.robots import plain_robot, robot_setup
from metarl.seeding import Streams
from metarl.sizes import check_actions, tasks_memory
from metarl.tasks import Family
from metarl.types import Task, Trajectories
from metarl.vector import TaskVecEnv, available_cores, random_actions
from metarl.workers.blocks import BlockSampler, Player, default_blocks
from metarl.workers.server import ctrl_c_is_ours

REFERENCE_ROWS = 40
REFERENCE_STEPS = 100
GOALS = 50
"""Training goals per class of Meta-World."""


@dataclass(frozen=True, kw_only=True)
class RolloutCommand:
    """Measures sampling with random actions by number of workers, in turn with the limit; medians over the rounds."""

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
    workers: tuple[RoundsOrNone, ...] = ()
    """Numbers of worker processes to measure, 0 for none; 0, 1, 2, 4, ... and the number of cores by default."""
    rounds: Rounds = 7
    """Measurements of each contender, after a warm-up round."""
    processes: bool = True
    """Measure Gymnasium's AsyncVectorEnv too, with one process per environment."""
    seed: Seed = 0
    """Seed of tasks, resets and actions."""
    out: Path | None = None
    """Picture to write: speed against workers (.png)."""
    json: bool = False
    """Print the results as one JSON line at the end."""


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
    if robot_setup(family) is not None:
        return [partial(plain_robot, family, family.distribution.held_out(1)[0])] * REFERENCE_ROWS
    if isinstance(family.distribution, BenchmarkTasks):
        return [partial(gymnasium_env, class_of(task), i % GOALS) for i, task in enumerate(tasks)]
    return []


def _time_vector_env(envs: VectorEnv[Any, Any, Any], steps_each: int, rng: np.random.Generator, seed: int) -> float:
    """Steps per second of a Gymnasium vector environment; a call that resets a row is not a step of that row."""
    space: Any = envs.single_action_space
    actions = np.stack([random_actions(space, envs.num_envs, rng) for _ in range(steps_each)])
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

    The values outside of `rows` are those of the largest number of workers.

    Args:
        family: The family, named by the command.
        command: Sizes, rounds and seed.

    Raises:
        ValueError: The batch does not fit into memory.
    """
    _check_size(family, command)
    rng = np.random.default_rng(command.seed)
    horizon = command.horizon or family.horizon
    counts = worker_counts(command.workers)
    begun = time.perf_counter()
    tasks = family.distribution.sample(command.tasks, rng)
    drawn = time.perf_counter()
    blocks = default_blocks(command.tasks, available_cores())
    sampling = Sampling(family, command.family, tuple(tasks), command.episodes, horizon, blocks, command.seed)
    # A reset of Meta-World takes as long as a hundred steps: compare whole episodes, without a process per task.
    metaworld = isinstance(family.distribution, BenchmarkTasks)
    makers = [] if metaworld and horizon != family.horizon else _single_envs(family, tasks)
    steps_each = horizon if metaworld else REFERENCE_STEPS
    with contextlib.closing(family.make_envs(command.tasks, command.episodes, horizon)) as envs:
        envs.set_tasks(tasks)
        made = time.perf_counter()
        batch = _time_batch(envs, tasks, command.rounds, rng)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024  # without the contenders
        actor, physical = RandomActor(envs.spaces), isinstance(envs, Physical)
    del envs  # its memory
    rows = []
    with ExitStack() as closing:
        limit = closing.enter_context(contextlib.closing(sampling.limit())) if physical else None
        for workers in counts:
            others: dict[str, VectorEnv[Any, Any, Any]] = {}
            if workers == counts[-1] and makers:
                others = _vector_envs(makers, closing, parallel=command.processes and not metaworld)
            rows.append(_time_sampling(sampling, actor, workers, limit, others, steps_each, command))
    return {
        "family": family.name,
        "tasks": command.tasks,
        "episodes": command.episodes,
        "blocks": blocks,
        "tasks_s": round(drawn - begun, 4),
        "make_envs_s": round(made - drawn, 4),
        **batch,
        "peak_mib": peak,
        **rows[-1],
        "rows": [{name: row[name] for name in SPEEDS} for row in rows],
    }


def _time_batch(
    envs: TaskVecEnv, tasks: Sequence[Task], rounds: int, rng: np.random.Generator
) -> dict[str, float | None]:
    """Milliseconds of setting the tasks again and of a reset of the whole batch in this process; medians."""
    seconds: list[tuple[float, float]] = []
    for i in range(rounds + 1):
        clock = time.perf_counter()
        envs.set_tasks(tasks)
        tasks_set = time.perf_counter()
        envs.reset(seed=i)
        seconds.append((tasks_set - clock, time.perf_counter() - tasks_set))
        envs.step(random_actions(envs.single_action_space, envs.num_envs, rng))
    setting, resetting = zip(*seconds[1:], strict=True)  # the first warms up
    return {"set_tasks_ms": median([1e3 * s for s in setting]), "reset_ms": median([1e3 * s for s in resetting])}


def _vector_envs(
    makers: Sequence[Callable[[], gymnasium.Env[Any, Any]]], closing: ExitStack, *, parallel: bool
) -> dict[str, VectorEnv[Any, Any, Any]]:
    """Gymnasium's vector environments by name, in this process and, if asked for, in one process each."""
    made: dict[str, VectorEnv[Any, Any, Any]] = {"sync": SyncVectorEnv(makers)}
    closing.callback(made["sync"].close)
    if parallel:
        with ctrl_c_is_ours(later=True):
            made["async"] = AsyncVectorEnv(makers)
        closing.push(_closes(made["async"]))
    return made


def _closes(envs: VectorEnv[Any, Any, Any]) -> Callable[[Any, Any, Any], None]:
    """An exit function: closes worker processes, and kills them after an exception."""
    return lambda kind, error, trace: envs.close(terminate=kind is not None)


def _time_sampling(
    sampling: Sampling,
    actor: RandomActor,
    workers: int,
    limit: PhysicsLimit | None,
    others: Mapping[str, VectorEnv[Any, Any, Any]],
    steps_each: int,
    command: RolloutCommand,
) -> dict[str, Any]:
    """A row of results.

    Args:
        sampling: Sizes and tasks.
        actor: Acts at random.
        workers: Number of workers.
        limit: Measures the limit; None without physics.
        others: Gymnasium's vector environments.
        steps_each: Steps of each of these.
        command: Rounds and seed.
    """
    rng, streams = np.random.default_rng(command.seed), Streams(command.seed)

    def collect(player: Player) -> Trajectories:
        sampler = BlockSampler(player, len(sampling.tasks), sampling.episodes, sampling.horizon, sampling.blocks)
        sampler.set_tasks(sampling.tasks)
        return sampler.collect(actor, actor.begin(sampling.tasks, sampling.episodes), streams)[0]

    speeds, limits = list[float](), list[float | None]()
    theirs: dict[str, list[float]] = {name: [] for name in others}
    with sampling.player(workers, collect) as player:
        for i in range(command.rounds):
            clock = time.perf_counter()
            played = collect(player)
            speeds.append(played.env_steps / (time.perf_counter() - clock))
            limits.append(limit.steps_per_second() if limit else None)
            for name, envs in others.items():
                theirs[name].append(_time_vector_env(envs, steps_each, rng, i))
            progress(sampling.family.name, workers, i + 1, command.rounds)
    row = speed_row(workers, speeds, limits)
    for name in ("sync", "async"):
        measured = theirs.get(name, [None] * len(speeds))
        row |= {f"{name}_env_steps_per_s": median(measured), f"ratio_vs_{name}": ratio(speeds, measured)}
    return row


def _check_size(family: Family, command: RolloutCommand) -> None:
    """Raises ValueError if the batch does not fit into memory."""
    horizon = command.horizon or family.horizon
    check_memory([tasks_memory(family.distribution, command.tasks)])
    envs = family.make_envs(1, 1, horizon)
    try:
        check_actions(envs, command.tasks, command.episodes, horizon)
    finally:
        envs.close()


COLUMNS = ("family", *SPEEDS, "ratio_vs_sync", "ratio_vs_async")
"""Columns of the table over several families."""


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
        if command.out is not None:
            check_picture(command.out)
            if everything:
                raise ValueError(f"--out: got --family {command.family}, expected one family for a picture")
        specs = EVERY[command.family]() if everything else [command.family]
        families = [make_family(spec) for spec in specs]
        commands = [replace(command, family=spec) for spec in specs]
        rows = [bench_rollout(family, one) for family, one in zip(families, commands, strict=True)]
        if command.out is not None:
            write_bytes(command.out, speed_picture(rows[0]["rows"], f"sampling of {rows[0]['family']}, random actions"))
    if command.json:
        end_with_json(rows if everything else rows[0])
        return 0
    if everything:
        print_table(COLUMNS, rows)
        return 0
    for name, value in rows[0].items():
        if name not in (*SPEEDS, "rows"):
            print(f"{name:>24}  {cell(value)}")
    print_table(SPEEDS, rows[0]["rows"])
    if command.out is not None:
        print(f"picture: {command.out}")
    return 0
