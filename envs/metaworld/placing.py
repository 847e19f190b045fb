"""Grasping an object and placing it: `shelf-place-v3`, `bin-picking-v3`, `box-close-v3`, `basketball-v3`.

The notation of formulas is that of `metarl.envs.metaworld.picking`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from metarl.envs.metaworld.picking import QUARTER_TURN, RADIUS, OneObject, held, lifted, pick_place_verdict
from metarl.envs.metaworld.scene import Manipulation, Scene, Sensor, Verdict, body, body_quaternion, geom_matrix
from metarl.envs.metaworld.shaping import above, aligned, distance, funnel, gripper_caging, hamacher, near, norm


class ShelfPlace(OneObject):
    """Place a block on a shelf.

    The reward is `cage & place` with `place = near(|o - *|, 0.05)`, plus `1 + 5 place'` while the block is held (tcp
    within 0.025 m, lifted by 0.01 m). It is 10 within 0.05 m of the target. Success: within 0.07 m.

    `place'` equals `place`, except below the shelf (lower than 0.24 m, less than 0.15 m to the side of the target):
    there it is lower by `y & (1 - o_z / 0.24)`, where y grows from 0 to 1 over the last 0.15 m before the target, and
    it is 0 behind the target.
    """

    name = "shelf-place-v3"
    sensors: ClassVar[Mapping[str, Sensor]] = {"position": body("obj"), "matrix": geom_matrix("objGeom")}
    main_object = "objGeom"

    @staticmethod
    def judge(scene: Scene) -> Verdict:
        """Grasp of the block, and its nearness to the target, above the shelf's edge."""
        block, target = scene.objects[:, :3], scene.goal["_target_pos"]
        place = near(distance(block, target), RADIUS, distance(scene.goal["obj_init_pos"], target))
        caging = gripper_caging(scene, block, radius=0.02, pad_threshold=0.05, reach_radius=0.01, xz_threshold=0.01)
        x, y, z = block.T
        front, low = target[:, 1] - 0.15, (z > 0.0) & (z < 0.24)
        low &= (target[:, 0] - 0.15 < x) & (x < target[:, 0] + 0.15)
        loss = hamacher(np.clip((y - front) / 0.15, 0.0, 1.0), np.clip((0.24 - z) / 0.24, 0.0, 1.0))
        before, behind = low & (front < y) & (y < target[:, 1]), low & (y > target[:, 1])
        free = np.select([before, behind], [np.clip(place - loss, 0.0, 1.0), 0.0], place)
        reward = hamacher(caging, place) + np.where(held(scene, 0.025, 0.01), 1.0 + 5.0 * free, 0.0)
        return pick_place_verdict(scene, reward, caging, free)


class BinPicking(OneObject):
    """Move a block from one bin to another.

    The reward is `cage & place` with `place = near(|o - *|, 0.05)`, plus `1 + 5 (place & clear)` if the hand is within
    0.04 m of the block, the block is lifted by 0.02 m, and the gripper's opening is at least 0.43. `clear` is 1 for a
    hand above the lower of two funnels, around the block's initial position and around the target, of height
    `0.02 ln(r - 0.03) + 0.2` at radius r. The reward is 10 within 0.05 m of the target. Success: within 0.05 m.

    The initial distance in `place` is that after the first step, when physics has pushed the block out of the bin's
    wall.
    """

    name = "bin-picking-v3"
    sensors: ClassVar[Mapping[str, Sensor]] = {"position": body("obj"), "quaternion": body_quaternion("obj")}
    settled_constants = ("_target_to_obj_init",)

    @staticmethod
    def judge(scene: Scene) -> Verdict:
        """Grasp of the block, clearance from the bins' edges, and nearness to the target."""
        hand, block, target = scene.observation[:, :3], scene.objects[:, :3], scene.goal["_target_pos"]
        to_target, to_object = distance(block, target), distance(block, hand)
        place = near(to_target, RADIUS, scene.goal["_target_to_obj_init"][:, 0])
        floors = [
            funnel(distance(hand[:, :2], axis[:, :2]), 0.03, slope=0.02, height=0.2)
            for axis in (scene.goal["obj_init_pos"], target)
        ]
        clear = above(hand[:, 2], np.minimum(floors[0], floors[1]), margin=0.05)
        caging = gripper_caging(
            scene,
            block,
            radius=0.015,
            pad_threshold=0.05,
            reach_radius=0.01,
            xz_threshold=0.01,
            effort=0.7,
            density="high",
        )
        grasped = (to_object < 0.04) & lifted(scene, 0.02) & (scene.opening >= 0.43)
        reward = hamacher(caging, place) + np.where(grasped, 1.0 + 5.0 * hamacher(clear, place), 0.0)
        return Verdict(
            reward=np.where(to_target < RADIUS, 10.0, reward),
            success=to_target <= RADIUS,
            near_object=to_object < 0.04,
            grasp_success=grasped,
            grasp_reward=caging,
            in_place_reward=place,
            obj_to_target=to_target,
        )


