"""What the classes of tasks that bring one object to a target have in common."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping

import numpy as np

from metarl.envs.metaworld.scene import Manipulation, Scene, Verdict
from metarl.envs.metaworld.shaping import distance
from metarl.types import Floats

RADIUS = 0.05
"""Distance from the target, in m, within which the whole reward is given."""
SUCCESS = 0.07
"""Distance from the target, in m, that most of these classes accept as success."""
LIFT = 0.02  # m


class Moving(Manipulation, ABC):
    """One object, sensed as `object` (its position) and `matrix` (its orientation)."""

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
    """The verdict on moving the first object.

    Args:
        scene: The scene.
        reward: `[R]`.
        grasped: How well the object is grasped, 0 to 1, `[R]`.
        in_place: How near it is to its target, 0 to 1, `[R]`.
        offset: Its distance from the target, `[R]` in m.
        success: The offset that is accepted, m.
        lift: How far above its start an object has to be to count as grasped, m; None where that plays no part.
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
