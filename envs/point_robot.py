"""Point-robot families: a point that finds a hidden goal in the plane. Small, for quick experiments and tests.

The observation is the position (x, y). The action is a displacement, each component clipped to [-0.1, 0.1]. Every
episode starts at the origin. In the rewards, d is the distance to the goal after the step.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces
from PIL import Image, ImageDraw

from metarl.rewards import DeclaredReward
from metarl.tasks import ContinuousTasks, Family, Parameter, uniform
from metarl.types import Bools, Floats, Task
from metarl.vector import TaskVecEnv

MAX_STEP = 0.1
GOAL_TOLERANCE = 0.01
SPARSE_RADIUS = 0.2
SHARPNESS = 3
"""Factor by which pictures are drawn larger before they are shrunk, for smooth edges."""


def _distance_reward(observations: Any, actions: Any, next_observations: Any, task: Mapping[str, Any]) -> Any:
    return -_distance(next_observations, task)


def _near_reward(observations: Any, actions: Any, next_observations: Any, task: Mapping[str, Any]) -> Any:
    distance = _distance(next_observations, task)
    return (1.0 - distance) * (distance <= SPARSE_RADIUS)


def _distance(positions: Any, task: Mapping[str, Any]) -> Any:
    offset = positions - task["goal"]
    return (offset * offset).sum(-1) ** 0.5


class PointEnvs(TaskVecEnv):
    """A batch of points in the plane. A subclass sets `arena` and implements the reward.

    Args:
        num_tasks: `M`.
        episodes: `E`.
        horizon: `T`.
    """

    arena: ClassVar[float]
    """Half the side of the square that pictures show, in length units."""

    def __init__(self, num_tasks: int, episodes: int, horizon: int) -> None:
        super().__init__(
            num_tasks,
            episodes,
            horizon,
            spaces.Box(-np.inf, np.inf, (2,), np.float64),
            spaces.Box(-MAX_STEP, MAX_STEP, (2,), np.float32),
        )
        self._position = np.zeros((self.num_envs, 2))
        self._goal = np.zeros((self.num_envs, 2))

    @abstractmethod
    def _judge(self, offset: Floats) -> tuple[Floats, Bools, Bools]:
        """Reward, terminated and success, `[rows]`, from the offset to the goal `[rows, 2]`."""

    def _apply_tasks(self, tasks: Sequence[Task]) -> None:
        self._goal = self.task_values(tasks, "goal")

    def _reset_rows(self, rows: np.ndarray, rng: np.random.Generator) -> None:
        self._position[rows] = 0.0

    def _step_rows(self, rows: np.ndarray, actions: Floats) -> tuple[Floats, Bools, Bools, dict[str, np.ndarray]]:
        self._position[rows] += np.clip(actions, -MAX_STEP, MAX_STEP)
        reward, terminated, success = self._judge(self._position[rows] - self._goal[rows])
        return reward, terminated, np.zeros(len(rows), dtype=np.bool_), {"success": success}

    def _observe(self, rows: np.ndarray) -> Floats:
        return self._position[rows]

    def render_row(self, row: int, width: int, height: int) -> np.ndarray:
        """A picture `[height, width, 3]` (bytes) of one row: goal red, start grey, point blue."""
        wide, high = SHARPNESS * width, SHARPNESS * height
        unit = min(wide, high) / (2 * self.arena)  # pixels
        image = Image.new("RGB", (wide, high), (244, 244, 244))
        draw = ImageDraw.Draw(image)
        for place, radius, colour in (
            (self._goal[row], 0.05, (214, 39, 40)),
            (np.zeros(2), 0.015, (150, 150, 150)),
            (self._position[row], 0.03, (31, 119, 180)),
        ):
            x, y, r = wide / 2 + unit * place[0], high / 2 - unit * place[1], unit * self.arena * radius
            draw.ellipse((x - r, y - r, x + r, y + r), fill=colour)
        return np.asarray(image.resize((width, height), Image.Resampling.LANCZOS))


class PointRobot(PointEnvs):
    """Points with the dense reward `-d`. Arrival terminates the episode."""

    arena = 0.8

    def _judge(self, offset: Floats) -> tuple[Floats, Bools, Bools]:
        arrived = np.all(np.abs(offset) < GOAL_TOLERANCE, axis=1)
        return -np.linalg.norm(offset, axis=1), arrived, arrived


class SparsePointRobot(PointEnvs):
    """Points that are rewarded only near the goal: `1 - d` within 0.2."""

    arena = 1.3

    def _judge(self, offset: Floats) -> tuple[Floats, Bools, Bools]:
        distance = np.linalg.norm(offset, axis=1)
        near = distance <= SPARSE_RADIUS
        return np.where(near, 1.0 - distance, 0.0), np.zeros(len(offset), dtype=np.bool_), near


def point_robot() -> Family:
    """Point that finds a goal in a square, with a dense reward.

    - Observation: 2 numbers, x and y.
    - Action: 2 displacements in [-0.1, 0.1].
    - Reward: `-d`.
    - End: terminated, as a success, within 0.01 of the goal along x and y; truncated after 100 steps.
    - Varies: goal in U(-0.5, 0.5)^2; hidden.
    - Source: pytorch-maml-rl.
    """
    goal = uniform("goal", -0.5, 0.5, size=2, meaning="goal position, length units")
    return Family(
        name="point-robot",
        summary="reach a point of the square U(-0.5, 0.5)^2, dense reward",
        distribution=ContinuousTasks("point-robot", (goal,)),
        horizon=100,
        make_envs=PointRobot,
        reward=DeclaredReward(_distance_reward, ("goal",)),
    )


def sparse_point_robot() -> Family:
    """Point that finds a goal on a half circle, with a sparse reward.

    - Observation: 2 numbers, x and y.
    - Action: 2 displacements in [-0.1, 0.1].
    - Reward: `1 - d` if `d <= 0.2`, which counts as a success, else 0.
    - End: truncated after 20 steps.
    - Varies: goal on the upper half of the circle of radius 1, uniform in the angle; hidden.
    - Source: oyster.
    """
    goal = Parameter(
        name="goal",
        meaning="goal position, length units; uniform on the upper half of the unit circle",
        hidden=True,
        variates=1,
        transform=lambda u: np.concatenate([np.cos(np.pi * u), np.sin(np.pi * u)], axis=1),
    )
    return Family(
        name="sparse-point-robot",
        summary="reach a point of the upper half circle of radius 1, rewarded within 0.2 of it",
        distribution=ContinuousTasks("sparse-point-robot", (goal,)),
        horizon=20,
        make_envs=SparsePointRobot,
        reward=DeclaredReward(_near_reward, ("goal",)),
    )
