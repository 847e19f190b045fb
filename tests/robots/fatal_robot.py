"""Points in the plane whose worker process comes to grief in some tasks; worker processes import them by name."""

from __future__ import annotations

import ctypes
import dataclasses
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from metarl.envs.point_robot import PointRobot, point_robot
from metarl.finite import NotFiniteError
from metarl.own_code.guest import say_once
from metarl.tasks import Family
from metarl.types import Task


class FatalPoint(PointRobot):
    """Breaks down in the third step of a batch with a task whose goal is on the right, but never in the owner.

    Args:
        fault: Kind of breakdown.
        folder: Counts the breakdowns; None for no limit.
        times: Number of breakdowns.
        owner: Process that made the family.
        num_tasks: `M`.
        episodes: `E`.
        horizon: `T`.
    """

    def __init__(
        self, fault: str, folder: str | None, times: int, owner: int, num_tasks: int, episodes: int, horizon: int
    ) -> None:
        super().__init__(num_tasks, episodes, horizon)
        self._fault, self._folder, self._times = fault, folder, times
        worker = multiprocessing.current_process().name == "metarl-worker"
        self._t, self._at_work = 0, worker or os.getpid() != owner
        if self._at_work and fault == "never made":
            raise RuntimeError("the model is missing")

    def _apply_tasks(self, tasks: Sequence[Task]) -> None:
        super()._apply_tasks(tasks)
        self._fatal = self._at_work and any(task["goal"][0] > 0.0 for task in tasks)

    def _reset_rows(self, rows: np.ndarray, rng: np.random.Generator) -> None:
        super()._reset_rows(rows, rng)
        self._t = 0

    def _step_rows(self, rows: np.ndarray, actions: Any) -> Any:
        self._t += 1
        if self._fatal and self._t == 3 and self._is_due():
            break_down(self._fault)
        return super()._step_rows(rows, actions)

    def _is_due(self) -> bool:
        if self._folder is None:
            return True
        for number in range(self._times):
            try:
                (Path(self._folder) / f"breakdown-{number}").touch(exist_ok=False)
            except FileExistsError:
                continue
            return True
        return False


def break_down(fault: str) -> None:
    """The fault."""
    if fault == "raise":
        raise RuntimeError("the gripper is stuck")
    if fault == "environment":
        raise RuntimeError(f"it is {os.environ.get('METARL_NEW')}")
    if fault == "exit":
        os._exit(3)
    if fault == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "fork":
        os.fork()
    if fault == "segfault":
        ctypes.string_at(0)
    if fault == "sleep":
        time.sleep(1000)
    if fault == "stuck":  # in C code, and no other thread of Python can run
        ctypes.PyDLL(None).sleep(1000)
    if fault == "nan":
        raise NotFiniteError("got a reward that is not finite")
    if fault == "overflow":
        raise RuntimeError("value cannot be converted to type float without overflow")
    if fault == "child":
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
        time.sleep(1000)
    if fault == "talk":
        print("it is cold here")
        say_once("the gripper squeaks")
        warnings.warn("never seen", stacklevel=1)


def family(fault: str, folder: Path | None = None, times: int = 1) -> Family:
    """Point-robot with a fault."""
    make_envs = partial(FatalPoint, fault, None if folder is None else str(folder), times, os.getpid())
    return dataclasses.replace(point_robot(), name="fatal", make_envs=make_envs)


def from_environment() -> Family:
    """For command lines: the fault is in environment variables."""
    folder = os.environ.get("FATAL_FOLDER")
    return family(os.environ["FATAL"], Path(folder) if folder else None, int(os.environ.get("FATAL_TIMES", "1")))


def unpicklable() -> Family:
    """Its environments are made by a function that pickle does not find."""
    return dataclasses.replace(point_robot(), name="unpicklable", make_envs=lambda m, e, t: PointRobot(m, e, t))