class BoxClose(OneObject):
    """Put a lid on a box.

    The reward is `flat (2 (closing & ready) + 8 lift)`, and `10 flat` on success. Success: the lid is within 0.08 m of
    the target. The handle is 0.02 m above the lid's position.

    - closing: the gripper action, scaled to 0 (opening) to 1 (closing).
    - ready: nearness of the hand to the handle (within 0.02 m, margin 0.5 m) `&` height above a funnel around the
      handle, `0.04 ln(r - 0.02) + 0.4` at radius r.
    - lift: 0.2 if the handle is higher than 0.04 m, plus 0.8 times its nearness to the target (within 0.05 m, margin
      0.25 m, weighted 1, 1, 3 along the axes).
    - flat: 1 for the initial orientation, decreasing as the lid tilts or turns.
    """

    name = "box-close-v3"
    sensors: ClassVar[Mapping[str, Sensor]] = {"position": body("top_link"), "quaternion": body_quaternion("top_link")}
    constants = ("_target_pos",)

    @staticmethod
    def judge(scene: Scene) -> Verdict:
        """Grasp of the handle from above, height of the lid, and nearness to the target."""
        hand, lid, target = scene.observation[:, :3], scene.objects[:, :3], scene.goal["_target_pos"]
        handle, weights = lid + np.array([0.0, 0.0, 0.02]), np.array([1.0, 1.0, 3.0])
        closing = (np.clip(scene.actions[:, 3], -1.0, 1.0) + 1.0) / 2.0
        floor = funnel(distance(hand[:, :2], handle[:, :2]), 0.02, slope=0.04, height=0.4)
        reached = near(distance(hand, handle), 0.02, 0.5)
        ready = hamacher(above(hand[:, 2], floor, floor / 2.0), reached)
        placed = near(norm((target - handle) * weights), 0.05, 0.25)
        lift = 0.2 * (handle[:, 2] > 0.04) + 0.8 * placed
        success = distance(lid, target) < 0.08
        reward = np.where(success, 10.0, 2.0 * hamacher(closing, ready) + 8.0 * lift)
        return Verdict(
            reward=reward * aligned(scene.objects[:, 3:7], QUARTER_TURN, 0.2),
            success=success,
            near_object=ready,
            grasp_success=closing >= 0.5,
            grasp_reward=closing,
            in_place_reward=lift,
            obj_to_target=np.zeros_like(ready),
        )


class Basketball(OneObject):
    """Put a ball into a basket.

    The target is at the height 0.3 m, and distances from it are weighted 1, 1, 2 along the axes. The reward is
    `cage & place` with `place = near(|o - *|, 0.08)`. While the ball is held (tcp within 0.035 m, lifted by 0.01 m),
    cage is 1, and the reward is `1 + 6 place`. It is 10 at a distance below 0.08. Success: a distance of at most 0.08.
    """

    name = "basketball-v3"
    sensors: ClassVar[Mapping[str, Sensor]] = {"position": body("bsktball"), "quaternion": body_quaternion("bsktball")}

    @staticmethod
    def judge(scene: Scene) -> Verdict:
        """Grasp of the ball, and its nearness to the target above the basket."""
        ball, weights = scene.objects[:, :3], np.array([1.0, 1.0, 2.0])
        target = scene.goal["_target_pos"] * np.array([1.0, 1.0, 0.0]) + np.array([0.0, 0.0, 0.3])
        to_target = norm((ball - target) * weights)
        place = near(to_target, 0.08, norm((scene.goal["obj_init_pos"] - target) * weights))
        holding = held(scene, 0.035, 0.01)
        caging = gripper_caging(
            scene, ball, radius=0.025, pad_threshold=0.06, reach_radius=0.01, xz_threshold=0.005, density="high"
        )
        caging = np.where(holding, 1.0, caging)
        reward = hamacher(caging, place) + np.where(holding, 1.0 + 5.0 * place, 0.0)
        return Verdict(
            reward=np.where(to_target < 0.08, 10.0, reward),
            success=to_target <= 0.08,
            near_object=distance(ball, scene.tcp) <= 0.05,
            grasp_success=(scene.opening > 0.0) & lifted(scene, 0.03),
            grasp_reward=caging,
            in_place_reward=place,
            obj_to_target=to_target,
        )


CLASSES: tuple[type[Manipulation], ...] = (ShelfPlace, BinPicking, BoxClose, Basketball)
