"""Half-cheetah that has to run in a direction, or at a velocity, that it is not told.

Physics, observation and initial state are those of Gymnasium's `HalfCheetah-v5`.

| observation | index | unit |
|---|---|---|
| height of the torso, angles of torso and six joints | 0 to 7 | m, rad |
| velocity of the torso along x and z, angular velocities | 8 to 16 | m/s, rad/s |

| action | index | range |
|---|---|---|
| torques: back thigh, shin, foot; front thigh, shin, foot | 0 to 5 | [-1, 1] |

With v the velocity along x over one step (0.05 s) and a the action:

| family | hidden parameter | reward |
|---|---|---|
| half-cheetah-dir | direction d in {-1, +1} | d v - 0.05 |a|^2 |
| half-cheetah-vel | velocity v* in U(0, 2) m/s (garage, pytorch-maml-rl) | -|v - v*| - 0.05 |a|^2 |
| half-cheetah-vel-3 | velocity v* in U(0, 3) m/s (ProMP, oyster, varibad) | -|v - v*| - 0.05 |a|^2 |

An episode is never terminated. Horizon 100, as in garage, pytorch-maml-rl and ProMP; it is 200 in Finn et al. 2017
(arXiv:1703.03400), in oyster and in varibad.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np

from metarl.envs.mujoco_batch import MujocoTaskEnv, gymnasium_asset
from metarl.tasks import ContinuousTasks, DiscreteTasks, Family, Parameter, uniform
from metarl.types import Bools, Floats, Task

CONTROL_COST = 0.05
HORIZON = 100


class HalfCheetah(MujocoTaskEnv):
    """Half-cheetahs with the reward of their tasks; infos carry `x_velocity` in m/s.

    Args:
        num_tasks: `M`.
        episodes: `E`.
        horizon: `T`.
        threads: Threads to step with; all available cores by default.
    """

    parameter: str
    """Name of the task parameter."""

    def __init__(self, num_tasks: int, episodes: int, horizon: int = HORIZON, threads: int | None = None) -> None:
        super().__init__(
            num_tasks,
            episodes,
            horizon,
            model_path=gymnasium_asset("half_cheetah.xml"),
            frame_skip=5,
            reset_noise_scale=0.1,
            observation_size=17,
            threads=threads,
        )
        self._goal = np.zeros(self.num_envs)  # [N]

    @abstractmethod
    def _progress(self, velocity: Floats, goal: Floats) -> Floats:
        """The reward before the cost of control, `[rows]`."""

    def _apply_tasks(self, tasks: Sequence[Task]) -> None:
        self._goal = self.task_values(tasks, self.parameter)[:, 0]

    def _observe(self, rows: np.ndarray) -> Floats:
        return np.concatenate([self.batch.qpos[rows, 1:], self.batch.qvel[rows]], axis=1)

    def _judge(
        self, rows: np.ndarray, qpos_before: Floats, actions: Floats
    ) -> tuple[Floats, Bools, dict[str, np.ndarray]]:
        velocity = (self.batch.qpos[rows, 0] - qpos_before[:, 0]) / self.dt
        cost = CONTROL_COST * np.square(actions, dtype=np.float64).sum(axis=1)
        reward = self._progress(velocity, self._goal[rows]) - cost
        return reward, np.zeros(len(rows), dtype=np.bool_), {"x_velocity": velocity}


class HalfCheetahDir(HalfCheetah):
    """Run forward or backward: `d v - 0.05 |a|^2`."""

    parameter = "direction"

    def _progress(self, velocity: Floats, goal: Floats) -> Floats:
        return goal * velocity


class HalfCheetahVel(HalfCheetah):
    """Run at a velocity: `-|v - v*| - 0.05 |a|^2`."""

    parameter = "velocity"

    def _progress(self, velocity: Floats, goal: Floats) -> Floats:
        return -np.abs(velocity - goal)


def half_cheetah_dir() -> Family:
    """Forward or backward: two tasks, too few to withhold one."""
    name = "half-cheetah-dir"
    direction = Parameter(
        name="direction",
        meaning="direction to run in along x; -1 or +1",
        hidden=True,
        variates=1,
        transform=lambda u: np.where(u < 0.5, -1.0, 1.0),
    )
    tasks = tuple(Task.of(name, direction=d) for d in (-1.0, 1.0))
    return Family(
        name=name,
        summary="run forward or backward (two tasks: evaluated on its training tasks)",
        distribution=DiscreteTasks(name, (direction,), train=tasks, withheld=None),
        horizon=HORIZON,
        make_envs=HalfCheetahDir,
    )


def _velocity_family(name: str, high: float) -> Family:
    velocity = uniform("velocity", 0.0, high, meaning="velocity to run at along x, m/s")
    return Family(
        name=name,
        summary=f"run at a velocity from U(0, {high:g}) m/s",
        distribution=ContinuousTasks(name, (velocity,)),
        horizon=HORIZON,
        make_envs=HalfCheetahVel,
    )


def half_cheetah_vel() -> Family:
    """Velocities from U(0, 2), as in garage and pytorch-maml-rl."""
    return _velocity_family("half-cheetah-vel", 2.0)


def half_cheetah_vel_3() -> Family:
    """Velocities from U(0, 3), as in ProMP, oyster and varibad."""
    return _velocity_family("half-cheetah-vel-3", 3.0)
