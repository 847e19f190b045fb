"""A door and its lock: `door-open-v3`, `door-close-v3`, `door-lock-v3`, `door-unlock-v3`.

In the formulas, `&` is the Hamacher product.
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
    joint,
    site,
)
from metarl.envs.metaworld.shaping import distance, hamacher, near, norm, tolerance
from metarl.types import Floats

DOOR_DONE = 0.08  # m
LOCK_DONE = 0.02  # m
LOCK_LENGTH = 0.1  # m
LOCK_SCALE = np.array([0.25, 1.0, 0.5])
"""Weight of each axis in the distance from a lock."""


class Door(Manipulation):
    """A task class with a door, of which the handle is observed."""

    sensors: ClassVar[Mapping[str, Sensor]] = {"handle": geom("handle"), "matrix": geom_matrix("handle")}

    @staticmethod
    def objects(sensed: Mapping[str, Floats]) -> Floats:
        """Position and orientation of the handle."""
        return np.concatenate([sensed["handle"], sensed["quaternion"]], axis=1)


class DoorClose(Door):
    """Close a door.

    The reward is `3 hand + 6 door`, and 10 if the handle is within 0.05 m of the target. Both are Gaussian tolerances
    of the distance from the target: `hand` of the tcp (1 within 0.0125 m, margin: 0.1 m plus the handle's current
    distance from the hand's initial position), `door` of the handle (1 within 0.05 m, margin: its initial distance).
    Success: the handle is within 0.08 m of the target.
    """

    name = "door-close-v3"
    constants = ("_target_pos", "obj_init_pos", "hand_init_pos")

    @staticmethod
    def judge(scene: Scene) -> Verdict:
        """Nearness of tcp and handle to the target."""
        handle, target = scene.objects[:, :3], scene.goal["_target_pos"]
        offset = distance(handle, target)
        door = tolerance(offset, (0.0, 0.05), distance(scene.goal["obj_init_pos"], target))
        hand_margin = distance(scene.goal["hand_init_pos"], handle) + 0.1
        hand = tolerance(distance(scene.tcp, target), (0.0, 0.0125), hand_margin)
        always = np.ones_like(offset)
        return Verdict(
            reward=np.where(offset < 0.05, 10.0, 3.0 * hand + 6.0 * door),
            success=offset <= DOOR_DONE,
            near_object=0.0 * always,
            grasp_success=always,
            grasp_reward=always,
            in_place_reward=hand,
            obj_to_target=offset,
        )


class DoorOpen(Door):
    """Open a door.

    The reward is `2 (ready & grip) + 8 opened`, and 10 if the handle is within 0.08 m of the target along x, which is
    success.

    - grip: the gripper action, scaled to 0 (opening) to 1 (closing).
    - ready: `above & beside`. `above` is 1 for a hand above a funnel around the handle, of height
      `0.04 ln(r - 0.12) + 0.4` at radius r and 0 within 0.12 m. `beside` is 1 within 0.06 m of a point at the handle.
    - opened: 0.2 for a door angle above 2 degrees, plus 0.8 times a tolerance around 120 degrees.
    """

    name = "door-open-v3"
    sensors: ClassVar[Mapping[str, Sensor]] = {**Door.sensors, "hinge": joint("doorjoint")}
    constants = ("_target_pos",)

    @staticmethod
    def judge(scene: Scene) -> Verdict:
        """Position of the hand beside the handle, and angle of the door."""
        hand, handle = scene.observation[:, :3], scene.objects[:, :3]
        aim = handle + np.array([-0.05, 0.0, 0.0])
        beyond = distance(hand[:, :2], aim[:, :2]) - 0.12
        funnel = np.where(beyond > 0.0, 0.04 * np.log(np.where(beyond > 0.0, beyond, 1.0)) + 0.4, 0.0)
        below = np.maximum(funnel - hand[:, 2], 0.0)
        above = near(below, 0.01, np.maximum(funnel, 0.0) / 2.0)
        beside = near(norm(hand - aim - np.array([0.05, 0.03, -0.01])), 0.06, 0.5)
        ready = hamacher(above, beside)
        angle = -scene.sensed["hinge"][:, 0]
        wide = tolerance(np.pi * 2.0 / 3.0 - angle, (0.0, 0.5), np.pi / 3.0, "long_tail")
        opened = 0.2 * (angle > np.pi / 90.0) + 0.8 * wide
        grip = (np.clip(scene.actions[:, 3], -1.0, 1.0) + 1.0) / 2.0
        success = np.abs(handle[:, 0] - scene.goal["_target_pos"][:, 0]) <= DOOR_DONE
        return Verdict(
            reward=np.where(success, 10.0, 2.0 * hamacher(ready, grip) + 8.0 * opened),
            success=success,
            near_object=ready,
            grasp_success=grip >= 0.5,
            grasp_reward=grip,
            in_place_reward=opened,
            obj_to_target=np.zeros_like(ready),
        )


class Lock(Manipulation):
    """A task class with a lock as the only object."""

    @staticmethod
    def objects(sensed: Mapping[str, Floats]) -> Floats:
        """Position of the lock, orientation of the door."""
        return np.concatenate([sensed["lock"], sensed["door"]], axis=1)

    @staticmethod
    def pushed(left: Floats) -> Floats:
        """Long-tailed tolerance of the lock's remaining travel (m): 1 within 0.005 m, margin 0.1 m, `[R]`."""
        return near(left, 0.005, LOCK_LENGTH)

    @staticmethod
    def verdict(scene: Scene, reward: Floats, reach: Floats, close: Floats, left: Floats) -> Verdict:
        """The verdict of both classes.

        Args:
            scene: The scene.
            reward: Reward, `[R]`.
            reach: Distance of the gripper from the lock, `[R]` in m.
            close: Tolerance of that distance, 0 to 1, `[R]`.
            left: Remaining travel of the lock, `[R]` in m.
        """
        return Verdict(
            reward=reward,
            success=left <= LOCK_DONE,
            near_object=reach <= 0.05,
            grasp_success=scene.opening > 0.0,
            grasp_reward=close,
            in_place_reward=Lock.pushed(left),
            obj_to_target=left,
        )


class DoorLock(Lock):
    """Lock a door.

    The reward is `2 (opening & close) + 8 pushed`, with `opening` that of the gripper. `close` is 1 if the left pad is
    within 0.01 m of the lock (weighted 0.25, 1, 0.5 along the axes). Beyond, it decreases, but never below 0.1: its
    margin is the current distance, where Meta-World probably means the initial one. `pushed` is `Lock.pushed` of the
    vertical distance from the target. Success: that distance is at most 0.02 m.
    """

    name = "door-lock-v3"
    sensors: ClassVar[Mapping[str, Sensor]] = {"lock": site("lockStartLock"), "door": body_quaternion("door_link")}
    constants = ("_target_pos",)

    @staticmethod
    def judge(scene: Scene) -> Verdict:
        """Nearness of the left pad to the lock, and the lock's vertical travel."""
        lock = scene.objects[:, :3]
        reach = norm((lock - scene.sensed["left_pad"]) * LOCK_SCALE)
        close = near(reach, 0.01, reach)
        left = np.abs(scene.goal["_target_pos"][:, 2] - lock[:, 2])
        return Lock.verdict(scene, 2.0 * hamacher(scene.opening, close) + 8.0 * Lock.pushed(left), reach, close, left)


class DoorUnlock(Lock):
    """Unlock a door.

    The reward is `2 close + 8 pushed`. `close` is a long-tailed tolerance of the distance between the gripper's
    shoulder and the lock, weighted 0.25, 1, 0.5 along the axes (1 within 0.02 m, margin: the initial shoulder's
    distance from the lock's axis). `pushed` is `Lock.pushed` of the distance from the target along x. Success: that
    distance is at most 0.02 m.
    """

    name = "door-unlock-v3"
    sensors: ClassVar[Mapping[str, Sensor]] = {
        "lock": site("lockStartUnlock"),
        "door": body_quaternion("door_link"),
        "axis": body("lock_link"),
    }
    constants = ("_target_pos", "init_tcp")

    @staticmethod
    def judge(scene: Scene) -> Verdict:
        """Nearness of the gripper's shoulder to the lock, and the lock's travel along x."""
        lock, shoulder = scene.objects[:, :3], np.array([0.0, 0.055, 0.07])
        reach = norm((scene.observation[:, :3] + shoulder - lock) * LOCK_SCALE)
        margin = norm((scene.goal["init_tcp"] + shoulder - scene.sensed["axis"]) * LOCK_SCALE)
        close = near(reach, 0.02, margin)
        left = np.abs(scene.goal["_target_pos"][:, 0] - lock[:, 0])
        return Lock.verdict(scene, 2.0 * close + 8.0 * Lock.pushed(left), reach, close, left)


CLASSES: tuple[type[Manipulation], ...] = (DoorClose, DoorLock, DoorOpen, DoorUnlock)
