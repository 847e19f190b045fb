"""Using a hammer, and inserting a block by hand: `hammer-v3`, `hand-insert-v3`.

In the formulas, `near(x; r, m)` is the long-tailed tolerance: 1 for x up to r, 0.1 at x = r + m. `a & b` is the
Hamacher product, and `x0` the initial value of x. Distances are in m.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from metarl.envs.metaworld.scene import Manipulation, Scene, Sensor, Verdict, body, body_quaternion, joint
from metarl.envs.metaworld.shaping import distance, gripper_caging, hamacher, near
from metarl.types import Floats


class Hammer(Manipulation):
    """Drive a nail into a block with a hammer.

    The reward is `(2 grasp + 6 place) upright`, and 10 if that is above 5 and the nail is more than 0.09 m deep. A nail
    of that depth is success.

    - grasp: caging reward of the handle, at the hand's x if the handle extends that far.
    - place: 0.1 if the head is higher than 0.02 m, plus `0.9 near(d; 0.02, 0.2)`, with d the distance of the head from
      the target.
    - upright: 1 for the hammer's quaternion (1, 0, 0, 0), decreasing linearly to 0 at a Euclidean distance of 0.4.
    """

    name = "hammer-v3"
    sensors: ClassVar[Mapping[str, Sensor]] = {
        "hammer": body("hammer"),
        "hammer_quaternion": body_quaternion("hammer"),
        "nail": body("nail_link"),
        "nail_quaternion": body_quaternion("nail_link"),
        "nail_depth": joint("NailSlideJoint"),
    }
    constants = ("_target_pos", "obj_init_pos", "init_tcp")

    HALF_HANDLE = 0.07
    HEAD_OFFSET = np.array([0.16, 0.06, 0.0])
    UPRIGHT = np.array([1.0, 0.0, 0.0, 0.0])

    @staticmethod
    def objects(sensed: Mapping[str, Floats]) -> Floats:
        """Positions and orientations of hammer and nail."""
        parts = ("hammer", "hammer_quaternion", "nail", "nail_quaternion")
        return np.concatenate([sensed[part] for part in parts], axis=1)

    @staticmethod
    def judge(scene: Scene) -> Verdict:
        """Grasp of the upright hammer, and nearness of its head to the target."""
        hammer, hand = scene.objects[:, :3], scene.observation[:, :3]
        handle = hammer.copy()
        handle[:, 0] = np.where(np.abs(hammer[:, 0] - hand[:, 0]) < Hammer.HALF_HANDLE, hand[:, 0], hammer[:, 0])
        grasp = gripper_caging(
            scene, handle, radius=0.015, pad_threshold=0.02, reach_radius=0.01, xz_threshold=0.01, density="high"
        )
        upright = np.maximum(1.0 - distance(scene.objects[:, 3:7], Hammer.UPRIGHT) / 0.4, 0.0)
        head = hammer + Hammer.HEAD_OFFSET
        close = near(distance(head, scene.goal["_target_pos"]), 0.02, 0.2)
        in_place = 0.1 * (head[:, 2] > 0.02) + 0.9 * close
        reward = (2.0 * grasp + 6.0 * in_place) * upright
        driven = scene.sensed["nail_depth"][:, 0] > 0.09
        return Verdict(
            reward=np.where(driven & (reward > 5.0), 10.0, reward),
            success=driven,
            near_object=upright,
            grasp_success=grasp >= 0.5,
            grasp_reward=grasp,
            in_place_reward=in_place,
            obj_to_target=np.zeros_like(reward),
        )


class HandInsert(Manipulation):
    """Put a block into a hole by hand.

    The reward is 10 if `d < 0.05`, else `grasp & place`, plus `1 + 7 place` while the tcp is within 0.02 m of the block
    and the gripper is not fully closed. Here `place = near(d; 0.05, d0)`, d is the distance of the block from the
    target, and grasp the caging reward. Success: d <= 0.05.
    """

    name = "hand-insert-v3"
    sensors: ClassVar[Mapping[str, Sensor]] = {"block": body("obj"), "quaternion": body_quaternion("obj")}
    constants = ("_target_pos", "obj_init_pos", "init_tcp")
    main_object = "objGeom"

    RADIUS = 0.05

    @staticmethod
    def objects(sensed: Mapping[str, Floats]) -> Floats:
        """The block."""
        return np.concatenate([sensed["block"], sensed["quaternion"]], axis=1)

    @staticmethod
    def judge(scene: Scene) -> Verdict:
        """Grasp of the block, and its nearness to the target."""
        block, start, target = scene.objects[:, :3], scene.goal["obj_init_pos"], scene.goal["_target_pos"]
        radius = HandInsert.RADIUS
        offset, hand_offset = distance(block, target), distance(block, scene.tcp)
        in_place = near(offset, radius, distance(start, target))
        grasp = gripper_caging(
            scene, block, radius=0.015, pad_threshold=0.05, reach_radius=0.01, xz_threshold=0.005, density="high"
        )
        is_open = scene.opening > 0.0
        bonus = np.where((hand_offset < 0.02) & is_open, 1.0 + 7.0 * in_place, 0.0)
        return Verdict(
            reward=np.where(offset < radius, 10.0, hamacher(grasp, in_place) + bonus),
            success=offset <= radius,
            near_object=hand_offset <= 0.03,
            grasp_success=scene.touching & is_open & (block[:, 2] - 0.02 > start[:, 2]),
            grasp_reward=grasp,
            in_place_reward=in_place,
            obj_to_target=offset,
        )


CLASSES: tuple[type[Manipulation], ...] = (Hammer, HandInsert)
