"""Way 1: the task is an argument of the constructor; see docs/custom-environments.md."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces


class WindyPoint(gymnasium.Env[np.ndarray, np.ndarray]):
    """A point that has to stay at the origin, in a wind that it does not observe.

    Args:
        wind: Velocity of the wind along x and y, m/s.
    """

    def __init__(self, wind: Any = (0.0, 0.0)) -> None:
        self.observation_space = spaces.Box(-10.0, 10.0, (2,), np.float64)
        self.action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self._wind, self._position = np.asarray(wind), np.zeros(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Starts near the origin."""
        super().reset(seed=seed)
        self._position = self.np_random.uniform(-0.1, 0.1, 2)
        return self._position.copy(), {}

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Moves with the wind and the action for 0.1 s."""
        self._position = np.clip(self._position + 0.1 * (action + self._wind), -10.0, 10.0)
        return self._position.copy(), -float(np.linalg.norm(self._position)), False, False, {}
