"""Two-legged walker that has to run in a direction or at a velocity that it is not told, or whose body differs.

Physics, observation and initial state are those of Gymnasium's `Walker2d-v5`.

| observation | index | unit |
|---|---|---|
| height of the torso, angles of torso and six joints | 0 to 7 | m, rad |
| velocity of the torso along x and z, angular velocities, each clipped to [-10, 10] | 8 to 16 | m/s, rad/s |

| action | index | range |
|---|---|---|
| torques: right thigh, leg, foot; left thigh, leg, foot | 0 to 5 | [-1, 1] |

With v the velocity along x over one step (0.008 s) and a the action:

| family | hidden parameter | reward | as in |
|---|---|---|---|
| walker2d-dir | direction d in {-1, +1} | d v + 1 - 0.001 |a|^2 | ProMP |
| walker2d-vel | velocity v* in U(0, 10) m/s | -|v - v*| + 15 - 0.001 |a|^2 | ProMP |
| walker2d-rand-params | random masses, inertias, friction, damping | v + 1 - 0.001 |a|^2 | rand_param_envs, oyster |
| walker2d-rand-params-published | the same, with inertias that no body has | v + 1 - 0.001 |a|^2 | the same |

The ranges of the random parameters stand in `metarl.envs.variation.rand_params`. An episode ends where the torso's
height leaves (0.8, 2) m or its angle (-1, 1) rad; the constant is not paid in that step. Horizon 200. A step of
ProMP is twice as long.
"""

from __future__ import annotations

import numpy as np

from metarl.envs.locomotion import DIRECTION, Locomotion, locomotion_family, speed
from metarl.envs.mujoco_batch import gymnasium_asset
from metarl.envs.variation import rand_params
from metarl.tasks import Family
from metarl.types import Bools

HEALTHY_HEIGHT = (0.8, 2.0)  # m
HEALTHY_ANGLE = 1.0  # rad


class Walker2d(Locomotion):
    """Walkers."""

    model_path = gymnasium_asset("walker2d_v5.xml")
    frame_skip = 4
    observation_size = 17
    position_noise = velocity_noise = 5e-3
    velocity_limit = 10.0
    control_cost = 1e-3
    alive = 1.0

    def _fallen(self, rows: np.ndarray) -> Bools:
        height, angle = self.batch.qpos[rows, 1], self.batch.qpos[rows, 2]
        return ~((height > HEALTHY_HEIGHT[0]) & (height < HEALTHY_HEIGHT[1]) & (np.abs(angle) < HEALTHY_ANGLE))


class Walker2dVel(Walker2d):
    """Walkers with a constant so large that falling never pays, as in ProMP."""

    alive = 15.0


def walker2d_dir() -> Family:
    """Forward or backward: two tasks, too few to withhold one."""
    summary = "run forward or backward (two tasks: evaluated on its training tasks)"
    return locomotion_family("walker2d-dir", Walker2d, summary, goal=DIRECTION)


def walker2d_vel() -> Family:
    """Velocities from U(0, 10)."""
    return locomotion_family("walker2d-vel", Walker2dVel, "run at a velocity from U(0, 10) m/s", goal=speed(0.0, 10.0))


def walker2d_rand_params() -> Family:
    """Masses, shapes, friction and damping by random factors."""
    summary = "run forward with random masses, inertias, friction and damping"
    return locomotion_family("walker2d-rand-params", Walker2d, summary, variation=rand_params())


def walker2d_rand_params_published() -> Family:
    """The same with the recipe of the published benchmark."""
    summary = "run forward with random masses, friction, damping, and inertias that no body has, as published"
    return locomotion_family(
        "walker2d-rand-params-published",
        Walker2d,
        summary,
        variation=rand_params(published=True),
        tasks="walker2d-rand-params",  # as they are named in the checkpoints of earlier runs
    )
