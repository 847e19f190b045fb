"""How large the tasks and environments of a batch are, for an estimate before they are made."""

from __future__ import annotations

from typing import Any

from metarl.memory import DOUBLE, FLOAT, Need, check_memory, rollout_memory
from metarl.tasks import Family
from metarl.types import Spaces
from metarl.vector import TaskVecEnv

TASK, TASK_NUMBER = 500, 40
"""Bytes of a task, and of each of its numbers beside the arrays that it was drawn in: Python objects."""


def tasks_memory(distribution: Any, count: int) -> Need:
    """What drawn tasks need, those that are held out included.

    Args:
        distribution: Where they come from.
        count: How many are drawn at a time.
    """
    numbers = sum(parameter.variates for parameter in getattr(distribution, "parameters", ()))
    count += getattr(distribution, "finite", 0) + getattr(distribution, "held_out_size", 0)
    return Need(
        f"drawing {count:,} tasks of {numbers:,} numbers",
        count * (TASK + (TASK_NUMBER + 2 * DOUBLE) * numbers),
        "fewer --tasks, or tasks of fewer numbers",
    )


def environments_memory(envs: TaskVecEnv, tasks: int, episodes: int) -> Need:
    """What a batch of environments needs.

    Args:
        envs: A batch of one environment.
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
    """What it takes to play one episode in each environment of a batch, and to record it.

    Args:
        family: Makes the environments.
        spaces: Sizes and horizon.
        tasks: `M`.
        episodes: `E`.
        collects: Recordings that are kept at a time.
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
    """What an evaluation needs beside its environments.

    Args:
        spaces: Sizes and horizon.
        tasks: How many in all.
        at_once: Tasks that are played at a time.
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
    """Raises ValueError where no memory holds random actions for every step of every row."""
    numbers = tasks * episodes * steps * envs.spaces.action_size
    need = Need(
        f"drawing {numbers:,} random numbers for actions",
        numbers * (DOUBLE + FLOAT),
        "fewer --tasks or --episodes, or a shorter --horizon",
    )
    check_memory([need, environments_memory(envs, tasks, episodes)])
