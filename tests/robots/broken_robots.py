"""Families with one deliberate mistake each, for `metarl check`; worker processes import them by name."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import threading
from functools import partial
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from odd_tasks import Line

from metarl import ContinuousTasks, Family, Task, gymnasium_family, uniform

GOAL = uniform("goal", -1.0, 1.0, meaning="m")


class Sound(Line):
    """A point on a line without a fault."""


class Leaks(Sound):
    def observe(self) -> Any:
        return np.array([self.x, self.goal])


class IgnoresItsTask(Sound):
    def reward(self, action: Any) -> Any:
        return -abs(self.x)


class IgnoresItsSeed(Sound):
    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.x = np.random.default_rng().uniform(-0.1, 0.1)
        return self.observe(), {}


class RemembersTheLastEpisode(Sound):
    steps = 0

    def reward(self, action: Any) -> Any:
        self.steps += 1
        return super().reward(action) - 0.001 * self.steps


class NotFinite(Sound):
    def reward(self, action: Any) -> Any:
        return super().reward(action) + (np.inf if self.x > 0.3 else 0.0)


class WrongShape(Sound):
    def observe(self) -> Any:
        return np.zeros(3)


class WrongType(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.observation_space = spaces.Box(-10.0, 10.0, (2,), np.float32)


class OutOfBounds(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.observation_space = spaces.Box(-0.5, 0.5, (2,), np.float64)


class RewardIsAnArray(Sound):
    def reward(self, action: Any) -> Any:
        return np.array([0.0])


class NoInfo(Sound):
    def step(self, action: Any) -> Any:
        return (*super().step(action)[:4], None)


class Raises(Sound):
    def reward(self, action: Any) -> Any:
        raise RuntimeError("the gripper is stuck")


class TwoNumbers(Sound):
    """Tasks of two parameters, of which one has no effect."""

    unused = 0.0

    def set_task(self, task: dict[str, Any]) -> None:
        super().set_task(task)
        self.unused = task["unused"]


class Overlapping(ContinuousTasks):
    def sample(self, n: int, rng: np.random.Generator) -> list[Task]:
        return [*super().sample(n - 1, rng), self.held_out(1)[0]]


def family_of(kind: type[gymnasium.Env]) -> Family:
    parameters = [GOAL, uniform("unused", 0.0, 1.0, meaning="")] if kind is TwoNumbers else [GOAL]
    return gymnasium_family(kind, name=kind.__name__, parameters=parameters, horizon=40)


class DiesElsewhere(Sound):
    """Ends its process unless that is the one of the command."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        if multiprocessing.parent_process() is not None:
            self.fail()
        return super().reset(seed=seed, options=options)

    def fail(self) -> None:
        os._exit(3)


class HangsElsewhere(DiesElsewhere):
    def fail(self) -> None:
        sum(itertools.repeat(0))  # outside of Python, where no signal handler of Python runs


class RaisesElsewhere(DiesElsewhere):
    def fail(self) -> None:
        raise RuntimeError("no display here")


def sound() -> Family:
    return family_of(Sound)


def leaks() -> Family:
    return family_of(Leaks)


def overlapping() -> Family:
    return gymnasium_family(Sound, name="overlapping", distribution=Overlapping("overlapping", (GOAL,)), horizon=20)


def _with(lock: Any) -> Sound:
    return Sound()


def unpicklable() -> Family:
    return gymnasium_family(partial(_with, threading.Lock()), name="unpicklable", parameters=[GOAL], horizon=20)
