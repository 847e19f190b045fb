"""Memory of the tasks and environments of a batch, estimated before they are created."""

from __future__ import annotations

from typing import Any

from metarl.memory import DOUBLE, FLOAT, Need, check_memory, rollout_memory
from metarl.tasks import Family
from metarl.types import Spaces
from metarl.vector import TaskVecEnv

TASK, TASK_NUMBER = 500, 40
"""Bytes of the Python objects of a task and of each of its numbers, without the arrays that they were drawn in."""


def tasks_memory(distribution: Any, count: int) -> Need:
    """Memory of drawn tasks, including the held-out ones.

    Args:
        distribution: Source of the tasks.
        count: Number of tasks in one draw.
    """
    numbers = sum(parameter.variates for parameter in getattr(distribution, "parameters", ()))
    count += getattr(distribution, "finite", 0) + getattr(distribution, "held_out_size", 0)
    return Need(
        f"drawing {count:,} tasks of {numbers:,} numbers",
        count * (TASK + (TASK_NUMBER + 2 * DOUBLE) * numbers),
        "fewer --tasks, or tasks of fewer numbers",
    )


def environments_memory(envs: TaskVecEnv, tasks: int, episodes: int) -> Need:
    """Memory of a batch of environments.

    Args:
        envs: A batch with one such environment.
        tasks: `M`.
        episodes: `E`.
    """
    row = envs.row_bytes + 4 * DOUBLE * int(envs.single_observation_space.shape[0])
    return Need(
        f"holding {tasks * episodes:,} environments of {row:,} bytes",
        tasks * (envs.task_bytes + episodes * row),
        "fewer --tasks or --episodes",
    )


def batch_memory(family: Family, spaces: Spaces, tasks: int, episodes: int, collects: int = 1) -> list[Need]:
    """Memory of a batch of environments, its tasks, and the recording of one episode in each.

    Args:
        family: Source of the environments.
        spaces: Sizes and horizon.
        tasks: `M`.
        episodes: `E`.
        collects: Recordings in memory at the same time.
    """
    envs = family.make_envs(1, 1, spaces.horizon)
    try:
        return [
            rollout_memory(spaces, tasks, episodes, collects),
            environments_memory(envs, tasks, episodes),
            tasks_memory(family.distribution, tasks),
        ]
    finally:
        envs.close()


def evaluation_memory(spaces: Spaces, tasks: int, at_once: int, episodes: int, steps: int) -> list[Need]:
    """Memory of an evaluation, without its environments.

    Args:
        spaces: Sizes and horizon.
        tasks: Total number of tasks.
        at_once: Tasks per batch.
        episodes: `E`.
        steps: `K`.
    """
    record = Need(
        f"keeping the returns of {tasks:,} tasks of {episodes:,} episodes before and after {steps:,} steps",
        5 * DOUBLE * tasks * episodes * (steps + 1),
        "fewer --tasks, --episodes or --adapt-steps",
    )
    return [rollout_memory(spaces, min(tasks, at_once), episodes), record]


def check_actions(envs: TaskVecEnv, tasks: int, episodes: int, steps: int) -> None:
    """Raises ValueError if random actions for every step of every row do not fit into memory."""
    numbers = tasks * episodes * steps * envs.spaces.action_size
    need = Need(
        f"drawing {numbers:,} random numbers for actions",
        numbers * (DOUBLE + FLOAT),
        "fewer --tasks or --episodes, or a shorter --horizon",
    )
    check_memory([need, environments_memory(envs, tasks, episodes)])
