"""An environment with rendering: a bar whose height is the goal, and whose colour is the time."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from metarl import Family, gymnasium_family, uniform


class Drawn(gymnasium.Env):
    def __init__(self, render_mode: str | None = None) -> None:
        self.observation_space = spaces.Box(-1.0, 1.0, (1,), np.float64)
        self.action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
        self.render_mode, self.time, self.goal = render_mode, 0, 0.0

    def set_task(self, task: dict[str, Any]) -> None:
        self.goal = task["goal"]

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.time = 0
        return np.zeros(1), {}

    def step(self, action: Any) -> Any:
        self.time += 1
        return np.zeros(1), float(-abs(action[0] - self.goal)), False, False, {}

    def render(self) -> Any:
        assert self.render_mode == "rgb_array"
        picture = np.zeros((20, 10, 3), dtype=np.uint8)
        picture[: int(20 * self.goal)] = 10 * self.time
        return picture


class Flat(Drawn):
    def render(self) -> Any:
        return np.zeros((20, 10))


def make_family() -> Family:
    return gymnasium_family(Drawn, name="drawn", parameters=[uniform("goal", 0.2, 1.0, meaning="1")])


def make_flat_family() -> Family:
    return gymnasium_family(Flat, name="flat", parameters=[uniform("goal", 0.2, 1.0, meaning="1")])
