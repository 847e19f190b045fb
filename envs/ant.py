"""Ant that has to run in a direction, at a velocity, or to a place that it is not told, or with a dead leg.

Physics and initial state are those of Gymnasium's `Ant-v5`.

| observation | index | unit |
|---|---|---|
| height of the torso, its orientation (quaternion), eight joint angles | 0 to 12 | m, 1, rad |
| velocity of the torso along x, y, z, its angular velocity, joint velocities | 13 to 26 | m/s, rad/s |

These are the 27 numbers of `Ant-v5` without its 78 contact forces, as in oyster and varibad. `ant-goal` also sees
the torso's position x, y, before the others (29 numbers; oyster has the contact forces here): else it could not
tell where it is.

| action | index | range |
|---|---|---|
| torques at hip and ankle: right back leg, front left, front right, left back | 0 to 7 | [-1, 1] |

With v the torso's velocity in the plane over one step (0.05 s), p its position, a the action, and c = 0.0005 |F|^2
for the contact forces F on all bodies, each component clipped to [-1, 1]:

| family | hidden parameter | reward | horizon | as in |
|---|---|---|---|---|
| ant-dir | direction d in {-1, +1} along x | d v_x + 1 - 0.5 |a|^2 - c | 200 | ProMP, varibad |
| ant-dir-2d | angle in U(0, 2 pi) | the same along the angle | 200 | oyster, varibad, ProMP |
| ant-goal | place g, uniform on the disc of radius 3 m | -|p - g|_1 - 0.1 |a|^2 - c | 200 | oyster, varibad |
| ant-vel | velocity v* in U(0, 3) m/s | -|v_x - v*| + 1.05 - 0.005 |a|^2 - c | 100 | pytorch-maml-rl |
| ant-crippled | which leg is dead; hip_4's is held out | v_x + 1 - 0.5 |a|^2 - c | 200 | GrBAL |

An episode ends where the torso's height leaves [0.2, 1] m, and the constant is not paid in that step; ant-goal
never ends. GrBAL (Nagabandi et al. 2019, arXiv:1803.11347) also shrinks the dead leg; here its two actuators have
no gear, and it hangs as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from metarl.envs.camera import View
from metarl.envs.locomotion import ANGLE, DIRECTION, Locomotion, locomotion_family, place, speed
from metarl.envs.mujoco_batch import Output, gymnasium_asset
from metarl.envs.variation import Change, Dead, Variation
from metarl.tasks import Family
from metarl.types import Bools, Floats

CONTACT_COST = 0.5e-3
MAX_CONTACT = 1.0
HEALTHY_HEIGHT = (0.2, 1.0)  # m


class Ant(Locomotion):
    """Ants."""

    model_path = gymnasium_asset("ant.xml")
    frame_skip = 5
    observation_size = 27
    position_noise = velocity_noise = 0.1
    normal_velocities = True
    # Read where the last physics step left it, as in Ant-v5.
    outputs: ClassVar[Mapping[str, Output]] = {
        "torso": lambda data: data.body("torso").xpos[:2],
        "contacts": lambda data: data.cfrc_ext,
    }
    contact_forces = True
    view = View(body=1, distance=6.0, elevation=-35.0)
    skipped_positions = 2
    control_cost = 0.5
    alive = 1.0

    def _position(self, rows: np.ndarray) -> Floats:
        return self.batch.outputs["torso"][rows]

    def _contact_cost(self, rows: np.ndarray) -> Floats | float:
        forces = np.clip(self.batch.outputs["contacts"][rows], -MAX_CONTACT, MAX_CONTACT)
        return CONTACT_COST * np.square(forces).sum(axis=1)

    def _fallen(self, rows: np.ndarray) -> Bools:
        height = self.batch.qpos[rows, 2]
        return ~((height >= HEALTHY_HEIGHT[0]) & (height <= HEALTHY_HEIGHT[1]))


class AntGoal(Ant):
    """Ants that see where they are, and whose episodes never end early: else falling soon would earn most."""

    observation_size = 29
    skipped_positions = 0
    control_cost = 0.1
    alive = 0.0

    def _fallen(self, rows: np.ndarray) -> Bools:
        return np.zeros(len(rows), dtype=np.bool_)


class AntVel(Ant):
    """Ants with the constants of pytorch-maml-rl's `AntVel`."""

    control_cost = 0.5e-2
    alive = 1.05


def ant_dir() -> Family:
    """Forward or backward: two tasks, too few to withhold one."""
    summary = "run forward or backward (two tasks: evaluated on its training tasks)"
    return locomotion_family("ant-dir", Ant, summary, goal=DIRECTION)


def ant_dir_2d() -> Family:
    """Any direction of the plane."""
    return locomotion_family("ant-dir-2d", Ant, "run in a direction of the plane", goal=ANGLE)


def ant_goal() -> Family:
    """Places on a disc."""
    return locomotion_family("ant-goal", AntGoal, "go to a place within 3 m", goal=place(3.0))


def ant_vel() -> Family:
    """Velocities from U(0, 3)."""
    return locomotion_family("ant-vel", AntVel, "run at a velocity from U(0, 3) m/s", goal=speed(0.0, 3.0), horizon=100)


def ant_crippled() -> Family:
    """One dead leg of four, one of them held out."""
    legs = [(f"hip_{leg}", f"ankle_{leg}") for leg in (1, 2, 3, 4)]
    variation = Variation(Change("actuator_gear", Dead(train=tuple(legs[:3]), withheld=tuple(legs[3:]))))
    summary = "run forward with one of four legs dead (one of them held out)"
    return locomotion_family("ant-crippled", Ant, summary, variation=variation)
