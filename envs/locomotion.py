"""Locomotion: goals, observation, reward and termination that walking, running and swimming robots share.

With v the robot's velocity over one step in m/s, a the action before clipping, and the constants of the robot's class,

    reward = progress_weight * progress(v) + alive - control_cost |a|^2 - contact cost

A fall terminates the episode, and `alive` is not paid in that step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np

from metarl.envs.models import load_model, state_names
from metarl.envs.mujoco_batch import MujocoTaskEnv, state_units
from metarl.envs.observed_reward import Observed, observed_reward
from metarl.envs.task_sets import Choices, Factor, combined_tasks, on_disc
from metarl.envs.variation import Variation, rand_params
from metarl.tasks import Family, uniform
from metarl.types import Bools, Floats, Task

HORIZON = 200
"""Steps of an episode, as in oyster and varibad."""
MARK_AHEAD = 1.0
"""Distance in m from the robot to the ball that marks the target direction in pictures."""
MARK_HEIGHT = 0.15  # m


@dataclass(frozen=True)
class Goal:
    """The task-dependent part of the reward.

    Args:
        progress: Function of the velocity `[..., D]` in m/s and position `[..., D]` in m after the step, and of the
            task's values `[..., size]`; returns the progress `[...]`. It works on NumPy arrays and torch tensors.
        factor: The task parameter that holds these values; None if all tasks have the same goal.
        mark: Function of the robot's position `[2]` in m and the task's values `[size]`; returns the position `[2]` in
            m of a ball in pictures. None for no ball.
    """

    progress: Callable[[Floats, Floats, Floats], Floats]
    factor: Factor | None = None
    mark: Callable[[Floats, Floats], Floats] | None = None


def _forward(velocity: Floats, position: Floats, value: Floats) -> Floats:
    return velocity[..., 0]


def _along_x(velocity: Floats, position: Floats, value: Floats) -> Floats:
    return value[..., 0] * velocity[..., 0]


def _ahead_along_x(position: Floats, value: Floats) -> Floats:
    return position + np.array([MARK_AHEAD * value[0], 0.0])


def _along_angle(velocity: Floats, position: Floats, value: Floats) -> Floats:
    angle: Any = value[..., 0]  # tensors have methods instead of NumPy's functions
    cosine, sine = (angle.cos(), angle.sin()) if hasattr(angle, "cos") else (np.cos(angle), np.sin(angle))
    progress: Floats = cosine * velocity[..., 0] + sine * velocity[..., 1]
    return progress


def _ahead_along_angle(position: Floats, value: Floats) -> Floats:
    return position + MARK_AHEAD * np.array([np.cos(value[0]), np.sin(value[0])])


def _speed_error(velocity: Floats, position: Floats, value: Floats) -> Floats:
    return -abs(velocity[..., 0] - value[..., 0])


def _distance(velocity: Floats, position: Floats, value: Floats) -> Floats:
    return -abs(position - value).sum(-1)


def _at_the_place(position: Floats, value: Floats) -> Floats:
    return value


# Functions with a name, unlike lambdas, can be sent to worker processes.
FORWARD = Goal(_forward)
"""Run along x in every task."""

DIRECTION = Goal(
    _along_x,
    Choices(name="direction", meaning="target direction along x; -1 or +1", train=((-1.0,), (1.0,))),
    _ahead_along_x,
)
"""Run forward or backward. Two tasks are too few to hold one out."""
DIRECTION_SUMMARY = "run forward or backward (two tasks: evaluated on its training tasks)"

ANGLE = Goal(
    _along_angle,
    uniform("angle", 0.0, 2 * np.pi, meaning="target direction, from the x axis, rad"),
    _ahead_along_angle,
)
"""Run in a direction of the plane."""


def speed(low: float, high: float) -> Goal:
    """Run along x at a target velocity v* from U(low, high) m/s; progress is `-|v - v*|`."""
    return Goal(
        _speed_error,
        uniform("velocity", low, high, meaning="target velocity along x, m/s"),
    )


def place(radius: float) -> Goal:
    """Go to a place g within `radius` (m) of the start; progress is `-|p - g|_1`, the distances along x and y added."""
    return Goal(
        _distance,
        on_disc("place", radius, meaning="target place, m", center="the start"),
        _at_the_place,
    )


class Locomotion(MujocoTaskEnv):
    """A batch of robots that are rewarded for locomotion. Step infos include `x_velocity` in m/s, `[N]`.

    The observation `[N, O]` is all joint positions but the first ones, then all joint velocities. A subclass sets the
    class attributes below and those of `MujocoTaskEnv`.

    Args:
        num_tasks: `M`.
        episodes: `E`.
        horizon: `T`.
        goal: The goal of the tasks.
        variation: Dynamics that differ between tasks; none by default.
        threads: Number of physics threads; all available cores by default.

    Raises:
        ValueError: `observation_size` does not fit the model, or `MujocoTaskEnv` refuses the class.
    """

    required: ClassVar[tuple[str, ...]] = (*MujocoTaskEnv.required, "control_cost")
    skipped_positions: ClassVar[int] = 1
    """Number of leading joint positions (x, or x and y) that the observation omits."""
    velocity_limit: ClassVar[float] = np.inf
    """Bound that observed velocities are clipped to, in both directions."""
    progress_weight: ClassVar[float] = 1.0
    """Factor on the goal's progress."""
    control_cost: ClassVar[float]
    """Factor on the squared norm of the action, subtracted from the reward."""
    alive: ClassVar[float] = 0.0
    """Reward of each step after which the robot has not fallen."""
    observed: ClassVar[Observed | None] = None
    """Parts of the observation that the reward is computed from; None if it is no function of observations."""

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
        if type(self)._observe is Locomotion._observe:
            names = state_names(self.models[0])
            self.observation_names = names[0][self.skipped_positions :] + names[1]
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
        place = np.append(self._position(np.array([row]))[0], 0.0)[:2]  # y = 0 for robots in the x-z plane
        return np.append(self.goal.mark(place, self._values[row]), MARK_HEIGHT)

    def _fallen(self, rows: np.ndarray) -> Bools:
        """True for robots that have fallen, which terminates their episodes, `[rows]`."""
        return np.zeros(len(rows), dtype=np.bool_)

    def _contact_cost(self, rows: np.ndarray) -> Floats | float:
        """The contact forces' part of the cost, `[rows]`."""
        return 0.0

    @classmethod
    def has_own_reward(cls) -> bool:
        """Whether a subclass computes its observation or its reward in another way than this class."""
        return (cls._observe, cls._judge) != (Locomotion._observe, Locomotion._judge)

    def _judge(self, rows: np.ndarray, before: Floats, actions: Floats) -> tuple[Floats, Bools, dict[str, np.ndarray]]:
        position = self._position(rows)
        velocity = (position - before) / self.dt
        progress = self.goal.progress(velocity, position, self._values[rows])
        fallen = self._fallen(rows)
        cost = self.control_cost * np.square(actions, dtype=np.float64).sum(axis=1) + self._contact_cost(rows)
        reward = self.progress_weight * progress + np.where(fallen, 0.0, self.alive) - cost
        return reward, fallen, {"x_velocity": velocity[:, 0]}


