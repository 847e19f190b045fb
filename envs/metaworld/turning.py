"""Turning an object on a hinge: `dial-turn-v3`, `faucet-close-v3`, `faucet-open-v3`, `lever-pull-v3`.

In the formulas, `near(x; r, m)` is the long-tailed tolerance: 1 for x up to r, 0.1 at x = r + m. `steep(x; r, m)` is
the Gaussian one. `a & b` is the Hamacher product, and `x0` the initial value of x. Distances are in m.
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
    geom_matrix,
    joint,
    site,
)
from metarl.envs.metaworld.shaping import distance, hamacher, near, norm, tolerance
from metarl.types import Floats


class DialTurn(Manipulation):
    """Turn a dial by a quarter turn.

    The reward is `10 (grip & near(d; 0.07, |p0 - 0.07|))` with `grip = steep(h; 0.005, |h0 - 0.005|) & closing`. Here d
    is the distance of the dial's mark from the target, h that of the tcp from a pushing point beside the mark, p0 the
    pushing point's initial distance from the target, and closing the gripper action, clipped to 0 to 1. Success:
    d <= 0.07.
    """

    name = "dial-turn-v3"
    sensors: ClassVar[Mapping[str, Sensor]] = {
        "dial": body("dial"),
        "dial_quaternion": body_quaternion("dial"),
        "dial_angle": joint("knob_Joint_1"),
    }
    constants = ("_target_pos", "dial_push_position", "init_tcp")

    RADIUS = 0.07
    REACH_RADIUS = 0.005
    MARK_RADIUS = 0.05
    PUSH_OFFSET = np.array([0.05, 0.02, 0.09])

    @staticmethod
    def objects(sensed: Mapping[str, Floats]) -> Floats:
        """Position of the mark on the dial's rim, orientation of the dial."""
        angle = sensed["dial_angle"][:, 0]
        mark = DialTurn.MARK_RADIUS * np.stack([np.sin(angle), -np.cos(angle), np.zeros_like(angle)], axis=1)
        return np.concatenate([sensed["dial"] + mark, sensed["dial_quaternion"]], axis=1)

    @staticmethod
    def judge(scene: Scene) -> Verdict:
        """Nearness of a closing gripper to the pushing point, and of the mark to the target."""
        mark, target, start = scene.objects[:, :3], scene.goal["_target_pos"], scene.goal["dial_push_position"]
        offset = distance(mark, target)
        margin = np.abs(distance(start, target) - DialTurn.RADIUS)
        in_place = near(offset, DialTurn.RADIUS, margin)
        hand_offset = distance(mark + DialTurn.PUSH_OFFSET, scene.tcp)
        hand_margin = np.abs(distance(start, scene.goal["init_tcp"]) - DialTurn.REACH_RADIUS)
        reach = tolerance(hand_offset, (0.0, DialTurn.REACH_RADIUS), hand_margin, "gaussian")
        grip = hamacher(reach, np.clip(scene.actions[:, 3], 0.0, 1.0))
        return Verdict(
            reward=10.0 * hamacher(grip, in_place),
            success=offset <= DialTurn.RADIUS,
            near_object=hand_offset <= 0.01,
            grasp_success=np.ones_like(offset),
            grasp_reward=grip,
            in_place_reward=in_place,
            obj_to_target=offset,
        )


def _turn_faucet(scene: Scene, handle: Floats) -> Verdict:
    radius, reach_radius = 0.07, 0.01
    base, target = scene.goal["obj_init_pos"], scene.goal["_target_pos"]
    offset = distance(handle, target)
    in_place = near(offset, radius, np.abs(distance(base, target) - radius))
    hand_offset = distance(handle, scene.tcp)
    hand_margin = np.abs(distance(base, scene.goal["init_tcp"]) - reach_radius)
    reach = tolerance(hand_offset, (0.0, reach_radius), hand_margin, "gaussian")
    turned = offset <= radius
    return Verdict(
        reward=np.where(turned, 10.0, 4.0 * reach + 6.0 * in_place),
        success=turned,
        near_object=hand_offset <= 0.01,
        grasp_success=np.ones_like(offset),
        grasp_reward=reach,
        in_place_reward=in_place,
        obj_to_target=offset,
    )


