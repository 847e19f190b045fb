"""Way 2: the environment receives its task by `set_task`, or at reset; see docs/custom-environments.md."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from metarl import ContinuousTasks, Family, gymnasium_family, uniform


class Reach(gymnasium.Env[dict[str, np.ndarray], np.ndarray]):
    """A mass in the plane, moved by a force to a goal that it does not observe."""

    def __init__(self) -> None:
        part = spaces.Box(-10.0, 10.0, (2,), np.float64)
        self.observation_space = spaces.Dict({"position": part, "velocity": part})
        self.action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self._goal = self._position = self._velocity = np.zeros(2)

    def set_task(self, task: dict[str, Any]) -> None:
        """Sets the goal, m."""
        self._goal = task["goal"]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Starts at rest near the origin."""
        super().reset(seed=seed)
        self._position, self._velocity = self.np_random.uniform(-0.05, 0.05, 2), np.zeros(2)
        return self._observation(), {}

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Applies the force for 0.1 s; reaching the goal ends the episode."""
        self._velocity = np.clip(0.9 * self._velocity + action, -10.0, 10.0)
        self._position = np.clip(self._position + 0.1 * self._velocity, -10.0, 10.0)
        distance = float(np.linalg.norm(self._position - self._goal))
        return self._observation(), -distance, distance < 0.05, False, {"success": distance < 0.05}

    def _observation(self) -> dict[str, np.ndarray]:
        return {"position": self._position.copy(), "velocity": self._velocity.copy()}


class ReachByOptions(Reach):
    """The same environment, which receives its task at reset."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Sets the goal to that of `options["task"]`."""
        self._goal = (options or {})["task"]["goal"]
        return super().reset(seed=seed)


GOAL = uniform("goal", -1.0, 1.0, size=2, meaning="where to go, m")


def make_family() -> Family:
    """Goals drawn from a range; `set_task` is found."""
    return gymnasium_family(Reach, name="reach", parameters=[GOAL], horizon=50)


def by_options() -> Family:
    """Goals drawn from a fixed set, passed at reset."""
    tasks = ContinuousTasks("reach-by-options", (GOAL,), finite=50, held_out_size=20)
    return gymnasium_family(ReachByOptions, name="reach-by-options", distribution=tasks, horizon=50, task_by="options")
