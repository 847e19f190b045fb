"""Moving a container with a stick: `stick-push-v3`, `stick-pull-v3`.

In the formulas `near(a, b)` is the nearness of two things, 1 within a radius and about 0.1 at the start; `grasp` is how
well the gripper encloses the stick (0 to 1); "held" is a stick in the open gripper, within 2 cm of the tcp and lifted
by 1 cm.
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
"""Distance of the container from the target, in m, that is accepted."""
RADIUS = 0.05  # m
STICK_SCALE = np.array([1.0, 1.0, 2.0])
"""How much the stick's error along each axis counts."""
GRIP = np.array([0.015, 0.0, 0.0])
"""From the stick's middle to where it should be held, m."""
HANDLE_TO_CONTAINER = np.array([0.05, 0.0, 0.0])  # m
HANDLE_TO_MIDDLE = np.array([0.0, 0.09, 0.0])  # m


class _Stick(Manipulation):
    """A stick, and a container with a handle that has a place in the observation but no orientation."""

    constants = ("_target_pos", "obj_init_pos", "stick_init_pos", "init_tcp")
    main_object = "objGeom"


def _observed(sensed: Mapping[str, Floats], container: Floats) -> Floats:
    stick = [sensed["stick"], sensed["quaternion"]]
    return np.concatenate([*stick, container, np.zeros((len(container), 4))], axis=1)


def _held(scene: Scene, stick: Floats) -> Bools:
    lifted = stick[:, 2] - 0.01 > scene.goal["stick_init_pos"][:, 2]
    return (distance(stick, scene.tcp) < 0.02) & (scene.opening > 0.0) & lifted


class StickPush(_Stick):
    """A container, pushed with the stick.

    The reward is 10 while the stick is held and the container within 12 cm of the target; while the stick is held else,
    2 + 5 near(stick, target) + 3 near(container, target); without it, grasp. Success: the container is at the target,
    both fingers press on the stick, and it is lifted.
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
        """Nearness of stick and container to the target."""
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
    """A container, pulled by its handle with the stick.

    With both = the Hamacher product of grasp (1 while the stick is held) and near(stick, container), in which errors
    along z count twice, the reward is: both; while the stick is held, 1 + both + 5 near(stick, container); with the
    stick in the handle besides, 6 + both + 2 near(stick, target) + near(container, target), or 10 with the handle
    within 12 cm of the target. Success: the stick is in the handle, and that within 12 cm of the target.
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
        """Nearness of the stick to the container, then of both to the target."""
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
