"""What slides: `drawer-open-v3`, `drawer-close-v3`, `window-open-v3`, `window-close-v3`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np

from metarl.envs.metaworld.scene import Manipulation, Scene, Sensor, Verdict, body, body_quaternion, site
from metarl.envs.metaworld.shaping import distance, hamacher, near, norm, tolerance
from metarl.types import Floats

RADIUS = 0.05  # m, around the target
DRAWER_LENGTH = 0.2  # m that it opens
DRAWER_SCALE = np.array([3.0, 3.0, 1.0])
"""How much each axis counts in the distance from a drawer's handle."""


class DrawerOpen(Manipulation):
    """The reward is 5 (opened + close), long-tailed tolerances.

    `opened` is that of the handle's distance from the target, within 0.02 m, with a margin of 0.2 m; `close` that of
    the hand's distance from the handle, x and y counted threefold, within 0.01 m, with the hand's start at the margin.
    """

    name = "drawer-open-v3"
    sensors: ClassVar[Mapping[str, Sensor]] = {"drawer": body("drawer_link"), "turn": body_quaternion("drawer_link")}
    constants = ("_target_pos", "init_tcp")

    @staticmethod
    def objects(sensed: Mapping[str, Floats]) -> Floats:
        """The handle, with the drawer's orientation."""
        return np.concatenate([sensed["drawer"] + np.array([0.0, -0.16, 0.0]), sensed["turn"]], axis=1)

    @staticmethod
    def judge(scene: Scene) -> Verdict:
        """Nearness of the hand to the handle, and of the handle to the target."""
        hand, handle, target = scene.observation[:, :3], scene.objects[:, :3], scene.goal["_target_pos"]
        left = distance(handle, target)
        opened = near(left, 0.02, DRAWER_LENGTH)
        start = target + np.array([0.0, DRAWER_LENGTH, 0.0])
        margin = norm((start - scene.goal["init_tcp"]) * DRAWER_SCALE)
        close = near(norm((handle - hand) * DRAWER_SCALE), 0.01, margin)
        return Verdict(
            reward=5.0 * (close + opened),
            success=left <= 0.03,
            near_object=distance(handle, hand) <= 0.03,
            grasp_success=scene.opening > 0.0,
            grasp_reward=close,
            in_place_reward=opened,
            obj_to_target=left,
        )


class DrawerClose(Manipulation):
    """The reward is 10 (close # closing) # shut, with `#` the Hamacher product; 10 within 0.065 m of the target.

    `close` is a Gaussian tolerance of the tcp's distance from the handle, within 0.005 m; `closing` is the gripper's
    action, 0 to 1; `shut` is a long-tailed tolerance of the handle's distance from the target, within 0.05 m. Both
    margins reach as far as the start.
    """

    name = "drawer-close-v3"
    sensors: ClassVar[Mapping[str, Sensor]] = {"drawer": body("drawer_link")}
    constants = ("_target_pos", "init_tcp", "obj_init_pos")

    @staticmethod
    def objects(sensed: Mapping[str, Floats]) -> Floats:
        """The handle, without orientation."""
        handle = sensed["drawer"] + np.array([0.0, -0.16, 0.05])
        return np.concatenate([handle, np.zeros((len(handle), 4))], axis=1)

    @staticmethod
    def judge(scene: Scene) -> Verdict:
        """Nearness of the tcp to the handle, with a closing gripper, and of the handle to the target."""
        handle, target, start = scene.objects[:, :3], scene.goal["_target_pos"], scene.goal["obj_init_pos"]
        left, reach = distance(handle, target), distance(handle, scene.tcp)
        shut = near(left, RADIUS, np.abs(distance(start, target) - RADIUS))
        close = tolerance(reach, (0.0, 0.005), np.abs(distance(start, scene.goal["init_tcp"]) - 0.005))
        grasp = hamacher(close, np.clip(scene.actions[:, 3], 0.0, 1.0))
        success = left <= RADIUS + 0.015
        return Verdict(
            reward=10.0 * np.where(success, 1.0, hamacher(grasp, shut)),
            success=success,
            near_object=reach <= 0.01,
            grasp_success=np.ones_like(left),
            grasp_reward=grasp,
            in_place_reward=shut,
            obj_to_target=left,
        )


class Window(Manipulation):
    """The reward is 10 close # moved, with `#` the Hamacher product.

    `close` is a tolerance of the tcp's distance from the handle, within 0.02 m; `moved` is a long-tailed one of the
    handle's distance from the target along x, within 0.05 m. Both margins reach as far as the start.
    """

    start: ClassVar[str]
    """Name of the goal's constant that tells the place along x where the way of the window begins."""
    falling: ClassVar[Literal["gaussian", "long_tail"]]
    """The shape of the tolerance `close`."""

    @staticmethod
    def objects(sensed: Mapping[str, Floats]) -> Floats:
        """The handle, without orientation."""
        return np.concatenate([sensed["handle"], np.zeros((len(sensed["handle"]), 4))], axis=1)

    @classmethod
    def judge(cls, scene: Scene) -> Verdict:
        """Nearness of the tcp to the handle, and of the handle to the target."""
        goal, handle = scene.goal, scene.objects[:, :3]
        left = np.abs(handle[:, 0] - goal["_target_pos"][:, 0])
        way = np.abs(goal[cls.start][:, 0] - goal["_target_pos"][:, 0])
        moved = near(left, RADIUS, np.abs(way - RADIUS))
        reach = distance(handle, scene.tcp)
        reach_margin = np.abs(distance(goal["window_handle_pos_init"], goal["init_tcp"]) - 0.02)
        close = tolerance(reach, (0.0, 0.02), reach_margin, cls.falling)
        return Verdict(
            reward=10.0 * hamacher(close, moved),
            success=left <= RADIUS,
            near_object=reach <= 0.05,
            grasp_success=np.ones_like(left),
            grasp_reward=close,
            in_place_reward=moved,
            obj_to_target=left,
        )


class WindowOpen(Window):
    """To the right; `close` is long-tailed."""

    name = "window-open-v3"
    sensors: ClassVar[Mapping[str, Sensor]] = {"handle": site("handleOpenStart")}
    constants = ("_target_pos", "init_tcp", "window_handle_pos_init", "obj_init_pos")
    start = "obj_init_pos"
    falling = "long_tail"


class WindowClose(Window):
    """To the left; `close` is Gaussian."""

    name = "window-close-v3"
    sensors: ClassVar[Mapping[str, Sensor]] = {"handle": site("handleCloseStart")}
    constants = ("_target_pos", "init_tcp", "window_handle_pos_init")
    start = "window_handle_pos_init"
    falling = "gaussian"


CLASSES: tuple[type[Manipulation], ...] = (DrawerClose, DrawerOpen, WindowClose, WindowOpen)
