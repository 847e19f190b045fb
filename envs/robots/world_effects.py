"""Variations of what surrounds a robot: `floor_friction`, `gravity_tilt`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np

from metarl.envs.elements import may_collide
from metarl.envs.robots.effects import Declared, Robot
from metarl.envs.robots.options import read_numbers
from metarl.envs.task_sets import Factor
from metarl.types import Bools, Floats

SLIDING_OF_PAIR = 2
"""Leading columns of `pair_friction`: sliding along two axes."""
LEAST_FRICTION = 1e-5
"""Least friction of a contact; MuJoCo raises smaller numbers to it."""


def touching(model: Any, floor: Sequence[int]) -> Bools:
    """Whether each geom may be in contact with a geom of the floor, without contact pairs, `[ngeom]`."""
    found = np.zeros(model.ngeom, dtype=np.bool_)
    weld = model.body_weldid[model.geom_bodyid]
    for geom in floor:
        found |= may_collide(model, geom) & (weld != weld[geom])
    found[list(floor)] = False
    return found


def pairs_with(model: Any, floor: Sequence[int]) -> np.ndarray:
    """Indices of the explicit contact pairs of one geom of the floor and one other geom."""
    one, two = np.isin(model.pair_geom1, floor), np.isin(model.pair_geom2, floor)
    return np.flatnonzero(one != two)


@dataclass(frozen=True)
class FloorFriction:
    """The sliding friction of all contacts with the ground, bound by `bind_floor_friction`."""

    factor: Factor
    floor: np.ndarray
    lowered: np.ndarray
    """Geoms at the floor's priority; the larger of two frictions counts."""
    lowered_own: np.ndarray
    deciding: np.ndarray
    """Geoms of higher priority than the floor, whose friction alone counts."""
    pairs: np.ndarray
    derived: bool = False

    def write(self, model: Any, values: Floats) -> None:
        """Writes the coefficient `values[0]`."""
        friction = float(values[0])
        model.geom_friction[self.lowered, 0] = np.minimum(self.lowered_own, friction)
        model.geom_friction[self.deciding, 0] = friction
        model.geom_friction[self.floor, 0] = friction
        model.pair_friction[self.pairs, :SLIDING_OF_PAIR] = friction


def bind_floor_friction(
    robot: Robot, factor: Factor, options: Mapping[str, str], declared: Sequence[Declared]
) -> FloorFriction:
    """`floor_friction` (coefficient): the sliding friction of every contact of the robot with the ground.

    Changes sliding friction wherever such a contact takes it from: `geom_friction` of the floor; of geoms with a higher
    priority than the floor (feet, mostly), whose friction alone counts; of geoms at the floor's priority that have
    more, down to the drawn number, since the larger of two counts; and `pair_friction` of explicit contact pairs, along
    both axes. Contacts of these geoms with other things than the floor change too. Torsional and rolling friction,
    priorities and dimensions of contacts stay. Nothing is derived from it.
    """
    model, floor = robot.model, list(robot.floor)
    if not floor:
        raise ValueError("floor_friction: got a robot without a floor, expected a geom of the ground, such as a plane")
    if model.opt.enableflags & mujoco.mjtEnableBit.mjENBL_OVERRIDE:
        raise ValueError(
            "floor_friction: got a model whose contacts all have the friction of <option o_friction>, expected "
            '<flag override="disable"/>'
        )
    near, pairs = touching(model, floor), pairs_with(model, floor)
    if not near.any() and not len(pairs):
        raise ValueError(
            "floor_friction: got a robot none of whose geoms can touch the floor (contype, conaffinity and contact "
            "pairs), expected at least one"
        )
    # A geom decides over the floor if some geom of the floor has a lower priority.
    priority, lowest = model.geom_priority, model.geom_priority[floor].min()
    deciding = np.flatnonzero(near & (priority > lowest))
    lowered = np.flatnonzero(near & np.isin(priority, priority[floor]))
    lowered = np.setdiff1d(lowered, deciding)
    own = model.geom_friction[lowered, 0].copy()
    return FloorFriction(factor, np.array(floor), lowered, own, deciding, pairs)


@dataclass(frozen=True)
class GravityTilt:
    """A rotation of gravity, bound by `bind_gravity_tilt`."""

    factor: Factor
    gravity: Floats
    axis: Floats
    derived: bool = False

    def write(self, model: Any, values: Floats) -> None:
        """Writes gravity turned by `values[0]` rad about the axis (Rodrigues' formula)."""
        angle, g, k = float(values[0]), self.gravity, self.axis
        model.opt.gravity[:] = (
            g * math.cos(angle) + np.cross(k, g) * math.sin(angle) + k * (k @ g) * (1.0 - math.cos(angle))
        )


def bind_gravity_tilt(
    robot: Robot, factor: Factor, options: Mapping[str, str], declared: Sequence[Declared]
) -> GravityTilt:
    """`gravity_tilt` (rad): gravity leans as on a floor that rises, by this angle, along a heading.

    Changes `opt.gravity`, at the same strength: `g (-sin t cos h, -sin t sin h, -cos t)` for tilt t and heading h.
    Nothing is derived from it. A negative tilt is a floor that falls.

    Options: `heading` (rad from the x axis; 0).
    """
    gravity = robot.model.opt.gravity.copy()
    if not gravity.any():
        raise ValueError("gravity_tilt: got a model without gravity, expected <option gravity> other than 0")
    heading = float(read_numbers("gravity_tilt", "heading", options["heading"], 1)[0]) if "heading" in options else 0.0
    return GravityTilt(factor, gravity, np.array([-math.sin(heading), math.cos(heading), 0.0]))
