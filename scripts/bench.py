"""`metarl bench rollout`: sampling speed beside bare physics and Gymnasium's vector environments."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv, VectorEnv

from metarl.config import Count, Whole, check
from metarl.envs.mujoco_batch import MujocoTaskEnv
from metarl.registry import make_family
from metarl.scripts.common import border, end_with_json, parse, refuse
from metarl.scripts.reference.environments import GYMNASIUM_IDS, SINGLE_ENVS
from metarl.tasks import Family
from metarl.vector import TaskVecEnv

REFERENCE_ROWS = 40
REFERENCE_STEPS = 100


@dataclass(frozen=True, kw_only=True)
class RolloutCommand:
    """Measures sampling with random actions, all contenders in turn, medians over the rounds."""

    family: str = "half-cheetah-vel"
    """Family to sample."""
    tasks: Count = 20
    """Tasks of the batch (M)."""
    episodes: Count = 20
    """Environments per task (E)."""
    rounds: Count = 7
    """Times that each contender is measured, after a warm-up round."""
    seed: Whole = 0
    """Seed of tasks, resets and actions."""
    json: bool = False
    """End stdout with one line of JSON."""


def _single_env(family: Family) -> Callable[[], gymnasium.Env[Any, Any]]:
    """The Gymnasium environment to compare with: the registered one, or our plain single environment."""
    if family.name in GYMNASIUM_IDS:
        return partial(gymnasium.make, GYMNASIUM_IDS[family.name])
    if family.name in SINGLE_ENVS:
        return partial(SINGLE_ENVS[family.name], family.distribution.held_out(1)[0])
    raise ValueError(f"bench: family {family.name!r} has no single environment to compare with")


def _time_ours(envs: TaskVecEnv, actions: np.ndarray, seed: int) -> float:
    """Environment steps per second of one episode in every row, its reset included; only live rows count."""
    clock = time.perf_counter()
    envs.reset(seed=seed)
    steps, live = 0, envs.num_envs
    for action in actions:
        _, _, terminated, truncated, _ = envs.step(action)
        steps += live
        live -= int((terminated | truncated).sum())  # an episode ends once
        if not live:
            break
    return steps / (time.perf_counter() - clock)


def _time_physics(envs: TaskVecEnv, actions: np.ndarray, seed: int) -> float | None:
    """The same episodes in bare physics; None where a family has none."""
    if not isinstance(envs, MujocoTaskEnv):
        return None
    envs.reset(seed=seed)
    seconds, rows = 0.0, np.arange(envs.num_envs)
    for action in actions:
        envs.batch.set_controls(rows, action)
        clock = time.perf_counter()
        envs.batch.bare_physics(rows)
        seconds += time.perf_counter() - clock
    return len(actions) * envs.num_envs / seconds


def _random_actions(space: Any, steps: int, rows: int, rng: np.random.Generator) -> np.ndarray:
    """Uniform random actions, `[steps, rows, ...]`."""
    if isinstance(space, spaces.Discrete):
        return rng.integers(space.n, size=(steps, rows))
    return rng.uniform(space.low, space.high, (steps, rows, *space.shape)).astype(np.float32)


def _time_vector_env(envs: VectorEnv[Any, Any, Any], rng: np.random.Generator, seed: int) -> float:
    """Steps per second of a Gymnasium vector environment."""
    actions = _random_actions(envs.single_action_space, REFERENCE_STEPS, envs.num_envs, rng)
    clock = time.perf_counter()
    envs.reset(seed=seed)
    for action in actions:
        envs.step(action)
    return REFERENCE_STEPS * envs.num_envs / (time.perf_counter() - clock)


def bench_rollout(family: Family, command: RolloutCommand) -> dict[str, Any]:
    """Steps per second and ratios, as `metarl bench rollout` prints them.

    Args:
        family: The family.
        command: Sizes, rounds and seed.
    """
    rng = np.random.default_rng(command.seed)
    envs = family.make_envs(command.tasks, command.episodes, family.horizon)
    envs.set_tasks(family.distribution.sample(command.tasks, rng))
    make = _single_env(family)
    sync: VectorEnv[Any, Any, Any] = SyncVectorEnv([make] * REFERENCE_ROWS)
    parallel: VectorEnv[Any, Any, Any] = AsyncVectorEnv([make] * REFERENCE_ROWS)
    rounds = []
    try:
        for i in range(command.rounds + 1):
            actions = _random_actions(envs.single_action_space, family.horizon, envs.num_envs, rng)
            rounds.append(
                {
                    "env_steps_per_s": _time_ours(envs, actions, i),
                    "physics_steps_per_s": _time_physics(envs, actions, i),
                    "sync_env_steps_per_s": _time_vector_env(sync, rng, i),
                    "async_env_steps_per_s": _time_vector_env(parallel, rng, i),
                }
            )
            print(f"round {i} of {command.rounds}", file=sys.stderr, flush=True)
    finally:
        for one in (envs, sync, parallel):
            one.close()

    def median(values: Sequence[float | None]) -> float | None:
        numbers = [v for v in values if v is not None]
        return round(statistics.median(numbers), 4) if numbers else None

    def ratio(over: str) -> float | None:
        """Median of the ratios within a round, so that a drift of the machine cancels."""
        return median([r["env_steps_per_s"] / r[over] if r[over] else None for r in measured])  # type: ignore[operator]

    measured = rounds[1:]  # the first warms up
    return {
        "family": family.name,
        "tasks": command.tasks,
        "episodes": command.episodes,
        **{key: median([r[key] for r in measured]) for key in measured[0]},
        "fraction_of_physics": ratio("physics_steps_per_s"),
        "ratio_vs_sync": ratio("sync_env_steps_per_s"),
        "ratio_vs_async": ratio("async_env_steps_per_s"),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help"):
        print(
            "usage: metarl bench rollout [--family F] [--tasks M] [--episodes E] [--json]\n\n"
            "  rollout   environment steps per second; options: metarl bench rollout --help"
        )
        return 0 if words else 2
    if words[0] != "rollout":
        refuse(f"bench: got {words[0]!r}, expected 'rollout'")
    with border():
        command: RolloutCommand = parse(RolloutCommand, "metarl bench rollout", words[1:])
        check(command)
        family = make_family(command.family)
        row = bench_rollout(family, command)
    if command.json:
        end_with_json(row)
        return 0
    for name, value in row.items():
        print(f"{name:>24}  {value:,.2f}" if isinstance(value, float) else f"{name:>24}  {value}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
