"""Ant families: a hidden direction, velocity or place to run to, or a dead leg.

Physics and initial state equal those of Gymnasium's `Ant-v5`.

| observation | index | unit |
|---|---|---|
| height of the torso, its orientation (quaternion), eight joint angles | 0 to 12 | m, 1, rad |
| velocity of the torso along x, y, z, its angular velocity, joint velocities | 13 to 26 | m/s, rad/s |

These are the 27 numbers of `Ant-v5` without its 78 contact forces, as in oyster and varibad. `ant-goal` puts the
torso's x and y in m in front of them (29 numbers), because the place to go to cannot be found without them.

| action | index | range |
|---|---|---|
| torques at hip and ankle: right back leg, front left, front right, left back | 0 to 7 | [-1, 1] |

In the rewards, v is the torso's velocity in the plane over one step (0.05 s) in m/s, p its position in m, a the action
before clipping, and `c = 0.0005 |F|^2` the cost of the contact forces F on all bodies, each component clipped to
[-1, 1]. The robot has fallen when the torso's height leaves [0.2, 1] m. A fall terminates the episode (except in
`ant-goal`), and the constant of the reward is not paid in that step.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from metarl.envs.breaking import Breaking, breaking_family
from metarl.envs.camera import View
from metarl.envs.locomotion import ANGLE, DIRECTION, DIRECTION_SUMMARY, Locomotion, locomotion_family, place, speed
from metarl.envs.mujoco_batch import Output, gymnasium_asset
from metarl.envs.observed_reward import Observed
from metarl.envs.variation import Change, Dead, Variation
from metarl.tasks import Family
from metarl.types import Bools, Floats

CONTACT_COST = 0.5e-3
MAX_CONTACT = 1.0
HEALTHY_HEIGHT = (0.2, 1.0)  # m
LEGS = tuple((f"hip_{leg}", f"ankle_{leg}") for leg in (1, 2, 3, 4))
DEAD = Dead(train=LEGS[:3], withheld=LEGS[3:])


class Ant(Locomotion):
    """A batch of ants."""

    model_path = gymnasium_asset("ant.xml")
    frame_skip = 5
    observation_size = 27
    position_noise = velocity_noise = 0.1
    normal_velocities = True
    # Values of the last physics step, as in Ant-v5.
    outputs: ClassVar[Mapping[str, Output]] = {
        "torso": lambda data: data.body("torso").xpos[:2],
        "contacts": lambda data: data.cfrc_ext,
    }
    contact_forces = True
    view = View(body=1, distance=6.0, elevation=-35.0)
    skipped_positions = 2
    control_cost = 0.5
    alive = 1.0
    observed = Observed(velocity=13, axes=2, after=0.5, height=(0, *HEALTHY_HEIGHT))

    def _position(self, rows: np.ndarray) -> Floats:
        return self.batch.outputs["torso"][rows]

    def _contact_cost(self, rows: np.ndarray) -> Floats | float:
        forces = np.clip(self.batch.outputs["contacts"][rows], -MAX_CONTACT, MAX_CONTACT)
        return CONTACT_COST * np.square(forces).sum(axis=1)

    def _fallen(self, rows: np.ndarray) -> Bools:
        height = self.batch.qpos[rows, 2]
        return ~((height >= HEALTHY_HEIGHT[0]) & (height <= HEALTHY_HEIGHT[1]))


class BreakingAnt(Breaking, Ant):
    """A batch of ants that lose a leg within the episode."""


class AntGoal(Ant):
    """Ants that observe their x and y. Episodes never terminate: rewards are negative, so an early fall would pay."""

    observation_size = 29
    skipped_positions = 0
    control_cost = 0.1
    alive = 0.0
    observed = Observed(velocity=15, axes=2, after=0.5, position=0)

    def _fallen(self, rows: np.ndarray) -> Bools:
        return np.zeros(len(rows), dtype=np.bool_)


class AntVel(Ant):
    """Ants with the reward constants of pytorch-maml-rl's `AntVel`."""

    control_cost = 0.5e-2
    alive = 1.05


