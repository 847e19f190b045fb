"""Measures whether single environments are stepped faster in this process or in worker processes."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from metarl.own_code.errors import EnvError
from metarl.own_code.guest import say_once
from metarl.stepping import Stepping
from metarl.tasks import Family
from metarl.vector import available_cores, random_actions

MEASURED_ROWS = 64
MEASURED_SECONDS = 0.5
CLEARLY_FASTER = 1.2
"""Speed-up from which worker processes are chosen; below it, one process is simpler."""


def settled(family: Family, rows: int) -> Stepping | None:
    """A family's stepping; `auto` is resolved by a short measurement of both ways.

    Args:
        family: The family.
        rows: `N`, environments of the batch.

    Returns:
        None for a family without single environments.
    """
    stepping = family.stepping
    if stepping is None or stepping.workers != "auto":
        return stepping
    sync, parallel = replace(stepping, workers="sync"), replace(stepping, workers="async")
    if available_cores() == 1 or rows == 1:
        return sync
    here = _steps_per_second(family.with_stepping(sync), min(rows, MEASURED_ROWS))
    try:
        there = _steps_per_second(family.with_stepping(parallel), min(rows, MEASURED_ROWS))
    except EnvError as error:
        say_once(f"environments are stepped in this process, since worker processes fail: {error}")
        return sync
    return parallel if there > CLEARLY_FASTER * here else sync


def _steps_per_second(family: Family, rows: int) -> float:
    """Environment steps per second under random actions, without construction and first step."""
    envs = family.make_envs(1, rows, family.horizon)
    rng, space = np.random.default_rng(0), envs.single_action_space
    try:
        envs.set_tasks(family.distribution.train_tasks(1))
        envs.reset(seed=0)
        envs.step(random_actions(space, rows, rng))
        clock, steps = time.perf_counter(), 0
        while (seconds := time.perf_counter() - clock) < MEASURED_SECONDS:
            live = ~np.logical_or(*envs.step(random_actions(space, rows, rng))[2:4])
            steps += rows
            if not live.all():
                envs.reset(seed=0)
        return steps / seconds
    finally:
        envs.close()
