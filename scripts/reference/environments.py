"""Each family's environment one at a time, as plain Gymnasium environments, with the task as a constructor argument."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from metarl.types import Task


class PointRobotEnv(gymnasium.Env[np.ndarray, np.ndarray]):
    """One point in the plane; `sparse` chooses the reward of `sparse-point-robot`."""

    def __init__(self, task: Task, sparse: bool = False) -> None:
        self.observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float64)
        self.action_space = spaces.Box(-0.1, 0.1, (2,), np.float32)
        self._goal, self._sparse, self._position = task["goal"], sparse, [0.0, 0.0]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Back to the origin."""
        super().reset(seed=seed)
        self._position = [0.0, 0.0]
        return np.array(self._position), {}

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Moves by the action, each component clipped."""
        for i in range(2):
            self._position[i] += min(max(float(action[i]), -float(np.float32(0.1))), float(np.float32(0.1)))
        offset = [self._position[i] - self._goal[i] for i in range(2)]
        distance = (offset[0] ** 2 + offset[1] ** 2) ** 0.5
        if self._sparse:
            near = distance <= 0.2
            return np.array(self._position), 1.0 - distance if near else 0.0, False, False, {"success": near}
        arrived = abs(offset[0]) < 0.01 and abs(offset[1]) < 0.01
        return np.array(self._position), -distance, arrived, False, {"success": arrived}


class HalfCheetahEnv(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Gymnasium's `HalfCheetah-v5` with the reward of a task."""

    def __init__(self, task: Task) -> None:
        super().__init__(gymnasium.make("HalfCheetah-v5"))
        self._task = dict(task.parameters)

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """As `HalfCheetah-v5`, but for the reward."""
        observation, _, terminated, truncated, info = self.env.step(action)
        velocity = info["x_velocity"]
        cost = 0.05 * sum(float(a) ** 2 for a in action)
        if "direction" in self._task:
            reward = self._task["direction"][0] * velocity - cost
        else:
            reward = -abs(velocity - self._task["velocity"][0]) - cost
        return observation, reward, terminated, truncated, info


class BanditEnv(gymnasium.Env[np.ndarray, int]):
    """One bandit."""

    def __init__(self, task: Task) -> None:
        self._probabilities = task["probabilities"]
        self.observation_space = spaces.Box(0.0, 0.0, (1,), np.float64)
        self.action_space = spaces.Discrete(len(self._probabilities))  # type: ignore[assignment]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """A bandit has no state."""
        super().reset(seed=seed)
        return np.zeros(1), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Pulls an arm."""
        return np.zeros(1), float(self.np_random.random() < self._probabilities[action]), False, False, {}


class TabularMdpEnv(gymnasium.Env[np.ndarray, int]):
    """One tabular process."""

    def __init__(self, task: Task) -> None:
        states = len(task["transitions"]) // len(task["rewards"])
        self._rewards = np.reshape(task["rewards"], (states, -1))
        self._transitions = np.reshape(task["transitions"], (*self._rewards.shape, states))
        self._state = 0
        self.observation_space = spaces.Box(0.0, 1.0, (states,), np.float64)
        self.action_space = spaces.Discrete(self._rewards.shape[1])  # type: ignore[assignment]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Back to state 0."""
        super().reset(seed=seed)
        self._state = 0
        return np.eye(len(self._rewards))[0], {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Earns a noisy reward and moves to a random state."""
        reward = self.np_random.normal(self._rewards[self._state, action], 1.0)
        self._state = int(self.np_random.choice(len(self._rewards), p=self._transitions[self._state, action]))
        return np.eye(len(self._rewards))[self._state], reward, False, False, {}


SINGLE_ENVS: dict[str, Callable[[Task], gymnasium.Env[Any, Any]]] = {
    "point-robot": PointRobotEnv,
    "sparse-point-robot": lambda task: PointRobotEnv(task, sparse=True),
    "half-cheetah-dir": HalfCheetahEnv,
    "half-cheetah-vel": HalfCheetahEnv,
    "half-cheetah-vel-3": HalfCheetahEnv,
    "bandit": BanditEnv,
    "tabular-mdp": TabularMdpEnv,
}
"""By family: a task's environment."""

GYMNASIUM_IDS = {name: "HalfCheetah-v5" for name in SINGLE_ENVS if name.startswith("half-cheetah")}
"""By family: the Gymnasium environment whose physics it uses, where there is one."""
