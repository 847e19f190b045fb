"""Shared parts of the task classes that move one object to a target."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping

import numpy as np

from metarl.envs.metaworld.scene import Manipulation, Scene, Verdict
from metarl.envs.metaworld.shaping import distance
from metarl.types import Floats

RADIUS = 0.05
"""Distance from the target, in m, below which the reward is 10."""
SUCCESS = 0.07
"""Distance from the target, in m, up to which most of these classes report success."""
LIFT = 0.02
"""Height above its initial position, in m, from which an object counts as lifted."""


class Moving(Manipulation, ABC):
    """A task class with one object, whose sensors are `object` (position) and `matrix` (orientation)."""

    constants = ("_target_pos", "obj_init_pos", "init_tcp")
    main_object = "objGeom"

    @staticmethod
    def objects(sensed: Mapping[str, Floats]) -> Floats:
        """The object."""
        return np.concatenate([sensed["object"], sensed["quaternion"]], axis=1)


def moved(
    scene: Scene,
    *,
    reward: Floats,
    grasped: Floats,
    in_place: Floats,
    offset: Floats,
    success: float = SUCCESS,
    lift: float | None = LIFT,
) -> Verdict:
    """The verdict on moving an object.

    Args:
        scene: The scene.
        reward: Reward, `[R]`.
        grasped: Quality of the grasp, 0 to 1, `[R]`.
        in_place: Nearness of the object to its target, 0 to 1, `[R]`.
        offset: Distance of the object from its target, `[R]` in m.
        success: Largest distance from the target that is a success, m.
        lift: Height above its initial position from which an object counts as grasped, m; None for no such condition.
    """
    position = scene.objects[:, :3]
    held = scene.touching & (scene.opening > 0.0)
    if lift is not None:
        held &= position[:, 2] - lift > scene.goal["obj_init_pos"][:, 2]
    return Verdict(
        reward=reward,
        success=offset <= success,
        near_object=distance(position, scene.tcp) <= 0.03,
        grasp_success=held,
        grasp_reward=grasped,
        in_place_reward=in_place,
        obj_to_target=offset,
    )