class FaucetClose(Manipulation):
    """Turn a faucet's handle to the left.

    The reward is 10 if `d <= 0.07`, which is success, else
    `4 steep(h; 0.01, |h0 - 0.01|) + 6 near(d; 0.07, |d0 - 0.07|)`. Here d is the distance of the handle from the
    target, and h that of the tcp from the handle; d0 and h0 are the initial distances of the faucet's base instead.
    """

    name = "faucet-close-v3"
    sensors: ClassVar[Mapping[str, Sensor]] = {
        "handle": site("handleStartClose"),
        "base_quaternion": body_quaternion("faucetBase"),
    }
    constants = ("_target_pos", "obj_init_pos", "init_tcp")

    @staticmethod
    def objects(sensed: Mapping[str, Floats]) -> Floats:
        """A position 0.01 m below the handle, orientation of the base."""
        return np.concatenate([sensed["handle"] + np.array([0.0, 0.0, -0.01]), sensed["base_quaternion"]], axis=1)

    @staticmethod
    def judge(scene: Scene) -> Verdict:
        """Nearness of the tcp to the handle, and of the handle to the target."""
        return _turn_faucet(scene, scene.objects[:, :3])


class FaucetOpen(FaucetClose):
    """Turn a faucet's handle to the right; reward as in `FaucetClose`, with a shifted position of the handle."""

    name = "faucet-open-v3"
    sensors: ClassVar[Mapping[str, Sensor]] = {**FaucetClose.sensors, "handle": site("handleStartOpen")}

    @staticmethod
    def judge(scene: Scene) -> Verdict:
        """Nearness of the tcp to the handle, and of the handle to the target."""
        return _turn_faucet(scene, scene.objects[:, :3] + np.array([-0.04, 0.0, 0.03]))


class LeverPull(Manipulation):
    """Lift a lever with the gripper's shoulder until it points straight up.

    The reward is `10 (near(s; 0.02, s0) & near(d; 0.04, d0))`. Here s is the distance of the shoulder from the lever's
    tip, weighted 4, 1, 4 along the axes, and d the distance of the tip from the target. The shoulder is the hand
    shifted by (0, 0.055, 0.07) m; in s0 it is the tcp shifted by the same. Success: the lever's angle is within pi/24
    of pi/2.
    """

    name = "lever-pull-v3"
    sensors: ClassVar[Mapping[str, Sensor]] = {
        "lever": site("leverStart"),
        "matrix": geom_matrix("objGeom"),
        "angle": joint("LeverAxis"),
    }
    constants = ("_target_pos", "_lever_pos_init", "init_tcp")

    SHOULDER = np.array([0.0, 0.055, 0.07])
    SCALE = np.array([4.0, 1.0, 4.0])

    @staticmethod
    def objects(sensed: Mapping[str, Floats]) -> Floats:
        """Position of the lever's tip, orientation of the lever."""
        return np.concatenate([sensed["lever"], sensed["quaternion"]], axis=1)

    @staticmethod
    def judge(scene: Scene) -> Verdict:
        """Nearness of the shoulder to the lever's tip, and of the tip to the target."""
        lever, start, target = scene.objects[:, :3], scene.goal["_lever_pos_init"], scene.goal["_target_pos"]
        below = norm((scene.observation[:, :3] + LeverPull.SHOULDER - lever) * LeverPull.SCALE)
        below_start = norm((scene.goal["init_tcp"] + LeverPull.SHOULDER - start) * LeverPull.SCALE)
        ready = near(below, 0.02, below_start)
        error = np.abs(-scene.sensed["angle"][:, 0] - np.pi / 2.0)
        in_place = near(distance(lever, target), 0.04, distance(start, target))
        return Verdict(
            reward=10.0 * hamacher(ready, in_place),
            success=error <= np.pi / 24.0,
            near_object=below < 0.03,
            grasp_success=ready > 0.9,
            grasp_reward=ready,
            in_place_reward=near(error, np.pi / 48.0, np.pi / 2.0 - np.pi / 12.0),
            obj_to_target=below,
        )


CLASSES: tuple[type[Manipulation], ...] = (DialTurn, FaucetClose, FaucetOpen, LeverPull)
