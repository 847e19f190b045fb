"""Sweeping an object to a target: `sweep-v3`, `sweep-into-v3`, `soccer-v3`.

In the formulas, `d` is the object's distance from the target, `near` a long-tailed tolerance, and `grasp` the pinching
reward of the gripper and the object (0 to 1).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from metarl.envs.metaworld.moving import RADIUS, Moving, moved
from metarl.envs.metaworld.scene import (
    Manipulation,
    Scene,
    Sensor,
    Verdict,
    body,
    body_matrix,
    body_quaternion,
    geom_matrix,
)
from metarl.envs.metaworld.shaping import distance, hamacher, near, norm, pinching
from metarl.types import Floats

BALL_SCALE = np.array([3.0, 1.0, 1.0])
"""Weight of each axis in the ball's distance from the target."""
BALL_RADIUS = 0.07
"""Weighted distance of a ball from the target, in m, below which the reward is 10."""
GOAL_DEPTH, GOAL_HALF_WIDTH = 0.1, 0.1  # m


def _swept(scene: Scene, target: Floats, slack: float, xz_threshold: float) -> Verdict:
    """The verdict of `Sweep` for a target `[R, 3]` in m; `slack` and `xz_threshold` (m) as in `pinching`."""
    block = scene.objects[:, :3]
    offset = distance(block, target)
    in_place = near(offset, RADIUS, distance(scene.goal["obj_init_pos"], target))
    grasped = pinching(scene, block, radius=0.02, slack=slack, xz_threshold=xz_threshold)
    reward = np.where(offset < RADIUS, 10.0, 2.0 * grasped + 6.0 * hamacher(grasped, in_place))
    return moved(scene, reward=reward, grasped=grasped, in_place=in_place, offset=offset, success=RADIUS, lift=None)


class Sweep(Moving):
    """Sweep a block off the table.

    The reward is 10 if `d < 0.05` m, else `2 grasp + 6 (grasp & near(d))`, with `&` the Hamacher product. `near(d)` is
    1 within 0.05 m and about 0.1 at the initial distance. Success: d <= 0.05 m.
    """

    name = "sweep-v3"
    sensors: ClassVar[Mapping[str, Sensor]] = {"object": body("obj"), "quaternion": body_quaternion("obj")}

    @staticmethod
    def objects(sensed: Mapping[str, Floats]) -> Floats:
        """The block; its quaternion is MuJoCo's, w first."""
        return np.concatenate([sensed["object"], sensed["quaternion"]], axis=1)

    @staticmethod
    def judge(scene: Scene) -> Verdict:
        """Grasp of the block, and its nearness to the target."""
        return _swept(scene, scene.goal["_target_pos"], slack=0.01, xz_threshold=0.005)


class SweepInto(Moving):
    """Sweep a block into a hole; reward and success as in `Sweep`, but d is the horizontal distance."""

    name = "sweep-into-v3"
    sensors: ClassVar[Mapping[str, Sensor]] = {"object": body("obj"), "matrix": geom_matrix("objGeom")}

    @staticmethod
    def judge(scene: Scene) -> Verdict:
        """Grasp of the block, and its horizontal nearness to the hole."""
        above = np.concatenate([scene.goal["_target_pos"][:, :2], scene.objects[:, 2:3]], axis=1)
        return _swept(scene, above, slack=0.005, xz_threshold=0.01)


class Soccer(Moving):
    """Push a ball into a goal.

    The reward is 10 if `e < 0.07` m, else `3 grasp + 6.5 near(e)`. Here e is the ball's distance from the target, and s
    its distance from its initial position, both weighted 3, 1, 1 along the axes. `near(e)` is 1 within 0.07 m and 0.1
    at 0.07 m + s, so its margin grows as the ball moves. A ball that misses the goal (more than 0.1 m from the target
    along x, and beyond the line y0 at 0.1 m in front of it along y) lowers `near(e)` by `2 (y - y0) / (1 - y0)`; the
    result is clipped to [0, 1]. Success: d <= 0.07 m.
    """

    name = "soccer-v3"
    sensors: ClassVar[Mapping[str, Sensor]] = {"object": body("soccer_ball"), "matrix": body_matrix("soccer_ball")}

    @staticmethod
    def judge(scene: Scene) -> Verdict:
        """Grasp of the ball, and its nearness to the target minus the penalty for missing the goal."""
        ball, start, target = scene.objects[:, :3], scene.goal["obj_init_pos"], scene.goal["_target_pos"]
        error = norm((ball - target) * BALL_SCALE)
        in_place = near(error, BALL_RADIUS, norm((ball - start) * BALL_SCALE))
        line = target[:, 1] - GOAL_DEPTH
        missed = (ball[:, 1] > line) & (np.abs(ball[:, 0] - target[:, 0]) > GOAL_HALF_WIDTH)
        penalty = 2.0 * (ball[:, 1] - line) / (1.0 - line)
        in_place = np.where(missed, np.clip(in_place - penalty, 0.0, 1.0), in_place)
        grasped = pinching(scene, ball, radius=0.013, slack=0.01, xz_threshold=0.005)
        reward = np.where(error < BALL_RADIUS, 10.0, 3.0 * grasped + 6.5 * in_place)
        return moved(scene, reward=reward, grasped=grasped, in_place=in_place, offset=distance(ball, target))


CLASSES: tuple[type[Manipulation], ...] = (Sweep, SweepInto, Soccer)
