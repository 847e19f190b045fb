"""Hopper families: a hidden velocity to hop at, or hidden dynamics of a one-legged robot.

Physics, observation and initial state equal those of Gymnasium's `Hopper-v5`.

| observation | index | unit |
|---|---|---|
| height of the torso, angles of torso, thigh, leg, foot | 0 to 4 | m, rad |
| velocity of the torso along x and z, angular velocities, each clipped to [-10, 10] | 5 to 10 | m/s, rad/s |

| action | index | range |
|---|---|---|
| torques: thigh, leg, foot | 0 to 2 | [-1, 1] |

In the rewards, v is the velocity along x over one step (0.008 s) in m/s and a the action before clipping. The robot has
fallen when the torso's height is at most 0.7 m, its angle leaves (-0.2, 0.2) rad, or any other joint position but x, or
any velocity, leaves (-100, 100). A fall terminates the episode, and the constant of the reward is not paid in that
step.
"""

from __future__ import annotations

import numpy as np

from metarl.envs.locomotion import PlanarLegs, locomotion_family, rand_params_family, speed
from metarl.envs.mujoco_batch import gymnasium_asset
from metarl.envs.variation import Change, Uniform, Variation
from metarl.tasks import Family
from metarl.types import Bools

HEALTHY_HEIGHT = 0.7  # m
HEALTHY_ANGLE = 0.2  # rad
HEALTHY_STATE = 100.0


class Hopper(PlanarLegs):
    """A batch of hoppers."""

    model_path = gymnasium_asset("hopper.xml")
    observation_size = 11

    def _fallen(self, rows: np.ndarray) -> Bools:
        qpos, qvel = self.batch.qpos[rows], self.batch.qvel[rows]
        sane = (np.abs(qpos[:, 2:]) < HEALTHY_STATE).all(axis=1) & (np.abs(qvel) < HEALTHY_STATE).all(axis=1)
        return ~(sane & (qpos[:, 1] > HEALTHY_HEIGHT) & (np.abs(qpos[:, 2]) < HEALTHY_ANGLE))


class HopperVel(Hopper):
    """Hoppers with an alive bonus so large that falling never pays."""

    alive = 3.0


def hopper_vel() -> Family:
    """Hopper that hops at a target velocity.

    - Observation: 11 numbers in m, rad, m/s and rad/s, see the module.
    - Action: 3 torques in [-1, 1].
    - Reward: `-|v - v*| + 3 - 0.001 |a|^2`.
    - End: terminated by a fall, truncated after 200 steps.
    - Varies: target velocity v* in U(0, 3) m/s; hidden.
    - Source: our own.
    """
    return locomotion_family("hopper-vel", HopperVel, "hop at a velocity from U(0, 3) m/s", goal=speed(0.0, 3.0))


def hopper_rand_params() -> Family:
    """Hopper that hops forward with random dynamics; see `rand_params_family`.

    The reward is `v + 1 - 0.001 |a|^2`. The rest is as in `hopper_vel`.
    """
    return rand_params_family("hopper", Hopper, "hop")


def hopper_gravity() -> Family:
    """Hopper that hops forward under random gravity.

    - Observation: 11 numbers in m, rad, m/s and rad/s, see the module.
    - Action: 3 torques in [-1, 1].
    - Reward: `v + 1 - 0.001 |a|^2`.
    - End: terminated by a fall, truncated after 200 steps.
    - Varies: factor on gravity in U(0.5, 1.5); hidden.
    - Source: our own.
    """
    variation = Variation(Change("gravity", Uniform(0.5, 1.5), elements=("z",)))
    summary = "hop forward under gravity times a factor from U(0.5, 1.5)"
    return locomotion_family("hopper-gravity", Hopper, summary, variation=variation)


def hopper_rand_params_published() -> Family:
    """`hopper_rand_params` with the published recipe for inertia."""
    return rand_params_family("hopper", Hopper, "hop", published=True)
