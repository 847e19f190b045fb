"""Reaching a place with the hand: `reach-v3`, `reach-wall-v3`."""

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
    """The reward is 10 times a tolerance around the target that reaches as far as the hand's start."""

    name = "reach-v3"
    sensors: ClassVar[Mapping[str, Sensor]] = {"object": body("obj"), "matrix": geom_matrix("objGeom")}
    constants = ("_target_pos", "hand_init_pos")

    @staticmethod
    def objects(sensed: Mapping[str, Floats]) -> Floats:
        """The puck that plays no part."""
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
    """Rewarded as `Reach`, with a wall in between."""

    name = "reach-wall-v3"

    @staticmethod
    def judge(scene: Scene) -> Verdict:
        """Nearness of the tcp to the target."""
        verdict = Reach.judge(scene)
        nothing = np.zeros_like(verdict.reward)
        return replace(verdict, near_object=nothing, grasp_success=nothing, grasp_reward=nothing)


CLASSES: tuple[type[Manipulation], ...] = (Reach, ReachWall)
