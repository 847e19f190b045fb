"""Who is to step Gymnasium environments, where that is measured: this process, or worker processes."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from metarl.gymnasium_envs.batch import Stepping
from metarl.gymnasium_envs.family import random_actions, stepping_of, with_stepping
from metarl.own_code.errors import EnvError
from metarl.own_code.guest import say_once
from metarl.tasks import Family
from metarl.vector import available_cores

MEASURED_ROWS = 64
MEASURED_SECONDS = 0.5
CLEARLY_FASTER = 1.2
"""Worker processes are chosen where they are faster by this factor: close to 1 the simpler way is the better one."""


def settled(family: Family, rows: int) -> Stepping | None:
    """Who is to step a family's environments, `auto` resolved by measuring both for a moment.

    Args:
        family: The family.
        rows: `N`, environments of the batch to come.
    """
    stepping = stepping_of(family)
    if stepping is None or stepping.workers != "auto":
        return stepping
    sync, parallel = replace(stepping, workers="sync"), replace(stepping, workers="async")
    if available_cores() == 1 or rows == 1:
        return sync
    here = _steps_per_second(with_stepping(family, sync), min(rows, MEASURED_ROWS))
    try:
        there = _steps_per_second(with_stepping(family, parallel), min(rows, MEASURED_ROWS))
    except EnvError as error:
        say_once(f"environments are stepped in this process, since worker processes do not work for them: {error}")
        return sync
    return parallel if there > CLEARLY_FASTER * here else sync


def _steps_per_second(family: Family, rows: int) -> float:
    """Of random actions in a small batch; neither making the environments nor the first step counts."""
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
