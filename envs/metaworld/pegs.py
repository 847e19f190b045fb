"""Pegs and holes: `assembly-v3`, `disassemble-v3`, `peg-insert-side-v3`, `peg-unplug-side-v3`.

The notation of formulas is that of `metarl.envs.metaworld.picking`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np

from metarl.envs.metaworld.picking import QUARTER_TURN, RADIUS, OneObject, held
from metarl.envs.metaworld.scene import (
    Manipulation,
    Scene,
    Sensor,
    Verdict,
    body_quaternion,
    site,
    site_matrix,
)
from metarl.envs.metaworld.shaping import (
    aligned,
    distance,
    funnel,
    gripper_caging,
    hamacher,
    near,
    norm,
    prism,
)
from metarl.types import Bools, Floats


class Wrench(OneObject):
    """A task class with a wrench, which has a handle to grasp (observed) and a ring around a peg (not observed)."""

    sensors: ClassVar[Mapping[str, Sensor]] = {
        "position": site("RoundNut-8"),
        "quaternion": body_quaternion("RoundNut"),
        "ring": site("RoundNut"),
    }


def wrench_verdict(scene: Scene, place: Floats, success: Bools, density: Literal["medium", "high"]) -> Verdict:
    """The verdict of both classes: the reward is `flat (2 cage + 6 place)`, and 10 on success.

    `flat` is 1 for the initial orientation and decreases as the wrench tilts or turns. For caging, the handle's x is
    that of the hand if they differ by less than 0.01 m.

    Args:
        scene: The scene.
        place: Nearness of the ring to its target, 0 to 1, `[R]`.
        success: Whether the task is solved, `[R]`.
        density: See `gripper_caging`.
    """
    handle, hand_x = scene.objects[:, :3].copy(), scene.observation[:, 0]
    handle[:, 0] = np.where(np.abs(handle[:, 0] - hand_x) < 0.01, hand_x, handle[:, 0])
    caging = gripper_caging(
        scene, handle, radius=0.015, pad_threshold=0.02, reach_radius=0.01, xz_threshold=0.01, density=density
    )
    flat = aligned(scene.objects[:, 3:7], QUARTER_TURN, 0.4)
    return Verdict(
        reward=np.where(success, 10.0, (2.0 * caging + 6.0 * place) * flat),
        success=success,
        near_object=flat,
        grasp_success=caging >= 0.5,
        grasp_reward=caging,
        in_place_reward=place,
        obj_to_target=np.zeros_like(caging),
    )


class Assembly(Wrench):
    """Put a wrench's ring over a peg.

    The reward is `flat (2 cage + 6 place)`, and 10 on success. Success: the ring's centre is below the peg's top and
    horizontally within 0.02 m of it. `cage` has density `medium`, so half of it is reaching the handle.

    `place` is 0.1 for a lifted ring (higher than 0.02 m, or around the peg), plus 0.9 times its nearness (within
    0.02 m, margin 0.4 m, weighted 1, 1, 3 along the axes) to the point on the peg's axis at the height of a funnel,
    `0.02 ln(r - w) + 0.2` at radius r. The throat w is 0.01 m, on success 0.02 m.
    """

    name = "assembly-v3"

    @staticmethod
    def judge(scene: Scene) -> Verdict:
        """Grasp of the handle, and nearness of the ring to the peg from above."""
        ring, target = scene.sensed["ring"], scene.goal["_target_pos"]
        error = target - ring
        radius = norm(error[:, :2])
        success = (radius < 0.02) & (error[:, 2] > 0.0)
        throat = np.where(success, 0.02, 0.01)
        error[:, 2] = funnel(radius, throat, slope=0.02, height=0.2) - ring[:, 2]
        over = near(norm(error * np.array([1.0, 1.0, 3.0])), 0.02, 0.4)
        place = 0.1 * ((ring[:, 2] > 0.02) | (radius < throat)) + 0.9 * over
        return wrench_verdict(scene, place, success, "medium")


class Disassemble(Wrench):
    """Take a wrench's ring off a peg.

    The reward is `flat (2 cage + 6 place)`, and 10 on success. Success: the handle is higher than the target. `place`
    is 0.1 for a ring higher than 0.02 m, plus 0.9 times its nearness to the point 0.1 m above the target (within
    0.02 m, margin 0.2 m).
    """

    name = "disassemble-v3"

    @staticmethod
    def judge(scene: Scene) -> Verdict:
        """Grasp of the handle, and height of the ring."""
        ring, target = scene.sensed["ring"], scene.goal["_target_pos"]
        free = near(distance(target + np.array([0.0, 0.0, 0.1]), ring), 0.02, 0.2)
        place = 0.1 * (ring[:, 2] > 0.02) + 0.9 * free
        return wrench_verdict(scene, place, scene.objects[:, 2] > target[:, 2], "high")


class PegInsertSide(OneObject):
    """Insert a peg sideways into a hole.

    The reward is `cage & place` with `place = near(|h - *|, 0.07) & (box1 & box2)`. Here h is the position of the peg's
    head, and distances are weighted 1, 2, 2 along the axes. While the peg is held (tcp within 0.08 m, lifted by
    0.01 m), cage is 1, and the reward is `1 + 6 place`. It is 10 at a distance of at most 0.07, which is success.

    `box1` and `box2` penalise a head in one of two boxes in front of the hole's frame: inside, the product over the
    axes of its relative position between two corners (`shaping.prism`), 1 outside.
    """

    name = "peg-insert-side-v3"
    sensors: ClassVar[Mapping[str, Sensor]] = {
        "position": site("pegGrasp"),
        "matrix": site_matrix("pegGrasp"),
        "head": site("pegHead"),
        "zero_1": site("bottom_right_corner_collision_box_1"),
        "one_1": site("top_left_corner_collision_box_1"),
        "zero_2": site("bottom_right_corner_collision_box_2"),
        "one_2": site("top_left_corner_collision_box_2"),
    }
    constants = (*OneObject.constants, "peg_head_pos_init")

    @staticmethod
    def judge(scene: Scene) -> Verdict:
        """Grasp of the peg, and nearness of its head to the target, past the hole's frame."""
        peg, head, target = scene.objects[:, :3], scene.sensed["head"], scene.goal["_target_pos"]
        weights = np.array([1.0, 2.0, 2.0])
        to_object, to_target = distance(peg, scene.tcp), norm((head - target) * weights)
        boxes = [prism(head, scene.sensed[f"zero_{n}"], scene.sensed[f"one_{n}"]) for n in (1, 2)]
        start = norm((scene.goal["peg_head_pos_init"] - target) * weights)
        place = hamacher(near(to_target, 0.07, start), hamacher(boxes[0], boxes[1]))
        holding = held(scene, 0.08, 0.01)
        caging = gripper_caging(
            scene, peg, radius=0.0075, pad_threshold=0.03, reach_radius=0.01, xz_threshold=0.005, density="high"
        )
        caging = np.where(holding, 1.0, caging)
        reward = hamacher(caging, place) + np.where(holding, 1.0 + 5.0 * place, 0.0)
        return Verdict(
            reward=np.where(to_target <= 0.07, 10.0, reward),
            success=to_target <= 0.07,
            near_object=to_object <= 0.03,
            grasp_success=held(scene, 0.02, 0.01),
            grasp_reward=caging,
            in_place_reward=place,
            obj_to_target=to_target,
        )


