"""Picking up an object and moving it to a target: `pick-place-v3`, `pick-place-wall-v3`, `pick-out-of-hole-v3`.

In the formulas, `o` is the position of the object, `*` the target, `&` the Hamacher product (a soft "and"), and
`near(x, r)` a long-tailed tolerance: 1 up to a distance of r, and 0.1 at r plus the initial distance. `cage` is the
caging reward (0 to 1) of the gripper and the object. An object is "held" if it is lifted, the tcp is near it, and the
gripper is not fully closed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from metarl.envs.metaworld.scene import (
    Manipulation,
    Scene,
    Sensor,
    Verdict,
    body,
    body_quaternion,
    geom,
    geom_matrix,
)
from metarl.envs.metaworld.shaping import (
    above,
    closing,
    distance,
    enclosing,
    funnel,
    gripper_caging,
    hamacher,
    near,
    norm,
)
from metarl.types import Bools, Floats

RADIUS = 0.05
"""Distance from the target, in m, below which the reward of most classes is 10."""
QUARTER_TURN = np.array([0.707, 0.0, 0.0, 0.707])
"""Orientation of an untilted lid or wrench: a quarter turn about z, as a quaternion, w first."""


class OneObject(Manipulation):
    """A task class with one object, whose sensors are `position`, and `quaternion` or `matrix`."""

    constants: ClassVar[tuple[str, ...]] = ("_target_pos", "obj_init_pos", "init_tcp")

    @staticmethod
    def objects(sensed: Mapping[str, Floats]) -> Floats:
        """The object."""
        return np.concatenate([sensed["position"], sensed["quaternion"]], axis=1)


def lifted(scene: Scene, height: float) -> Bools:
    """Whether the object is more than `height` (m) above its initial position, `[R]`."""
    return scene.objects[:, 2] - height > scene.goal["obj_init_pos"][:, 2]


def held(scene: Scene, within: float, height: float) -> Bools:
    """Whether the object is lifted by `height` (m), the tcp nearer than `within` (m), and the gripper open, `[R]`."""
    return (distance(scene.objects[:, :3], scene.tcp) < within) & (scene.opening > 0.0) & lifted(scene, height)


def pick_place_verdict(scene: Scene, reward: Floats, caging: Floats, in_place: Floats) -> Verdict:
    """The verdict that classes with a puck share; the reward is raised to 10 at the target.

    Args:
        scene: The scene.
        reward: Reward away from the target, `[R]`.
        caging: Caging reward, 0 to 1, `[R]`.
        in_place: Nearness of the puck to its target, 0 to 1, `[R]`.
    """
    puck = scene.objects[:, :3]
    to_target = distance(puck, scene.goal["_target_pos"])
    return Verdict(
        reward=np.where(to_target < RADIUS, 10.0, reward),
        success=to_target <= 0.07,
        near_object=distance(puck, scene.tcp) <= 0.03,
        grasp_success=scene.touching & (scene.opening > 0.0) & lifted(scene, 0.02),
        grasp_reward=caging,
        in_place_reward=in_place,
        obj_to_target=to_target,
    )


class PickPlace(OneObject):
    """Bring a puck to a target in the air.

    The reward is `cage & place` with `place = near(|o - *|, 0.05)`, plus `1 + 5 place` while the puck is held (tcp
    within 0.02 m, lifted by 0.01 m). It is 10 within 0.05 m of the target. Success: within 0.07 m.
    """

    name = "pick-place-v3"
    sensors: ClassVar[Mapping[str, Sensor]] = {"position": body("obj"), "matrix": geom_matrix("objGeom")}
    main_object = "objGeom"

    @staticmethod
    def judge(scene: Scene) -> Verdict:
        """Grasp of the puck, and its nearness to the target."""
        puck, target, start = scene.objects[:, :3], scene.goal["_target_pos"], scene.goal["obj_init_pos"]
        enclosed = enclosing(scene, puck, radius=0.015, xz_threshold=0.005)
        caging = (closing(scene, enclosed) + enclosed) / 2.0
        place = near(distance(puck, target), RADIUS, distance(start, target))
        reward = hamacher(caging, place) + np.where(held(scene, 0.02, 0.01), 1.0 + 5.0 * place, 0.0)
        return pick_place_verdict(scene, reward, caging, place)


class PickPlaceWall(OneObject):
    """Bring a puck over a wall to a target in the air.

    The reward is `cage & over` with `over = near(|o - m|, 0.05)`, where `m = (*_x, 0.77, 0.25)` is a waypoint above the
    wall, and the distance is weighted 1, 1, 3 along the axes. While the puck is held (tcp within 0.02 m, lifted by
    0.015 m), it is larger by `1 + 4 over` or, if `o_y > 0.75`, by `5 + 3 place` with `place = near(|o - *|, 0.05)`. It
    is 10 within 0.05 m of the target. Success: within 0.07 m.
    """

    name = "pick-place-wall-v3"
    sensors: ClassVar[Mapping[str, Sensor]] = {"position": geom("objGeom"), "matrix": geom_matrix("objGeom")}
    main_object = "objGeom"

    @staticmethod
    def judge(scene: Scene) -> Verdict:
        """Grasp of the puck, and its nearness to the waypoint, then to the target."""
        puck, target, start = scene.objects[:, :3], scene.goal["_target_pos"], scene.goal["obj_init_pos"]
        middle = target * np.array([1.0, 0.0, 0.0]) + np.array([0.0, 0.77, 0.25])
        weights = np.array([1.0, 1.0, 3.0])
        over = near(norm((puck - middle) * weights), RADIUS, norm((start - middle) * weights))
        place = near(distance(puck, target), RADIUS, distance(start, target))
        caging = gripper_caging(scene, puck, radius=0.015, pad_threshold=0.05, reach_radius=0.01, xz_threshold=0.005)
        bonus = np.where(puck[:, 1] > 0.75, 5.0 + 3.0 * place, 1.0 + 4.0 * over)
        reward = hamacher(caging, over) + np.where(held(scene, 0.02, 0.015), bonus, 0.0)
        return pick_place_verdict(scene, reward, caging, place)


class PickOutOfHole(OneObject):
    """Bring a puck out of a hole to a target in the air.

    The reward is `cage & place` with `place = near(|o - *|, 0.02)`, plus `1 + 5 (place & clear)` if the tcp is within
    0.04 m of the puck, the puck is lifted by 0.02 m, and the gripper's opening is at least 0.33. `clear` is 1 for a tcp
    above a funnel around the hole, of height `0.015 ln(r - 0.03) + 0.15` at radius r. The reward is 10 within 0.05 m of
    the target. Success: within 0.07 m.
    """

    name = "pick-out-of-hole-v3"
    sensors: ClassVar[Mapping[str, Sensor]] = {"position": body("obj"), "quaternion": body_quaternion("obj")}

    @staticmethod
    def judge(scene: Scene) -> Verdict:
        """Grasp of the puck, clearance from the hole, and nearness to the target."""
        puck, target, start = scene.objects[:, :3], scene.goal["_target_pos"], scene.goal["obj_init_pos"]
        to_target, to_object = distance(puck, target), distance(puck, scene.tcp)
        floor = funnel(distance(scene.tcp[:, :2], start[:, :2]), 0.03, slope=0.015, height=0.15)
        clear = above(scene.tcp[:, 2], floor, margin=0.02)
        caging = gripper_caging(
            scene,
            puck,
            radius=0.015,
            pad_threshold=0.02,
            reach_radius=0.01,
            xz_threshold=0.03,
            effort=0.1,
            density="high",
        )
        place = near(to_target, 0.02, distance(start, target))
        grasped = (to_object < 0.04) & lifted(scene, 0.02) & (scene.opening >= 0.33)
        reward = hamacher(caging, place) + np.where(grasped, 1.0 + 5.0 * hamacher(place, clear), 0.0)
        return Verdict(
            reward=np.where(to_target < RADIUS, 10.0, reward),
            success=to_target <= 0.07,
            near_object=to_object <= 0.03,
            grasp_success=grasped,
            grasp_reward=caging,
            in_place_reward=place,
            obj_to_target=to_target,
        )


CLASSES: tuple[type[Manipulation], ...] = (PickPlace, PickPlaceWall, PickOutOfHole)
