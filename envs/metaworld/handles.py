"""Pressing and pulling handles: `handle-press-v3`, `handle-press-side-v3`, `handle-pull-v3`, `handle-pull-side-v3`.

In the formulas of rewards, `near(x; r, m)` is the long-tailed tolerance: 1 for x up to r, and 0.1 at x = r + m;
`a & b` is the Hamacher product; `x0` is x at the start.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from metarl.envs.metaworld.scene import Manipulation, Scene, Sensor, Verdict, site
from metarl.envs.metaworld.shaping import distance, gripper_caging, hamacher, near
from metarl.types import Bools, Floats


class HandlePress(Manipulation):
    """Pressing a handle down.

    The reward is 10 where d <= 0.02, else `10 (near(h; 0.02, |h0 - 0.02|) & near(d; 0.02, |d0 - 0.02|))`: d is the
    height of the handle above the target, or below it, h the distance of the tcp from the handle.
    """

    name = "handle-press-v3"
    sensors: ClassVar[Mapping[str, Sensor]] = {"handle": site("handleStart")}
    constants = ("_target_pos", "_handle_init_pos", "init_tcp")

    RADIUS = 0.02

    @staticmethod
    def objects(sensed: Mapping[str, Floats]) -> Floats:
        """The handle; without orientation."""
        return np.concatenate([sensed["handle"], np.zeros((len(sensed["handle"]), 4))], axis=1)

    @staticmethod
    def judge(scene: Scene) -> Verdict:
        """Reaching the handle, and nearness of its height to the target's."""
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
    """Pressing a handle down that stands at the robot's side: rewarded as `HandlePress`."""

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
    """Pulling a handle up.

    The reward is 10 where d < 0.05, else `grasp & place`, plus `1 + 5 place` while the open gripper is within 0.035 of
    the handle: `place = near(d; 0.05, d0)`, d the height of the handle above the target, or below it, and grasp the
    gripper's caging of the handle. For the bonus Meta-World also asks that the handle be lifted, but compares its y
    with the start's z, so that it always is.
    """

    name = "handle-pull-v3"
    sensors: ClassVar[Mapping[str, Sensor]] = {"handle": site("handleRight")}
    constants = ("_target_pos", "obj_init_pos", "init_tcp")

    @staticmethod
    def judge(scene: Scene) -> Verdict:
        """Holding the handle, and nearness of its height to the target's."""
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
    """Pulling a handle up that stands at the robot's side.

    Rewarded as `HandlePull`, where d is the distance of the handle from the target, and the bonus asks that the handle
    be lifted by 0.01. Success is d <= 0.08.
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
