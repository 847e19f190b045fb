"""Sliding a puck: `plate-slide-v3`, `plate-slide-side-v3`, `plate-slide-back-v3`, `plate-slide-back-side-v3`.

In the formulas, d is the distance of the puck from the target and h that of the tcp from the puck, in m; d0 and h0 are
their initial values. `near(x; r, m)` is the long-tailed tolerance: 1 for x up to r, 0.1 at x = r + m. `a & b` is the
Hamacher product. Success: d <= 0.07.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

import numpy as np

from metarl.envs.metaworld.scene import Manipulation, Scene, Sensor, Verdict, geom, geom_matrix
from metarl.envs.metaworld.shaping import distance, hamacher, near
from metarl.types import Floats

RADIUS = 0.05  # m


Away = Callable[[Floats, Floats, Floats], Floats]
"""Function of h and the tolerances of h and d; returns the reward for d >= 0.05, `[R]`."""


def _slide(scene: Scene, slack: float, away: Away) -> Verdict:
    """The verdict of all classes. Margins are the initial distances minus `slack` (m)."""
    puck, start, target = scene.objects[:, :3], scene.goal["obj_init_pos"], scene.goal["_target_pos"]
    offset, hand_offset = distance(puck, target), distance(scene.tcp, puck)
    in_place = near(offset, RADIUS, distance(start, target) - slack)
    reach = near(hand_offset, RADIUS, distance(scene.goal["init_tcp"], start) - slack)
    return Verdict(
        reward=np.where(offset < RADIUS, 10.0, away(hand_offset, reach, in_place)),
        success=offset <= 0.07,
        near_object=hand_offset <= 0.03,
        grasp_success=np.zeros_like(offset),
        grasp_reward=reach,
        in_place_reward=in_place,
        obj_to_target=offset,
    )


class PlateSlide(Manipulation):
    """Slide a puck forwards.

    The reward is 10 if `d < 0.05`, else `8 (near(h; 0.05, h0) & near(d; 0.05, d0))`.
    """

    name = "plate-slide-v3"
    sensors: ClassVar[Mapping[str, Sensor]] = {"puck": geom("puck"), "matrix": geom_matrix("puck")}
    constants = ("_target_pos", "obj_init_pos", "init_tcp")

    @staticmethod
    def objects(sensed: Mapping[str, Floats]) -> Floats:
        """The puck."""
        return np.concatenate([sensed["puck"], sensed["quaternion"]], axis=1)

    @staticmethod
    def judge(scene: Scene) -> Verdict:
        """Nearness of the tcp to the puck, and of the puck to the target."""
        return _slide(scene, 0.0, lambda _, reach, in_place: 8.0 * hamacher(reach, in_place))


class PlateSlideSide(PlateSlide):
    """Slide a puck sideways.

    The reward is 10 if `d < 0.05`; else `2 + 7 near(d; 0.05, d0 - 0.05)` if the tcp is at most 0.03 m above the table
    and `h < 0.07`; else `1.5 near(h; 0.05, h0 - 0.05)`.
    """

    name = "plate-slide-side-v3"

    @staticmethod
    def judge(scene: Scene) -> Verdict:
        """Nearness of the tcp to the puck at the table, then of the puck to the target."""

        def away(hand_offset: Floats, reach: Floats, in_place: Floats) -> Floats:
            sliding = (scene.tcp[:, 2] <= 0.03) & (hand_offset < 0.07)
            return np.where(sliding, 2.0 + 7.0 * in_place, 1.5 * reach)

        return _slide(scene, RADIUS, away)


class PlateSlideBack(PlateSlideSide):
    """Slide a puck back towards the robot; reward as in `PlateSlideSide`."""

    name = "plate-slide-back-v3"


class PlateSlideBackSide(PlateSlideSide):
    """Slide a puck sideways out of the goal; reward as in `PlateSlideSide`."""

    name = "plate-slide-back-side-v3"


CLASSES: tuple[type[Manipulation], ...] = (PlateSlide, PlateSlideSide, PlateSlideBack, PlateSlideBackSide)
