"""Walker families: a hidden direction or velocity to walk at, or hidden dynamics of a two-legged robot in a plane.

Physics, observation and initial state equal those of Gymnasium's `Walker2d-v5`. A step of ProMP's walker is twice as
long.

| observation | index | unit |
|---|---|---|
| height of the torso, angles of torso and six joints | 0 to 7 | m, rad |
| velocity of the torso along x and z, angular velocities, each clipped to [-10, 10] | 8 to 16 | m/s, rad/s |

| action | index | range |
|---|---|---|
| torques: right thigh, leg, foot; left thigh, leg, foot | 0 to 5 | [-1, 1] |

In the rewards, v is the velocity along x over one step (0.008 s) in m/s and a the action before clipping. The robot has
fallen when the torso's height leaves (0.8, 2) m or its angle leaves (-1, 1) rad. A fall terminates the episode, and the
constant of the reward is not paid in that step.
"""

from __future__ import annotations

import numpy as np

from metarl.envs.locomotion import (
    DIRECTION,
    DIRECTION_SUMMARY,
    PlanarLegs,
    locomotion_family,
    rand_params_family,
    speed,
)
from metarl.envs.mujoco_batch import gymnasium_asset
from metarl.tasks import Family
from metarl.types import Bools

HEALTHY_HEIGHT = (0.8, 2.0)  # m
HEALTHY_ANGLE = 1.0  # rad


class Walker2d(PlanarLegs):
    """A batch of walkers."""

    model_path = gymnasium_asset("walker2d_v5.xml")
    observation_size = 17

    def _fallen(self, rows: np.ndarray) -> Bools:
        height, angle = self.batch.qpos[rows, 1], self.batch.qpos[rows, 2]
        return ~((height > HEALTHY_HEIGHT[0]) & (height < HEALTHY_HEIGHT[1]) & (np.abs(angle) < HEALTHY_ANGLE))


class Walker2dVel(Walker2d):
    """Walkers with an alive bonus so large that falling never pays, as in ProMP."""

    alive = 15.0


def walker2d_dir() -> Family:
    """Walker that walks forward or backward.

    - Observation: 17 numbers in m, rad, m/s and rad/s, see the module.
    - Action: 6 torques in [-1, 1].
    - Reward: `d v + 1 - 0.001 |a|^2`.
    - End: terminated by a fall, truncated after 200 steps.
    - Varies: direction d, -1 or +1; hidden. Two tasks are too few to hold one out.
    - Source: ProMP.
    """
    return locomotion_family("walker2d-dir", Walker2d, DIRECTION_SUMMARY, goal=DIRECTION)


def walker2d_vel() -> Family:
    """Walker that walks at a target velocity.

    - Observation: 17 numbers in m, rad, m/s and rad/s, see the module.
    - Action: 6 torques in [-1, 1].
    - Reward: `-|v - v*| + 15 - 0.001 |a|^2`.
    - End: terminated by a fall, truncated after 200 steps.
    - Varies: target velocity v* in U(0, 10) m/s; hidden.
    - Source: ProMP.
    """
    return locomotion_family("walker2d-vel", Walker2dVel, "run at a velocity from U(0, 10) m/s", goal=speed(0.0, 10.0))


def walker2d_rand_params() -> Family:
    """Walker that walks forward with random dynamics; see `rand_params_family`.

    The reward is `v + 1 - 0.001 |a|^2`. The rest is as in `walker2d_vel`.
    """
    return rand_params_family("walker2d", Walker2d, "run")


def walker2d_rand_params_published() -> Family:
    """`walker2d_rand_params` with the published recipe for inertia."""
    return rand_params_family("walker2d", Walker2d, "run", published=True)
