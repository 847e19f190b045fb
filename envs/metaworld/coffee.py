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
"""Weight of each axis in the mug's distance from the target."""


class CoffeePush(Moving):
    """Push a mug to a coffee machine.

    The reward is 10 if `e < 0.05` m, else the Hamacher product of `grasp` and `near(e)`. It is larger by
    `1 + 5 near(e)` if the tcp is within 0.04 m of the mug and the gripper is not fully closed. Here e is the mug's
    distance from the target, weighted 2, 2, 1 along the axes; `near(e)` is a long-tailed tolerance (1 within 0.05 m,
    about 0.1 at the initial distance); `grasp` is the caging reward with density `medium`. Success: an unweighted
    distance of at most 0.07 m.
    """

    name = "coffee-push-v3"
    sensors: ClassVar[Mapping[str, Sensor]] = {"object": body("obj"), "matrix": geom_matrix("mug")}
    main_object = "mug"  # a visual mesh without contacts, so `grasp_success` is never true

    @staticmethod
    def judge(scene: Scene) -> Verdict:
        """Grasp of the mug, and its nearness to the target."""
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
    """Pull a mug away from a coffee machine; reward and success as in `CoffeePush`."""

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
