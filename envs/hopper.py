"""One-legged hopper that has to hop at a velocity that it is not told, or whose body or gravity differs.

Physics, observation and initial state are those of Gymnasium's `Hopper-v5`.

| observation | index | unit |
|---|---|---|
| height of the torso, angles of torso, thigh, leg, foot | 0 to 4 | m, rad |
| velocity of the torso along x and z, angular velocities, each clipped to [-10, 10] | 5 to 10 | m/s, rad/s |

| action | index | range |
|---|---|---|
| torques: thigh, leg, foot | 0 to 2 | [-1, 1] |

With v the velocity along x over one step (0.008 s) and a the action:

| family | hidden parameter | reward | as in |
|---|---|---|---|
| hopper-vel | velocity v* in U(0, 3) m/s | -|v - v*| + 3 - 0.001 |a|^2 | our own |
| hopper-rand-params | random masses, inertias, friction, damping | v + 1 - 0.001 |a|^2 | rand_param_envs, oyster |
| hopper-rand-params-published | the same, with inertias that no body has | v + 1 - 0.001 |a|^2 | the same |
| hopper-gravity | gravity by a factor from U(0.5, 1.5) | v + 1 - 0.001 |a|^2 | our own |

The ranges of the random parameters stand in `metarl.envs.variation.rand_params`. An episode ends where the torso's
height falls to 0.7 m, its angle leaves (-0.2, 0.2) rad, or another number of the state (-100, 100); the constant is
not paid in that step. Horizon 200. The constant 3 of hopper-vel is so large that falling never pays.
"""

from __future__ import annotations

import numpy as np

from metarl.envs.locomotion import Locomotion, locomotion_family, speed
from metarl.envs.mujoco_batch import gymnasium_asset
from metarl.envs.variation import Change, Uniform, Variation, rand_params
from metarl.tasks import Family
from metarl.types import Bools

HEALTHY_HEIGHT = 0.7  # m
HEALTHY_ANGLE = 0.2  # rad
HEALTHY_STATE = 100.0


class Hopper(Locomotion):
    """Hoppers."""

    model_path = gymnasium_asset("hopper.xml")
    frame_skip = 4
    observation_size = 11
    position_noise = velocity_noise = 5e-3
    velocity_limit = 10.0
    control_cost = 1e-3
    alive = 1.0

    def _fallen(self, rows: np.ndarray) -> Bools:
        qpos, qvel = self.batch.qpos[rows], self.batch.qvel[rows]
        sane = (np.abs(qpos[:, 2:]) < HEALTHY_STATE).all(axis=1) & (np.abs(qvel) < HEALTHY_STATE).all(axis=1)
        return ~(sane & (qpos[:, 1] > HEALTHY_HEIGHT) & (np.abs(qpos[:, 2]) < HEALTHY_ANGLE))


class HopperVel(Hopper):
    """Hoppers with a constant so large that falling never pays."""

    alive = 3.0


def hopper_vel() -> Family:
    """Velocities from U(0, 3)."""
    return locomotion_family("hopper-vel", HopperVel, "hop at a velocity from U(0, 3) m/s", goal=speed(0.0, 3.0))


def hopper_rand_params() -> Family:
    """Masses, shapes, friction and damping by random factors."""
    summary = "hop forward with random masses, inertias, friction and damping"
    return locomotion_family("hopper-rand-params", Hopper, summary, variation=rand_params())


def hopper_rand_params_published() -> Family:
    """The same with the recipe of the published benchmark."""
    summary = "hop forward with random masses, friction, damping, and inertias that no body has, as published"
    return locomotion_family(
        "hopper-rand-params-published",
        Hopper,
        summary,
        variation=rand_params(published=True),
        tasks="hopper-rand-params",  # as they are named in the checkpoints of earlier runs
    )


def hopper_gravity() -> Family:
    """Gravity by a random factor."""
    variation = Variation(Change("gravity", Uniform(0.5, 1.5), elements=("z",)))
    summary = "hop forward under gravity times a factor from U(0.5, 1.5)"
    return locomotion_family("hopper-gravity", Hopper, summary, variation=variation)
