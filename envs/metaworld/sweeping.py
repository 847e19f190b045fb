"""Sweeping an object off its place: `sweep-v3`, `sweep-into-v3`, `soccer-v3`.

In the formulas `d` is the object's distance from the target, `near(d)` its nearness (1 within a radius), and `grasp`
how well the gripper encloses and pinches the object (0 to 1).
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
"""How much a ball's error along each axis counts."""
BALL_RADIUS = 0.07
"""Distance of a ball from the target, in m, within which the whole reward is given."""
GOAL_DEPTH, GOAL_HALF_WIDTH = 0.1, 0.1  # m


def _swept(scene: Scene, target: Floats, slack: float, xz_threshold: float) -> Verdict:
    """The verdict of `Sweep`, for a target `[R, 3]`; the last two as in `pinching`, m."""
    block = scene.objects[:, :3]
    offset = distance(block, target)
    in_place = near(offset, RADIUS, distance(scene.goal["obj_init_pos"], target))
    grasped = pinching(scene, block, radius=0.02, slack=slack, xz_threshold=xz_threshold)
    reward = np.where(offset < RADIUS, 10.0, 2.0 * grasped + 6.0 * hamacher(grasped, in_place))
    return moved(scene, reward=reward, grasped=grasped, in_place=in_place, offset=offset, success=RADIUS, lift=None)


class Sweep(Moving):
    """A block off the table.

    The reward is 10 where d < 5 cm, else 2 grasp + 6 times the Hamacher product of grasp and near(d), which is 1
    within 5 cm and about 0.1 at the start. Success: d <= 5 cm.
    """

    name = "sweep-v3"
    sensors: ClassVar[Mapping[str, Sensor]] = {"object": body("obj"), "quaternion": body_quaternion("obj")}

    @staticmethod
    def objects(sensed: Mapping[str, Floats]) -> Floats:
        """The block; its quaternion is MuJoCo's, w first."""
        return np.concatenate([sensed["object"], sensed["quaternion"]], axis=1)

    @staticmethod
    def judge(scene: Scene) -> Verdict:
        """Nearness of the block to the target, in the gripper."""
        return _swept(scene, scene.goal["_target_pos"], slack=0.01, xz_threshold=0.005)


class SweepInto(Moving):
    """A block into a hole: rewarded like `Sweep`, except that height does not count in d."""

    name = "sweep-into-v3"
    sensors: ClassVar[Mapping[str, Sensor]] = {"object": body("obj"), "matrix": geom_matrix("objGeom")}

    @staticmethod
    def judge(scene: Scene) -> Verdict:
        """Nearness of the block to the place above the hole, in the gripper."""
        above = np.concatenate([scene.goal["_target_pos"][:, :2], scene.objects[:, 2:3]], axis=1)
        return _swept(scene, above, slack=0.005, xz_threshold=0.01)


class Soccer(Moving):
    """A ball into a goal.

    With e the ball's distance from the target and s that from its start, errors along x counting three times, the
    reward is 10 where e < 7 cm, else 3 grasp + 6.5 near(e). The nearness is 1 within 7 cm and 0.1 at s beyond that, so
    it widens as the ball moves. Where the ball is beside the goal (more than 10 cm from the target along x, less than
    10 cm before it along y), twice the fraction of the way from there to y = 1 m is taken off the nearness, which
    stays in [0, 1]. Success: d <= 7 cm.
    """

    name = "soccer-v3"
    sensors: ClassVar[Mapping[str, Sensor]] = {"object": body("soccer_ball"), "matrix": body_matrix("soccer_ball")}

    @staticmethod
    def judge(scene: Scene) -> Verdict:
        """Nearness of the ball to the target, less where it misses the goal."""
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
