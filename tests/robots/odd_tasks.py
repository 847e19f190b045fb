"""Environments whose tasks have little or an unexpected effect, for `metarl check` and the short test."""

from __future__ import annotations

import os
import time
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from metarl import Family, gymnasium_family, uniform

GOAL = uniform("goal", 0.5, 1.0, meaning="m")


class Line(gymnasium.Env):
    """A point on a line with a hidden goal."""

    def __init__(self) -> None:
        self.observation_space = spaces.Box(-10.0, 10.0, (2,), np.float64)
        self.action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
        self.goal: Any = 0.0
        self.x, self.time = 0.0, 0

    def set_task(self, task: dict[str, Any]) -> None:
        self.goal = task["goal"]

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.x, self.time = float(self.start()), 0
        return self.observe(), {}

    def start(self) -> float:
        return self.np_random.uniform(-0.1, 0.1)

    def step(self, action: Any) -> Any:
        self.x = float(np.clip(self.x + 0.1 * float(action[0]), -9.0, 9.0))
        self.time += 1
        return self.observe(), self.reward(action), self.fails(), False, {}

    def observe(self) -> Any:
        return np.array([self.x, 0.0])

    def reward(self, action: Any) -> Any:
        return -abs(self.x - self.goal)

    def fails(self) -> bool:
        return False


class Deaf(Line):
    def reward(self, action: Any) -> float:
        return -abs(self.x)


class DeafAndConstant(Line):
    def reward(self, action: Any) -> float:
        return -1.0


class Sparse(Line):
    """Rewards only states that random actions do not reach; actions cost reward."""

    def reward(self, action: Any) -> float:
        return float(abs(self.x - 8.0 - self.goal) < 0.1) - 0.1 * float(action[0]) ** 2


class Rounding(Line):
    """The goal only changes rounding errors."""

    def observe(self) -> Any:
        return np.array([self.x + self.goal - self.goal, 1e-17 * self.goal])

    def reward(self, action: Any) -> float:
        return -abs((self.x + 3.0 * self.goal) - 3.0 * self.goal)


class DrawsMore(Line):
    """Draws more random numbers for half of the tasks; the first observation does not depend on them."""

    def start(self) -> float:
        if self.goal > 0.75:
            self.np_random.uniform()
        return super().start()


class DrawsMoreOnly(DrawsMore):
    """Random numbers apart, its tasks are equal."""

    def reward(self, action: Any) -> float:
        return -abs(self.x)


class LeaksAndDrawsMore(DrawsMore):
    def observe(self) -> Any:
        return np.array([self.x, 0.0]) + 0.1 * self.goal


class LeaksInTheNoise(Line):
    """The task only changes the spread of the initial state."""

    def start(self) -> float:
        return self.np_random.uniform(-0.1, 0.1) * self.goal


class ThirdIsUnused(Line):
    def reward(self, action: Any) -> float:
        return -abs(self.x - self.goal[0]) - abs(self.x - self.goal[1])


class TimeLimitTerminates(Line):
    def fails(self) -> bool:
        return self.time >= 30


class LaterTimeLimitTerminates(Line):
    def fails(self) -> bool:
        return self.time >= 150


class Told(gymnasium.Env):
    """A mass on a spring whose parameters are attributes."""

    def __init__(self) -> None:
        self.observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float64)
        self.action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
        self.mass, self.load, self.push, self.goal = 1.0, 0.5, 1.0, 0.0
        self.total = self.mass + self.load
        self.x, self.v = 0.0, 0.0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.x, self.v = self.np_random.uniform(-1.0, 1.0, 2)
        self.goal = self.np_random.uniform(-1.0, 1.0)
        return np.array([self.x, self.v]), {}

    def step(self, action: Any) -> Any:
        self.v += 0.1 * (self.push * float(action[0]) - self.x) / self.total - 0.01 * self.load
        self.x += 0.1 * self.v
        return np.array([self.x, self.v]), -abs(self.x - self.goal), False, False, {}


class Constructed(Told):
    """Takes its mass as an argument; set_task does not update the total."""

    def __init__(self, mass: float = 1.0) -> None:
        super().__init__()
        self.mass, self.total = mass, mass + self.load

    def set_task(self, task: dict[str, Any]) -> None:
        self.mass = task["mass"]


class Slow(Deaf):
    seconds = 0.15

    def step(self, action: Any) -> Any:
        time.sleep(self.seconds)
        return super().step(action)


class SlowToReset(Deaf):
    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        time.sleep(30.0)
        return super().reset(seed=seed, options=options)


class Breaks(Line):
    def reward(self, action: Any) -> float:
        raise RuntimeError("the gripper is stuck")


def family_of(kind: type[gymnasium.Env], *names: str, size: int = 1, horizon: int = 40, **settings: Any) -> Family:
    """A family whose tasks differ in the named parameters, `goal` by default."""
    parameters = [uniform(name, 0.5, 1.0, size=size, meaning="1") for name in names or ("goal",)]
    return gymnasium_family(kind, name=kind.__name__, parameters=parameters, horizon=horizon, **settings)


class Exits(Line):
    def reward(self, action: Any) -> float:
        os._exit(3)


def exiting() -> Family:
    return family_of(Exits)


def deaf() -> Family:
    return family_of(Deaf)


def sound() -> Family:
    return family_of(Line)


def slow() -> Family:
    return family_of(Slow)