class PegUnplugSide(OneObject):
    """Pull a plug sideways out of its hole.

    The reward is `2 cage`, plus `1 + 5 place` with `place = near(|o - *|, 0.05)` if the tcp is within 0.035 m of the
    plug's end, the plug has moved along x by more than 0.015 m, and the gripper is more than half open. It is 10 within
    0.05 m of the target. Success: within 0.07 m.
    """

    name = "peg-unplug-side-v3"
    sensors: ClassVar[Mapping[str, Sensor]] = {"position": site("pegEnd"), "quaternion": body_quaternion("plug1")}

    @staticmethod
    def judge(scene: Scene) -> Verdict:
        """Grasp of the plug, and its nearness to the target."""
        plug, target, start = scene.objects[:, :3], scene.goal["_target_pos"], scene.goal["obj_init_pos"]
        to_object, to_target = distance(plug, scene.tcp), distance(plug, target)
        caging = gripper_caging(
            scene,
            plug,
            radius=0.025,
            pad_threshold=0.05,
            reach_radius=0.01,
            xz_threshold=0.005,
            effort=0.8,
            density="high",
        )
        place = near(to_target, RADIUS, distance(start, target))
        grasped = (scene.opening > 0.5) & (plug[:, 0] - start[:, 0] > 0.015)
        reward = 2.0 * caging + np.where(grasped & (to_object < 0.035), 1.0 + 5.0 * place, 0.0)
        return Verdict(
            reward=np.where(to_target <= RADIUS, 10.0, reward),
            success=to_target <= 0.07,
            near_object=to_object <= 0.03,
            grasp_success=grasped,
            grasp_reward=caging,
            in_place_reward=place,
            obj_to_target=to_target,
        )


CLASSES: tuple[type[Manipulation], ...] = (Assembly, Disassemble, PegInsertSide, PegUnplugSide)
