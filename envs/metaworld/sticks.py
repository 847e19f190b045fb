"""Moving a container with a stick: `stick-push-v3`, `stick-pull-v3`.

In the formulas, `near(a, b)` is a long-tailed tolerance of the distance between a and b, about 0.1 at the initial
distance. `grasp` is the caging reward of the gripper and the stick (0 to 1). The stick is "held" if it is lifted by
0.01 m, the tcp is within 0.02 m, and the gripper is not fully closed.
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
    body_matrix,
    site,
)
from metarl.envs.metaworld.shaping import distance, gripper_caging, hamacher, near, norm
from metarl.types import Bools, Floats

AT_TARGET = 0.12
"""Distance from the target, in m, at which the container has arrived."""
RADIUS = 0.05  # m
STICK_SCALE = np.array([1.0, 1.0, 2.0])
"""Weight of each axis in the stick's distance from the container."""
GRIP = np.array([0.015, 0.0, 0.0])
"""Offset of the stick's grasping point from its centre, m."""
HANDLE_TO_CONTAINER = np.array([0.05, 0.0, 0.0])  # m
HANDLE_TO_MIDDLE = np.array([0.0, 0.09, 0.0])  # m


class _Stick(Manipulation):
    """A task class with a stick, and a container whose position, but not orientation, is observed."""

    constants = ("_target_pos", "obj_init_pos", "stick_init_pos", "init_tcp")
    main_object = "objGeom"


def _observed(sensed: Mapping[str, Floats], container: Floats) -> Floats:
    stick = [sensed["stick"], sensed["quaternion"]]
    return np.concatenate([*stick, container, np.zeros((len(container), 4))], axis=1)


def _held(scene: Scene, stick: Floats) -> Bools:
    lifted = stick[:, 2] - 0.01 > scene.goal["stick_init_pos"][:, 2]
    return (distance(stick, scene.tcp) < 0.02) & (scene.opening > 0.0) & lifted


class StickPush(_Stick):
    """Push a container with a stick.

    The reward is `grasp` while the stick is not held. While it is held, the reward is
    `2 + 5 near(stick, target) + 3 near(container, target)`, or 10 if the container is within 0.12 m of the target.
    Both tolerances are 1 within 0.12 m. Success: the container is within 0.12 m of the target, both fingers press on
    the stick, and the stick is lifted.
    """

    name = "stick-push-v3"
    sensors: ClassVar[Mapping[str, Sensor]] = {
        "stick": body("stick"),
        "matrix": body_matrix("stick"),
        "handle": site("insertion"),
    }

    @staticmethod
    def objects(sensed: Mapping[str, Floats]) -> Floats:
        """Stick and container."""
        return _observed(sensed, sensed["handle"] + HANDLE_TO_MIDDLE)

    @staticmethod
    def judge(scene: Scene) -> Verdict:
        """Grasp of the stick, and nearness of stick and container to the target."""
        stick, container = scene.objects[:, :3] + GRIP, scene.objects[:, 7:10]
        start, target = scene.goal["stick_init_pos"], scene.goal["_target_pos"]
        stick_margin = distance(start, target) - AT_TARGET
        container_margin = distance(scene.goal["obj_init_pos"], target) - AT_TARGET
        stick_in_place = near(distance(stick, target), AT_TARGET, stick_margin)
        offset = distance(container, target)
        container_in_place = near(offset, AT_TARGET, container_margin)
        grasped = gripper_caging(
            scene,
            stick,
            radius=0.04,
            pad_threshold=0.05,
            reach_radius=0.01,
            xz_threshold=0.01,
            density="high",
            start="stick_init_pos",
        )
        held, done = _held(scene, stick), offset <= AT_TARGET
        moving = np.where(done, 10.0, 2.0 + 5.0 * stick_in_place + 3.0 * container_in_place)
        pressed = scene.touching & (scene.opening > 0.0) & (stick[:, 2] - 0.01 > start[:, 2])
        return Verdict(
            reward=np.where(held, moving, grasped),
            success=pressed & done,
            near_object=distance(stick, scene.tcp) <= 0.03,
            grasp_success=pressed,
            grasp_reward=np.where(held, 1.0, grasped),
            in_place_reward=stick_in_place,
            obj_to_target=offset,
        )


class StickPull(_Stick):
    """Pull a container by its handle with a stick.

    `both` is the Hamacher product of `grasp` (1 while the stick is held) and `near(stick, container)`, weighted 1, 1, 2
    along the axes. Tolerances are 1 within 0.05 m. The reward is

    - `both` while the stick is not held,
    - `1 + both + 5 near(stick, container)` while it is held,
    - `6 + both + 2 near(stick, target) + near(container, target)` if its end is also in the handle,
    - 10 if the handle is then within 0.12 m of the target.

    Success: the stick's end is in the handle, and the handle is within 0.12 m of the target.
    """

    name = "stick-pull-v3"
    sensors: ClassVar[Mapping[str, Sensor]] = {
        "stick": body("stick"),
        "matrix": body_matrix("stick"),
        "handle": site("insertion"),
        "end": site("stick_end"),
    }

    @staticmethod
    def objects(sensed: Mapping[str, Floats]) -> Floats:
        """Stick and handle."""
        return _observed(sensed, sensed["handle"])

    @staticmethod
    def judge(scene: Scene) -> Verdict:
        """Grasp of the stick, its nearness to the container, then nearness of both to the target."""
        stick, handle, end = scene.objects[:, :3], scene.objects[:, 7:10], scene.sensed["end"]
        start, target = scene.goal["stick_init_pos"], scene.goal["_target_pos"]
        handle_start = scene.goal["obj_init_pos"]
        container, container_start = handle + HANDLE_TO_CONTAINER, handle_start + HANDLE_TO_CONTAINER
        margin = norm((start - container_start) * STICK_SCALE)
        in_place = near(norm((stick - container) * STICK_SCALE), RADIUS, margin)
        stick_at_target = near(distance(stick, target), RADIUS, distance(start, target))
        container_at_target = near(distance(container, target), RADIUS, distance(handle_start, target))
        held = _held(scene, stick)
        grasped = gripper_caging(
            scene,
            stick,
            radius=0.014,
            pad_threshold=0.05,
            reach_radius=0.01,
            xz_threshold=0.01,
            density="high",
        )
        grasped = np.where(held, 1.0, grasped)
        both = hamacher(grasped, in_place)
        aside = np.abs(end - handle)
        inserted = (end[:, 0] >= handle[:, 0]) & (aside[:, 1] <= 0.04) & (aside[:, 2] <= 0.06)
        offset = distance(handle, target)
        pulling = np.where(offset <= AT_TARGET, 10.0, 6.0 + both + 2.0 * stick_at_target + container_at_target)
        reward = np.select([held & inserted, held], [pulling, 1.0 + both + 5.0 * in_place], both)
        return Verdict(
            reward=reward,
            success=inserted & (offset <= AT_TARGET),
            near_object=distance(stick, scene.tcp) <= 0.03,
            grasp_success=scene.touching & (scene.opening > 0.0) & (stick[:, 2] - 0.02 > handle_start[:, 2]),
            grasp_reward=grasped,
            in_place_reward=in_place,
            obj_to_target=offset,
        )


CLASSES: tuple[type[Manipulation], ...] = (StickPush, StickPull)
