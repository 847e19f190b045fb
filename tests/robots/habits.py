"""Environments with the side effects of users' environments; worker processes import them by name."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from functools import partial
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from metarl import Family, gymnasium_family, uniform
from metarl.vector import random_actions

GOAL = uniform("goal", -1.0, 1.0, size=2, meaning="m")


class Point(gymnasium.Env):
    """A point on a line without side effects; each subclass has one."""

    def __init__(self, render_mode: str | None = None) -> None:
        self.observation_space: Any = spaces.Box(-10.0, 10.0, (2,), np.float64)
        self.action_space: Any = spaces.Box(-1.0, 1.0, (1,), np.float32)
        self.goal, self.x = np.zeros(2), 0.0

    def set_task(self, task: dict[str, Any]) -> None:
        self.goal = task["goal"]

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.x = self.np_random.uniform(-0.1, 0.1)
        return self.observe(), {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action), action
        self.x = float(np.clip(self.x + 0.1 * float(np.ravel(action)[0]), -9.0, 9.0))
        return self.observe(), self.reward(), *self.flags(), self.info()

    def observe(self) -> Any:
        return np.array([self.x, 0.0])

    def reward(self) -> Any:
        return -abs(self.x - float(self.goal[0]))

    def flags(self) -> Any:
        return False, False

    def info(self) -> Any:
        return {}


class ArraysOfOne(Point):
    def reward(self) -> Any:
        return np.array([super().reward()])

    def flags(self) -> Any:
        return np.array([False]), None

    def info(self) -> Any:
        return {"success": np.array([[self.x > 0.0]])}


class SuccessIsNone(Point):
    def info(self) -> Any:
        return {"success": None}


class Says(Point):
    """Returns one wrong value, chosen by name."""

    def __init__(self, what: str = "") -> None:
        super().__init__()
        self.what = what
        if what == "whole":
            self.observation_space = spaces.Box(0, 255, (2,), np.uint8)
        if what == "choice":
            self.observation_space = spaces.MultiDiscrete([3, 3])

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        observation, info = super().reset(seed=seed)
        return observation if self.what == "old reset" else (observation, info)

    def step(self, action: Any) -> Any:
        answer = super().step(action)
        return answer[:3] + answer[4:] if self.what == "old step" else answer

    def observe(self) -> Any:
        if self.what == "nothing":
            return None
        return (
            np.array([0.5, 3.0])
            if self.what == "whole"
            else np.array([-1, 2])
            if self.what == "choice"
            else np.zeros(2)
        )

    def reward(self) -> Any:
        return {"no reward": None, "rewards": np.zeros(2)}.get(self.what, 0.0)

    def info(self) -> Any:
        return {"success": np.array([True, False])} if self.what == "successes" else {"succeed": np.bool_(True)}


class LateSensor(Point):
    """Its first observation is not a number in every second episode."""

    episodes = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        observation, info = super().reset(seed=seed)
        self.episodes += 1
        return (np.full(2, np.nan), info) if self.episodes % 2 == 0 else (observation, info)


class Huge(Point):
    def observe(self) -> Any:
        return np.array([1e300, 0.0])


class ChangesItsTask(Point):
    def step(self, action: Any) -> Any:
        self.goal += 1.0
        return super().step(action)


class ChangesItsOptions(Point):
    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.goal = options["task"]["goal"]
        self.goal *= 2.0
        return super().reset(seed=seed)


class Leaves(Point):
    """Calls sys.exit in one of its methods."""

    def __init__(self, where: str = "") -> None:
        super().__init__()
        self.where = where

    def leave(self, here: str) -> None:
        if self.where == here:
            sys.exit(3)

    def set_task(self, task: dict[str, Any]) -> None:
        self.leave("set_task")
        super().set_task(task)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.leave("reset")
        return super().reset(seed=seed)

    def step(self, action: Any) -> Any:
        self.leave("step")
        return super().step(action)

    def close(self) -> None:
        self.leave("close")


class Closes(Point):
    """Raises or hangs in close."""

    hung = 0

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.used = how, False

    def step(self, action: Any) -> Any:
        self.used = True
        if self.how == "lost":
            raise ConnectionError("the simulator is gone")
        return super().step(action)

    def close(self) -> None:
        if self.how == "hangs" and self.used:
            Closes.hung += 1
            time.sleep(1000)
        if self.how != "hangs":
            raise OSError("the socket is closed already")


class Handles(Point):
    """Sets a handler of Ctrl-C, and goes to another folder, of which it reads a file in every reset."""

    def __init__(self, folder: str) -> None:
        super().__init__()
        signal.signal(signal.SIGINT, lambda *_: sys.exit(7))
        os.chdir(folder)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        with open("model.xml", encoding="utf-8") as file:
            assert file.read() == "<mujoco/>"
        return super().reset(seed=seed)


class GlobalNoise(Point):
    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.x = float(np.random.uniform(-0.1, 0.1))  # noqa: NPY002
        return self.observe(), {}


def _engine(pipe: Any) -> None:
    while True:
        pipe.send(pipe.recv())


class OwnProcess(Point):
    """Starts a process that it never ends, and observes its pid."""

    def __init__(self) -> None:
        super().__init__()
        self.observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float64)
        self.pipe, other = multiprocessing.Pipe()
        self.process = multiprocessing.get_context("fork").Process(target=_engine, args=(other,))
        self.process.start()

    def observe(self) -> Any:
        return np.array([self.process.pid, os.getpid()])


class Bounded(Point):
    def __init__(self, low: Any, high: Any, dtype: Any) -> None:
        super().__init__()
        self.action_space = spaces.Box(np.asarray(low, dtype), np.asarray(high, dtype), dtype=dtype)


class Draws(Point):
    """Draws a picture of the given numbers."""

    picture: Any = None

    def render(self) -> Any:
        return self.picture


class Prints(Point):
    def step(self, action: Any) -> Any:
        print("still here")
        print("still there", file=sys.stderr)
        return super().step(action)


def family(kind: type[gymnasium.Env], *values: Any, **settings: Any) -> Family:
    settings = {"horizon": 5, "parameters": [GOAL]} | settings
    return gymnasium_family(partial(kind, *values), name="habit", **settings)


class Interrupts(Point):
    def step(self, action):
        raise KeyboardInterrupt


# Playing them -----------------------------------------------------------------------------------------------


def steps(envs: Any) -> Any:
    """Five steps of a batch under random actions."""
    rng = np.random.default_rng(0)
    return [envs.step(random_actions(envs.single_action_space, envs.num_envs, rng)) for _ in range(5)]


def played(envs: Any) -> Any:
    """Resets a batch and steps it; closes it, whatever happens."""
    try:
        envs.reset(seed=0)
        return steps(envs)
    finally:
        envs.close()
