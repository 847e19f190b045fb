"""Putting things on, off, into and out of pegs and holes.

`assembly-v3`, `disassemble-v3`, `peg-insert-side-v3`, `peg-unplug-side-v3`. The formulas are written as in
`metarl.envs.metaworld.picking`.
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
    """Classes with a wrench: a handle to grasp, which is what the agent sees, and a ring to put over a peg."""

    sensors: ClassVar[Mapping[str, Sensor]] = {
        "position": site("RoundNut-8"),
        "quaternion": body_quaternion("RoundNut"),
        "ring": site("RoundNut"),
    }


def wrench_verdict(scene: Scene, place: Floats, success: Bools, density: Literal["medium", "high"]) -> Verdict:
    """`flat (2 cage + 6 place)`, 10 on success; `flat` falls as the wrench tilts or turns.

    For the caging, the point of the handle to grasp is that at the hand's x where this is closer than 0.01 m.
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
    """A wrench's ring over a peg.

    `reward = flat (2 cage + 6 place)`, 10 on success: the ring's centre lower than the peg's top and, horizontally,
    closer than 0.02 m to it. `cage` counts reaching the handle for a half. `place` is 0.1 for a ring that is lifted
    (higher than 0.02 m, or over the peg) and 0.9 times its nearness (within 0.02 m, margin 0.4, axes weighed 1, 1, 3)
    to the peg's axis at the height of a funnel, `0.02 ln(r - w) + 0.2`; its throat `w` is 0.01 m, on success 0.02 m.
    """

    name = "assembly-v3"

    @staticmethod
    def judge(scene: Scene) -> Verdict:
        """Grasp the handle, lift the ring over the peg, and lower it."""
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
    """A wrench's ring off a peg.

    `reward = flat (2 cage + 6 place)`, 10 on success: a handle higher than the target. `place` is 0.1 for a ring higher
    than 0.02 m and 0.9 times its nearness to 0.1 m above the target (within 0.02 m, margin 0.2).
    """

    name = "disassemble-v3"

    @staticmethod
    def judge(scene: Scene) -> Verdict:
        """Grasp the handle, and lift."""
        ring, target = scene.sensed["ring"], scene.goal["_target_pos"]
        free = near(distance(target + np.array([0.0, 0.0, 0.1]), ring), 0.02, 0.2)
        place = 0.1 * (ring[:, 2] > 0.02) + 0.9 * free
        return wrench_verdict(scene, place, scene.objects[:, 2] > target[:, 2], "high")


class PegInsertSide(OneObject):
    """A peg sideways into a hole.

    With `h` the peg's head and distances weighed 1, 2, 2 along the axes, `place = near(|h - *|, 0.07) & box1 & box2`:
    `reward = cage & place`; while the peg is held (tcp closer than 0.08 m, lifted by 0.01 m) cage is 1, and the reward
    is `1 + 6 place`; 10 within 0.07. `box` is 1, but inside one of the two boxes in front of the hole's frame the
    product of how far along each axis the head is from their one corner to the other. Success: within 0.07.
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
        """Grasp, lift, and insert past the hole's frame."""
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
    """A plug sideways out of its hole.

    `place = near(|o - *|, 0.05)`, `reward = 2 cage`; plus `1 + 5 place` where the plug's end is closer than 0.035 m to
    the tcp and was moved along x by more than 0.015 m, in a gripper that is more than half open; 10 within 0.05 m of
    the target. Success: within 0.07 m.
    """

    name = "peg-unplug-side-v3"
    sensors: ClassVar[Mapping[str, Sensor]] = {"position": site("pegEnd"), "quaternion": body_quaternion("plug1")}

    @staticmethod
    def judge(scene: Scene) -> Verdict:
        """Grasp and pull."""
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
