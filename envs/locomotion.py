"""What robots that move about have in common: goals, observation, reward, falling.

With v the robot's velocity over one step in m/s, a the action, and the constants of the robot's class,

    reward = weight * progress(v) + alive (while it stands) - control_cost |a|^2 - contact cost

An episode is terminated where the robot falls.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np

from metarl.envs.models import load_model
from metarl.envs.mujoco_batch import MujocoTaskEnv, state_units
from metarl.envs.task_sets import Choices, Factor, combined_tasks, on_disc
from metarl.envs.variation import Variation
from metarl.tasks import Family, uniform
from metarl.types import Bools, Floats, Task

HORIZON = 200
"""Steps of an episode in oyster and varibad."""
MARK_AHEAD = 1.0
"""How far ahead of a robot pictures mark the direction that it should run in, in m."""
MARK_HEIGHT = 0.15  # m


@dataclass(frozen=True)
class Goal:
    """What a robot has to do.

    Args:
        progress: How much it does that: from its velocity `[R, D]` in m/s, its position `[R, D]` in m (both after
            the step) and the task's values `[R, size]`, a number `[R]`.
        factor: The task's parameter; None where every task asks for the same.
        mark: Where pictures put a ball, `[2]` in m, from the robot's position `[2]` and the task's values `[size]`.
    """

    progress: Callable[[Floats, Floats, Floats], Floats]
    factor: Factor | None = None
    mark: Callable[[Floats, Floats], Floats] | None = None


FORWARD = Goal(lambda velocity, position, value: velocity[:, 0])
"""Run along x, in every task."""

DIRECTION = Goal(
    lambda velocity, position, value: value[:, 0] * velocity[:, 0],
    Choices(name="direction", meaning="direction to run in along x; -1 or +1", train=((-1.0,), (1.0,))),
    lambda position, value: position + np.array([MARK_AHEAD * value[0], 0.0]),
)
"""Run forward or backward: two tasks, too few to withhold one."""

ANGLE = Goal(
    lambda velocity, position, value: np.cos(value[:, 0]) * velocity[:, 0] + np.sin(value[:, 0]) * velocity[:, 1],
    uniform("angle", 0.0, 2 * np.pi, meaning="direction to run in, from the x axis, rad"),
    lambda position, value: position + MARK_AHEAD * np.array([np.cos(value[0]), np.sin(value[0])]),
)
"""Run in a direction of the plane."""


def speed(low: float, high: float) -> Goal:
    """Run along x at a velocity from U(low, high) m/s: progress is `-|v - v*|`."""
    return Goal(
        lambda velocity, position, value: -np.abs(velocity[:, 0] - value[:, 0]),
        uniform("velocity", low, high, meaning="velocity to run at along x, m/s"),
    )


def place(radius: float) -> Goal:
    """Go to a place within a radius in m of the start: progress is minus the sum of the distances along x and y."""
    return Goal(
        lambda velocity, position, value: -np.abs(position - value).sum(axis=1),
        on_disc("place", radius, meaning="place to go to, m", center="the start"),
        lambda position, value: value,
    )


class Locomotion(MujocoTaskEnv):
    """Robots that move about; infos carry `x_velocity` in m/s.

    Args:
        num_tasks: `M`.
        episodes: `E`.
        horizon: `T`.
        goal: What they have to do.
        variation: How dynamics differ from task to task.
        threads: Threads to step with; all available cores by default.
    """

    required: ClassVar[tuple[str, ...]] = (*MujocoTaskEnv.required, "control_cost")
    skipped_positions: ClassVar[int] = 1
    """Leading positions that the observation leaves out: where the robot is along x, and y."""
    velocity_limit: ClassVar[float] = np.inf
    """Velocities are observed clipped to this."""
    progress_weight: ClassVar[float] = 1.0
    control_cost: ClassVar[float]
    alive: ClassVar[float] = 0.0
    """Reward of each step after which the robot stands."""

    def __init__(
        self,
        num_tasks: int,
        episodes: int,
        horizon: int,
        *,
        goal: Goal = FORWARD,
        variation: Variation | None = None,
        threads: int | None = None,
    ) -> None:
        super().__init__(num_tasks, episodes, horizon, variation=variation, threads=threads)
        positions, velocities = state_units(self.models[0])
        self.observation_units = positions[self.skipped_positions :] + velocities
        size = len(self.observation_units)
        if type(self)._observe is Locomotion._observe and self.observation_size != size:
            raise ValueError(
                f"{type(self).__name__}: got observation_size {self.observation_size}, expected {size}: "
                f"{len(positions)} positions without the first {self.skipped_positions}, {len(velocities)} velocities"
            )
        self.goal = goal
        self._values = np.zeros((self.num_envs, 0))  # [N, size of the goal]

    def _apply_tasks(self, tasks: Sequence[Task]) -> None:
        super()._apply_tasks(tasks)
        if self.goal.factor is not None:
            self._values = self.task_values(tasks, self.goal.factor.name)

    def _observe(self, rows: np.ndarray) -> Floats:
        velocity = self.batch.qvel[rows]
        if self.velocity_limit < np.inf:
            velocity = np.clip(velocity, -self.velocity_limit, self.velocity_limit)
        return np.concatenate([self.batch.qpos[rows, self.skipped_positions :], velocity], axis=1)

    def _mark(self, row: int) -> Floats | None:
        if self.goal.mark is None:
            return None
        place = np.append(self._position(np.array([row]))[0], 0.0)[:2]  # a robot of the x-z plane has y = 0
        return np.append(self.goal.mark(place, self._values[row]), MARK_HEIGHT)

    def _fallen(self, rows: np.ndarray) -> Bools:
        """Where an episode ends, `[rows]`."""
        return np.zeros(len(rows), dtype=np.bool_)

    def _contact_cost(self, rows: np.ndarray) -> Floats | float:
        """What contacts cost, `[rows]`."""
        return 0.0

    def _judge(self, rows: np.ndarray, before: Floats, actions: Floats) -> tuple[Floats, Bools, dict[str, np.ndarray]]:
        position = self._position(rows)
        velocity = (position - before) / self.dt
        progress = self.goal.progress(velocity, position, self._values[rows])
        fallen = self._fallen(rows)
        cost = self.control_cost * np.square(actions, dtype=np.float64).sum(axis=1) + self._contact_cost(rows)
        reward = self.progress_weight * progress + np.where(fallen, 0.0, self.alive) - cost
        return reward, fallen, {"x_velocity": velocity[:, 0]}


def locomotion_family(
    name: str,
    robot: type[Locomotion],
    summary: str,
    *,
    goal: Goal = FORWARD,
    variation: Variation | None = None,
    horizon: int = HORIZON,
    tasks: str = "",
) -> Family:
    """A family of a robot, a goal, and a variation of its dynamics; at least one of the two differs between tasks.

    Args:
        name: Name of the family.
        robot: Class of its environments.
        summary: One line for `metarl list`.
        goal: What the robot has to do.
        variation: How its dynamics differ.
        horizon: Steps of an episode.
        tasks: Name that its tasks carry, if another than the family's.

    Raises:
        ValueError: Nothing differs between tasks, or the variation does not fit the robot's model.
    """
    factors: list[Factor] = [goal.factor] if goal.factor else []
    settings: dict[str, Any] = {"goal": goal}
    if variation is not None:
        factors += variation.bind(load_model(robot.model_path)).factors
        settings["variation"] = variation
    distribution = combined_tasks(tasks or name, factors)
    return Family(
        name=name, summary=summary, distribution=distribution, horizon=horizon, make_envs=partial(robot, **settings)
    )
