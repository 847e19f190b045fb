"""Reaching a target with the hand: `reach-v3`, `reach-wall-v3`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

import numpy as np

from metarl.envs.metaworld.scene import Manipulation, Scene, Sensor, Verdict, body, geom_matrix
from metarl.envs.metaworld.shaping import distance, near
from metarl.types import Floats

RADIUS = 0.05  # m


class Reach(Manipulation):
    """Reach a target.

    The reward is `10 near(d)`: d is the distance of the tcp from the target, and `near` a long-tailed tolerance that is
    1 within 0.05 m and 0.1 at 0.05 m more than the hand's initial distance. Success: d <= 0.05 m.
    """

    name = "reach-v3"
    sensors: ClassVar[Mapping[str, Sensor]] = {"object": body("obj"), "matrix": geom_matrix("objGeom")}
    constants = ("_target_pos", "hand_init_pos")

    @staticmethod
    def objects(sensed: Mapping[str, Floats]) -> Floats:
        """The puck, which is irrelevant to the task."""
        return np.concatenate([sensed["object"], sensed["quaternion"]], axis=1)

    @staticmethod
    def judge(scene: Scene) -> Verdict:
        """Nearness of the tcp to the target."""
        target = scene.goal["_target_pos"]
        offset = distance(scene.tcp, target)
        close = near(offset, RADIUS, distance(scene.goal["hand_init_pos"], target))
        return Verdict(
            reward=10.0 * close,
            success=offset <= RADIUS,
            near_object=offset,
            grasp_success=np.ones_like(offset),
            grasp_reward=offset,
            in_place_reward=close,
            obj_to_target=offset,
        )


class ReachWall(Reach):
    """Reach a target behind a wall; reward and success as in `Reach`."""

    name = "reach-wall-v3"

    @staticmethod
    def judge(scene: Scene) -> Verdict:
        """Nearness of the tcp to the target."""
        verdict = Reach.judge(scene)
        nothing = np.zeros_like(verdict.reward)
        return replace(verdict, near_object=nothing, grasp_success=nothing, grasp_reward=nothing)


CLASSES: tuple[type[Manipulation], ...] = (Reach, ReachWall)
