"""Moving a mug to and from a coffee machine: `coffee-push-v3`, `coffee-pull-v3`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from metarl.envs.metaworld.moving import RADIUS, Moving, moved
from metarl.envs.metaworld.scene import Manipulation, Scene, Sensor, Verdict, body, geom_matrix
from metarl.envs.metaworld.shaping import distance, gripper_caging, hamacher, near, norm
from metarl.types import Floats

SCALE = np.array([2.0, 2.0, 1.0])
"""How much an error along each axis counts."""


class CoffeePush(Moving):
    """To the machine.

    With e the mug's distance from the target, errors along x and y counting twice, near(e) its nearness (1 within
    5 cm, about 0.1 at the start) and grasp how well the gripper encloses the mug, closes and reaches it: the reward is
    10 where e < 5 cm, else the Hamacher product of grasp and near(e), and in addition 1 + 5 near(e) while the open
    gripper is within 4 cm of the mug. Success: a distance of at most 7 cm.
    """

    name = "coffee-push-v3"
    sensors: ClassVar[Mapping[str, Sensor]] = {"object": body("obj"), "matrix": geom_matrix("mug")}
    main_object = "mug"  # the mesh that is shown; it touches nothing, so that `grasp_success` is never true

    @staticmethod
    def judge(scene: Scene) -> Verdict:
        """Nearness of the mug to the target, in the gripper."""
        mug, start, target = scene.objects[:, :3], scene.goal["obj_init_pos"], scene.goal["_target_pos"]
        error = norm((mug - target) * SCALE)
        in_place = near(error, RADIUS, norm((start - target) * SCALE))
        grasped = _grasp(scene, mug)
        held = (distance(mug, scene.tcp) < 0.04) & (scene.opening > 0.0)
        reward = hamacher(grasped, in_place) + np.where(held, 1.0 + 5.0 * in_place, 0.0)
        reward = np.where(error < RADIUS, 10.0, reward)
        offset = distance(mug, target)
        return moved(scene, reward=reward, grasped=grasped, in_place=in_place, offset=offset, lift=None)


class CoffeePull(CoffeePush):
    """Away from the machine: rewarded like `CoffeePush`, start and target on other sides."""

    name = "coffee-pull-v3"


def _grasp(scene: Scene, mug: Floats) -> Floats:
    return gripper_caging(
        scene,
        mug,
        radius=0.02,
        pad_threshold=0.05,
        reach_radius=0.04,
        xz_threshold=0.05,
        effort=0.7,
        density="medium",
    )


CLASSES: tuple[type[Manipulation], ...] = (CoffeePush, CoffeePull)
