"""Humanoid that runs in a hidden direction of the plane.

Physics and initial state equal those of Gymnasium's `Humanoid-v5`.

| observation | index | unit |
|---|---|---|
| height of the torso, its orientation (quaternion), 17 joint angles | 0 to 21 | m, 1, rad |
| velocity of the torso along x, y, z, its angular velocity, joint velocities | 22 to 44 | m/s, rad/s |

These are the first 45 of the 348 numbers of `Humanoid-v5`. The others are contact forces, and quantities that follow
from these 45 and the action: inertias and velocities of the bodies, forces of the actuators.

| action | index | range |
|---|---|---|
| torques at abdomen (3), right leg (4), left leg (4), right arm (3), left arm (3) | 0 to 16 | [-0.4, 0.4] |

In the reward, v is the velocity of the centre of mass in the plane over one step (0.015 s) in m/s, a the action before
clipping, and F the contact forces on all bodies. The robot has fallen when the torso's height leaves (1, 2) m. A fall
terminates the episode, and the constant of the reward is not paid in that step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from metarl.envs.locomotion import ANGLE, Locomotion, locomotion_family
from metarl.envs.mujoco_batch import Output, gymnasium_asset
from metarl.tasks import Family
from metarl.types import Bools, Floats, Task

HEALTHY_HEIGHT = (1.0, 2.0)  # m
CONTACT_COST, MAX_CONTACT_COST = 5e-7, 10.0


class Humanoid(Locomotion):
    """A batch of humanoids."""

    model_path = gymnasium_asset("humanoid.xml")
    frame_skip = 5
    observation_size = 45
    position_noise = velocity_noise = 0.01
    # Values of the last physics step, as in Humanoid-v5.
    outputs: ClassVar[Mapping[str, Output]] = {
        "bodies": lambda data: data.xipos,
        "contacts": lambda data: data.cfrc_ext,
    }
    contact_forces = True
    skipped_positions = 2
    progress_weight = 1.25
    control_cost = 0.1
    alive = 5.0

    def _apply_tasks(self, tasks: Sequence[Task]) -> None:
        super()._apply_tasks(tasks)
        masses = np.array([model.body_mass for model in self.models])
        self._shares = np.repeat(masses / masses.sum(axis=1, keepdims=True), self.episodes, axis=0)  # [N, bodies]

    def _position(self, rows: np.ndarray) -> Floats:
        shares = self._shares[rows]
        places = self.batch.outputs["bodies"][rows].reshape(*shares.shape, 3)
        return np.einsum("rb,rbx->rx", shares, places[:, :, :2])

    def _contact_cost(self, rows: np.ndarray) -> Floats | float:
        forces = self.batch.outputs["contacts"][rows]
        return np.minimum(CONTACT_COST * np.square(forces).sum(axis=1), MAX_CONTACT_COST)

    def _fallen(self, rows: np.ndarray) -> Bools:
        height = self.batch.qpos[rows, 2]
        return ~((height > HEALTHY_HEIGHT[0]) & (height < HEALTHY_HEIGHT[1]))


def humanoid_dir_2d() -> Family:
    """Humanoid that runs in a direction of the plane.

    - Observation: 45 numbers in m, 1, rad, m/s and rad/s, see the module.
    - Action: 17 torques in [-0.4, 0.4].
    - Reward: `1.25 (v_x cos(t) + v_y sin(t)) + 5 - 0.1 |a|^2 - min(5e-7 |F|^2, 10)`.
    - End: terminated by a fall, truncated after 200 steps.
    - Varies: angle t in U(0, 2 pi) rad; hidden.
    - Source: oyster, varibad.
    """
    return locomotion_family("humanoid-dir-2d", Humanoid, "run in a direction of the plane", goal=ANGLE)
