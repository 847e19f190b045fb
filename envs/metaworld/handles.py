"""Pressing and pulling handles: `handle-press-v3`, `handle-press-side-v3`, `handle-pull-v3`, `handle-pull-side-v3`.

In the formulas, `near(x; r, m)` is the long-tailed tolerance: 1 for x up to r, 0.1 at x = r + m. `a & b` is the
Hamacher product, and `x0` the initial value of x. Distances are in m.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from metarl.envs.metaworld.scene import Manipulation, Scene, Sensor, Verdict, site
from metarl.envs.metaworld.shaping import distance, gripper_caging, hamacher, near
from metarl.types import Bools, Floats


class HandlePress(Manipulation):
    """Press a handle down.

    The reward is 10 if `d <= 0.02`, which is success, else
    `10 (near(h; 0.02, |h0 - 0.02|) & near(d; 0.02, |d0 - 0.02|))`. Here d is the vertical distance of the handle from
    the target, and h the distance of the tcp from the handle.
    """

    name = "handle-press-v3"
    sensors: ClassVar[Mapping[str, Sensor]] = {"handle": site("handleStart")}
    constants = ("_target_pos", "_handle_init_pos", "init_tcp")

    RADIUS = 0.02

    @staticmethod
    def objects(sensed: Mapping[str, Floats]) -> Floats:
        """Position of the handle; zeros for its orientation."""
        return np.concatenate([sensed["handle"], np.zeros((len(sensed["handle"]), 4))], axis=1)

    @staticmethod
    def judge(scene: Scene) -> Verdict:
        """Nearness of the tcp to the handle, and of the handle's height to the target's."""
        handle, start, target = scene.objects[:, :3], scene.goal["_handle_init_pos"], scene.goal["_target_pos"]
        radius = HandlePress.RADIUS
        offset = np.abs(handle[:, 2] - target[:, 2])
        margin = np.abs(np.abs(start[:, 2] - target[:, 2]) - radius)
        in_place = near(offset, radius, margin)
        hand_offset = distance(handle, scene.tcp)
        hand_margin = np.abs(distance(start, scene.goal["init_tcp"]) - radius)
        reach = near(hand_offset, radius, hand_margin)
        pressed = offset <= radius
        return Verdict(
            reward=np.where(pressed, 10.0, 10.0 * hamacher(reach, in_place)),
            success=pressed,
            near_object=hand_offset <= 0.05,
            grasp_success=np.ones_like(offset),
            grasp_reward=reach,
            in_place_reward=in_place,
            obj_to_target=offset,
        )


class HandlePressSide(HandlePress):
    """Press down a handle at the robot's side; reward as in `HandlePress`."""

    name = "handle-press-side-v3"


def _pull(
    scene: Scene,
    offset: Floats,
    offset_at_start: Floats,
    lifted: Bools,
    *,
    success: float,
    radius: float,
    pad_threshold: float,
) -> Verdict:
    handle, start = scene.objects[:, :3], scene.goal["obj_init_pos"]
    target_radius = 0.05
    in_place = near(offset, target_radius, offset_at_start)
    grasp = gripper_caging(
        scene,
        handle,
        radius=radius,
        pad_threshold=pad_threshold,
        reach_radius=0.01,
        xz_threshold=0.01,
        density="high",
    )
    hand_offset = distance(handle, scene.tcp)
    is_open = scene.opening > 0.0
    bonus = np.where((hand_offset < 0.035) & is_open & lifted, 1.0 + 5.0 * in_place, 0.0)
    return Verdict(
        reward=np.where(offset < target_radius, 10.0, hamacher(grasp, in_place) + bonus),
        success=offset <= success,
        near_object=hand_offset <= 0.05,
        grasp_success=is_open & (handle[:, 2] - 0.03 > start[:, 2]),
        grasp_reward=grasp,
        in_place_reward=in_place,
        obj_to_target=offset,
    )


class HandlePull(HandlePress):
    """Pull a handle up.

    The reward is 10 if `d < 0.05`, else `grasp & place`, plus `1 + 5 place` while the tcp is within 0.035 m of the
    handle and the gripper is not fully closed. Here `place = near(d; 0.05, d0)`, d is the vertical distance of the
    handle from the target, and grasp the caging reward. Success: d <= 0.05.

    Meta-World's bonus also requires a lifted handle, but compares the handle's y with the initial z, so this condition
    always holds.
    """

    name = "handle-pull-v3"
    sensors: ClassVar[Mapping[str, Sensor]] = {"handle": site("handleRight")}
    constants = ("_target_pos", "obj_init_pos", "init_tcp")

    @staticmethod
    def judge(scene: Scene) -> Verdict:
        """Grasp of the handle, and nearness of its height to the target's."""
        handle, start, target = scene.objects[:, :3], scene.goal["obj_init_pos"], scene.goal["_target_pos"]
        return _pull(
            scene,
            np.abs(target[:, 2] - handle[:, 2]),
            np.abs(target[:, 2] - start[:, 2]),
            handle[:, 1] - 0.01 > start[:, 2],
            success=0.05,
            radius=0.022,
            pad_threshold=0.05,
        )


class HandlePullSide(HandlePull):
    """Pull up a handle at the robot's side.

    The reward is that of `HandlePull`, but d is the distance of the handle from the target, and the bonus requires a
    handle lifted by 0.01 m. Success: d <= 0.08.
    """

    name = "handle-pull-side-v3"
    sensors: ClassVar[Mapping[str, Sensor]] = {"handle": site("handleCenter")}

    @staticmethod
    def judge(scene: Scene) -> Verdict:
        """Holding the handle, and its nearness to the target."""
        handle, start, target = scene.objects[:, :3], scene.goal["obj_init_pos"], scene.goal["_target_pos"]
        return _pull(
            scene,
            distance(handle, target),
            distance(start, target),
            handle[:, 2] - 0.01 > start[:, 2],
            success=0.08,
            radius=0.032,
            pad_threshold=0.06,
        )


CLASSES: tuple[type[Manipulation], ...] = (HandlePress, HandlePressSide, HandlePull, HandlePullSide)