def ant_dir() -> Family:
    """Ant that runs forward or backward.

    - Observation: 27 numbers in m, 1, rad, m/s and rad/s, see the module.
    - Action: 8 torques in [-1, 1].
    - Reward: `d v_x + 1 - 0.5 |a|^2 - c`.
    - End: terminated by a fall, truncated after 200 steps.
    - Varies: direction d, -1 or +1; hidden. Two tasks are too few to hold one out.
    - Source: ProMP, varibad.
    """
    return locomotion_family("ant-dir", Ant, DIRECTION_SUMMARY, goal=DIRECTION)


def ant_dir_2d() -> Family:
    """Ant that runs in a direction of the plane.

    - Observation: 27 numbers in m, 1, rad, m/s and rad/s, see the module.
    - Action: 8 torques in [-1, 1].
    - Reward: `v_x cos(t) + v_y sin(t) + 1 - 0.5 |a|^2 - c`.
    - End: terminated by a fall, truncated after 200 steps.
    - Varies: angle t in U(0, 2 pi) rad; hidden.
    - Source: oyster, varibad, ProMP.
    """
    return locomotion_family("ant-dir-2d", Ant, "run in a direction of the plane", goal=ANGLE)


def ant_goal() -> Family:
    """Ant that walks to a place.

    - Observation: 29 numbers in m, 1, rad, m/s and rad/s, see the module.
    - Action: 8 torques in [-1, 1].
    - Reward: `-|p - g|_1 - 0.1 |a|^2 - c`.
    - End: truncated after 200 steps.
    - Varies: place g, uniform on the disc of radius 3 m around the start; hidden.
    - Source: oyster, varibad. Oyster's observation has the contact forces.
    """
    return locomotion_family("ant-goal", AntGoal, "go to a place within 3 m", goal=place(3.0))


def ant_vel() -> Family:
    """Ant that runs at a target velocity.

    - Observation: 27 numbers in m, 1, rad, m/s and rad/s, see the module.
    - Action: 8 torques in [-1, 1].
    - Reward: `-|v_x - v*| + 1.05 - 0.005 |a|^2 - c`.
    - End: terminated by a fall, truncated after 100 steps.
    - Varies: target velocity v* in U(0, 3) m/s; hidden.
    - Source: pytorch-maml-rl.
    """
    return locomotion_family("ant-vel", AntVel, "run at a velocity from U(0, 3) m/s", goal=speed(0.0, 3.0), horizon=100)


def ant_crippled() -> Family:
    """Ant that runs forward with one dead leg.

    - Observation: 27 numbers in m, 1, rad, m/s and rad/s, see the module.
    - Action: 8 torques in [-1, 1].
    - Reward: `v_x + 1 - 0.5 |a|^2 - c`.
    - End: terminated by a fall, truncated after 200 steps.
    - Varies: the leg whose hip and ankle have gear 0, one of four; hidden. The right back leg (`hip_4`) is held out.
    - Source: GrBAL (Nagabandi et al. 2019, arXiv:1803.11347), which also shrinks the dead leg; here its size stays.
    """
    variation = Variation(Change("actuator_gear", DEAD))
    summary = "run forward with one of four legs dead (one of them held out)"
    return locomotion_family("ant-crippled", Ant, summary, variation=variation)


def ant_breaking() -> Family:
    """Ant that runs forward and loses a leg on the way.

    - Observation: 27 numbers in m, 1, rad, m/s and rad/s, see the module.
    - Action: 8 torques in [-1, 1].
    - Reward: `v_x + 1 - 0.5 |a|^2 - c`.
    - End: terminated by a fall, truncated after 200 steps.
    - Varies: the leg whose hip and ankle die, one of four (the right back leg, `hip_4`, is held out), and the moment of
      the break in U(0.2, 0.8) of the horizon; both hidden.
    - Source: as `half_cheetah_breaking`.
    """
    summary = "run forward and lose one of four legs on the way (one of them held out)"
    return breaking_family("ant-breaking", BreakingAnt, summary, DEAD)
