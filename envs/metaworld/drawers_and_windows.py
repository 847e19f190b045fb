"""Sliding drawers and windows: `drawer-open-v3`, `drawer-close-v3`, `window-open-v3`, `window-close-v3`.

In the formulas, `&` is the Hamacher product.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np

from metarl.envs.metaworld.scene import Manipulation, Scene, Sensor, Verdict, body, body_quaternion, site
from metarl.envs.metaworld.shaping import distance, hamacher, near, norm, tolerance
from metarl.types import Floats

RADIUS = 0.05  # m, around the target
DRAWER_LENGTH = 0.2
"""Distance between the closed and the open position of a drawer, m."""
DRAWER_SCALE = np.array([3.0, 3.0, 1.0])
"""Weight of each axis in the hand's distance from a drawer's handle."""


class DrawerOpen(Manipulation):
    """Open a drawer.

    The reward is `5 (opened + close)`, both long-tailed tolerances. `opened` is that of the handle's distance from the
    target (1 within 0.02 m, margin 0.2 m). `close` is that of the hand's distance from the handle, weighted 3, 3, 1
    along the axes (1 within 0.01 m, margin: the tcp's initial distance). Success: the handle is within 0.03 m of the
    target.
    """

    name = "drawer-open-v3"
    sensors: ClassVar[Mapping[str, Sensor]] = {"drawer": body("drawer_link"), "turn": body_quaternion("drawer_link")}
    constants = ("_target_pos", "init_tcp")

    @staticmethod
    def objects(sensed: Mapping[str, Floats]) -> Floats:
        """Position of the handle, orientation of the drawer."""
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
    """Close a drawer.

    The reward is `10 ((close & closing) & shut)`, and 10 within 0.065 m of the target, which is success. `close` is a
    Gaussian tolerance of the tcp's distance from the handle (1 within 0.005 m). `closing` is the gripper action,
    clipped to 0 to 1. `shut` is a long-tailed tolerance of the handle's distance from the target (1 within 0.05 m).
    Both tolerances are 0.1 at the initial distance.
    """

    name = "drawer-close-v3"
    sensors: ClassVar[Mapping[str, Sensor]] = {"drawer": body("drawer_link")}
    constants = ("_target_pos", "init_tcp", "obj_init_pos")

    @staticmethod
    def objects(sensed: Mapping[str, Floats]) -> Floats:
        """Position of the handle; zeros for its orientation."""
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
    """A window to open or close.

    The reward is `10 (close & moved)`. `close` is a tolerance of the tcp's distance from the handle (1 within 0.02 m).
    `moved` is a long-tailed tolerance of the handle's distance from the target along x (1 within 0.05 m). Both are 0.1
    at the initial distance. Success: the distance along x is at most 0.05 m.
    """

    start: ClassVar[str]
    """Name of the goal constant with the initial position of the window, used along x."""
    falling: ClassVar[Literal["gaussian", "long_tail"]]
    """Shape of the tolerance `close`."""

    @staticmethod
    def objects(sensed: Mapping[str, Floats]) -> Floats:
        """Position of the handle; zeros for its orientation."""
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
    """Open a window, to the right. The term `close` of its base class is a long-tailed tolerance."""

    name = "window-open-v3"
    sensors: ClassVar[Mapping[str, Sensor]] = {"handle": site("handleOpenStart")}
    constants = ("_target_pos", "init_tcp", "window_handle_pos_init", "obj_init_pos")
    start = "obj_init_pos"
    falling = "long_tail"


class WindowClose(Window):
    """Close a window, to the left; `close` is Gaussian."""

    name = "window-close-v3"
    sensors: ClassVar[Mapping[str, Sensor]] = {"handle": site("handleCloseStart")}
    constants = ("_target_pos", "init_tcp", "window_handle_pos_init")
    start = "window_handle_pos_init"
    falling = "gaussian"


CLASSES: tuple[type[Manipulation], ...] = (DrawerClose, DrawerOpen, WindowClose, WindowOpen)
