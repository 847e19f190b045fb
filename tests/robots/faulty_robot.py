"""An environment that fails in many ways; worker processes import it by name."""

from __future__ import annotations

import ctypes
import itertools
import os
import signal
import time
from functools import partial
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from metarl import Family, gymnasium_family, uniform

GOAL = uniform("goal", -1.0, 1.0, meaning="m")


NEVER = 10**9
MARK = os.environ.get("FAULTY_MARK", "")
"""A file; once it exists, every environment fails, in whichever process."""


class Faulty(gymnasium.Env):
    """A point on a line that fails after a number of steps, counted over all such points of the process."""

    steps = 0

    def __init__(self, fault: str, after: int) -> None:
        self.observation_space = spaces.Box(-10.0, 10.0, (1,), np.float64)
        self.action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
        self.fault, self.after, self.goal, self.x = fault, after, 0.0, np.zeros(1)

    def set_task(self, task: dict[str, Any]) -> None:
        self.goal = task["goal"]

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.x = self.np_random.uniform(-0.1, 0.1, 1)
        return self.x.copy(), {}

    def step(self, action: Any) -> Any:
        Faulty.steps += 1
        if Faulty.steps > self.after or (MARK and os.path.exists(MARK)):
            self.break_down()
        self.x = np.clip(self.x + 0.1 * action, -10.0, 10.0)
        return self.x.copy(), -float(abs(self.x[0] - self.goal)), False, False, {}

    def break_down(self) -> None:
        if self.fault == "raise":
            raise RuntimeError("the gripper is stuck")
        if self.fault == "unpicklable":
            raise type("Local", (Exception,), {})("never seen by the parent")
        if self.fault == "exit":
            os._exit(3)
        if self.fault == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fault == "segfault":
            ctypes.string_at(0)
        if self.fault == "hang":
            time.sleep(1000)
        if self.fault == "sleep":
            time.sleep(0.4)
        if self.fault == "stuck":
            sum(itertools.repeat(0))


def family(fault: str, after: int = 3, **settings: Any) -> Family:
    Faulty.steps = 0
    make = partial(Faulty, fault, after)
    return gymnasium_family(make, name="faulty", parameters=[GOAL], horizon=10, **settings)


def raising() -> Family:
    """Breaks down as soon as the file `MARK` exists, as do the next three."""
    return family("raise", after=NEVER)


def hanging() -> Family:
    return family("hang", after=NEVER)


def stuck() -> Family:
    """Hangs outside of Python, where no signal handler of Python runs."""
    return family("stuck", after=NEVER)


def exiting() -> Family:
    return family("exit", after=NEVER)


def breaking() -> Family:
    return family("raise", after=0)