class PlanarLegs(Locomotion):
    """A robot with legs in the x-z plane, with the constants that Gymnasium's v5 hopper and walker share."""

    frame_skip = 4
    position_noise = velocity_noise = 5e-3
    velocity_limit = 10.0
    control_cost = 1e-3
    alive = 1.0


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
    """A family from a robot, a goal and a variation of the dynamics. The goal, the dynamics, or both vary.

    Args:
        name: Name of the family.
        robot: Class of its environments.
        summary: One line for `metarl list`.
        goal: The goal of the tasks.
        variation: Dynamics that differ between tasks; none by default.
        horizon: `T`, steps of an episode.
        tasks: Family name that the tasks carry; `name` by default.

    Raises:
        ValueError: Neither goal nor dynamics vary, or the variation does not fit the robot's model.
    """
    factors: list[Factor] = [goal.factor] if goal.factor else []
    settings: dict[str, Any] = {"goal": goal}
    if variation is not None:
        factors += variation.bind(load_model(robot.model_path)).factors
        settings["variation"] = variation
    distribution = combined_tasks(tasks or name, factors)
    return Family(
        name=name,
        summary=summary,
        distribution=distribution,
        horizon=horizon,
        make_envs=partial(robot, **settings),
        reward=observed_reward(robot, goal),
    )


def rand_params_family(robot_name: str, robot: type[Locomotion], verb: str, *, published: bool = False) -> Family:
    """The family `<robot>-rand-params` of a robot that moves forward with random dynamics.

    - Varies: factors on masses, second moments of mass, friction and damping, with the ranges of `rand_params`; hidden.
    - Horizon: 200.
    - Source: rand_param_envs and oyster (walker, hopper), except that all bodies are physical. The published recipe
      scales moments of inertia independently, so that most bodies violate the triangle inequality.

    Args:
        robot_name: First part of the family's name, such as `hopper`.
        robot: Class of its environments.
        verb: Verb of the summary: `hop` or `run`.
        published: Use the published recipe for inertia; the family is then `<robot>-rand-params-published`.
    """
    tasks = f"{robot_name}-rand-params"  # also in the published family, as in checkpoints of earlier runs
    ours, theirs = "masses, inertias, friction and damping", "masses, friction, damping, and unphysical inertias"
    return locomotion_family(
        f"{tasks}-published" if published else tasks,
        robot,
        f"{verb} forward with random {f'{theirs} as published' if published else ours}",
        variation=rand_params(published=published),
        tasks=tasks,
    )
