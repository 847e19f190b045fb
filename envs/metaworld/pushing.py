"""Pushing a puck over the table: `push-v3`, `push-wall-v3`, `push-back-v3`.

In the formulas, `d` is the puck's distance from the target, and `near(d)` a long-tailed tolerance (1 within 0.05 m,
about 0.1 at the initial distance). `grasp` is the caging reward of the gripper and the puck (0 to 1). The puck is
"held" if the tcp is within 0.02 m of it and the gripper is not fully closed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from metarl.envs.metaworld.moving import RADIUS, Moving, moved
from metarl.envs.metaworld.scene import Manipulation, Scene, Sensor, Verdict, body, geom, geom_matrix
from metarl.envs.metaworld.shaping import distance, gripper_caging, hamacher, near, norm, pinching
from metarl.types import Bools, Floats

WALL = np.array([-0.05, 0.77])
"""Waypoint beside the wall, x and y in m."""
BEYOND_WALL = 0.75  # m, along y
WALL_SCALE = np.array([3.0, 1.0, 1.0])
"""Weight of each axis in the distance from the waypoint."""


def _grasp(scene: Scene) -> Floats:
    return gripper_caging(
        scene,
        scene.objects[:, :3],
        radius=0.015,
        pad_threshold=0.05,
        reach_radius=0.01,
        xz_threshold=0.005,
        density="high",
    )


def _held(scene: Scene) -> Bools:
    return (distance(scene.objects[:, :3], scene.tcp) < 0.02) & (scene.opening > 0.0)


class Push(Moving):
    """Push a puck away from the robot.

    The reward is 10 if `d < 0.05` m, else `4 grasp + 1 + 5 near(d)` if the puck is held, else `2 grasp`. Success:
    d <= 0.05 m.
    """

    name = "push-v3"
    sensors: ClassVar[Mapping[str, Sensor]] = {"object": body("obj"), "matrix": geom_matrix("objGeom")}

    @staticmethod
    def judge(scene: Scene) -> Verdict:
        """Grasp of the puck, and its nearness to the target."""
        target = scene.goal["_target_pos"]
        offset, grasped = distance(scene.objects[:, :3], target), _grasp(scene)
        in_place = near(offset, RADIUS, distance(scene.goal["obj_init_pos"], target))
        reward = np.where(_held(scene), 4.0 * grasped + 1.0 + 5.0 * in_place, 2.0 * grasped)
        reward = np.where(offset < RADIUS, 10.0, reward)
        return moved(scene, reward=reward, grasped=grasped, in_place=in_place, offset=offset, success=RADIUS)


class PushWall(Moving):
    """Push a puck around a wall.

    The reward is 10 if `d < 0.05` m, else `2 grasp`. While the puck is held, it is larger by `1 + 4 near(e)` before the
    wall and by `5 + 3 near(d)` beyond it. Here e is the distance from a waypoint beside the wall, weighted 3, 1, 1
    along the axes. Success: d <= 0.07 m.
    """

    name = "push-wall-v3"
    sensors: ClassVar[Mapping[str, Sensor]] = {"object": geom("objGeom"), "matrix": geom_matrix("objGeom")}

    @staticmethod
    def judge(scene: Scene) -> Verdict:
        """Grasp of the puck, and its nearness to the waypoint, then to the target."""
        puck, start, target = scene.objects[:, :3], scene.goal["obj_init_pos"], scene.goal["_target_pos"]
        passage = np.concatenate([np.broadcast_to(WALL, (len(puck), 2)), puck[:, 2:]], axis=1)
        offset, grasped = distance(puck, target), _grasp(scene)
        in_place = near(offset, RADIUS, distance(start, target))
        passing = near(norm((puck - passage) * WALL_SCALE), RADIUS, norm((start - passage) * WALL_SCALE))
        moving = np.where(puck[:, 1] > BEYOND_WALL, 5.0 + 3.0 * in_place, 1.0 + 4.0 * passing)
        reward = np.where(offset < RADIUS, 10.0, 2.0 * grasped + np.where(_held(scene), moving, 0.0))
        return moved(scene, reward=reward, grasped=grasped, in_place=in_place, offset=offset)


class PushBack(Moving):
    """Push a puck towards the robot.

    The reward is 10 if `d < 0.05` m, else the Hamacher product of `grasp` and `near(d)`. It is larger by
    `1 + 5 near(d)` if the tcp is within 0.01 m of the puck, the gripper's opening is between 0 and 0.55, and d is
    more than 0.01 m smaller than at the start. `grasp` is the pinching reward. Success: d <= 0.07 m.
    """

    name = "push-back-v3"
    sensors: ClassVar[Mapping[str, Sensor]] = {"object": geom("objGeom"), "matrix": geom_matrix("objGeom")}

    @staticmethod
    def judge(scene: Scene) -> Verdict:
        """Grasp of the puck, and its nearness to the target."""
        puck, target = scene.objects[:, :3], scene.goal["_target_pos"]
        offset, at_first = distance(puck, target), distance(scene.goal["obj_init_pos"], target)
        in_place = near(offset, RADIUS, at_first)
        grasped = pinching(scene, puck, radius=0.007, slack=0.003, xz_threshold=0.01)
        gripped = (distance(puck, scene.tcp) < 0.01) & (scene.opening > 0.0) & (scene.opening < 0.55)
        moving = np.where(gripped & (at_first - offset > 0.01), 1.0 + 5.0 * in_place, 0.0)
        reward = np.where(offset < RADIUS, 10.0, hamacher(grasped, in_place) + moving)
        return moved(scene, reward=reward, grasped=grasped, in_place=in_place, offset=offset)


CLASSES: tuple[type[Manipulation], ...] = (Push, PushWall, PushBack)
