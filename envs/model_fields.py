"""The fields of a MuJoCo model that may vary between tasks, and access to their numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np

from metarl.envs.inertia import SECOND_MOMENT, second_moments


@dataclass(frozen=True)
class Field:
    """A field of `MjModel` that may vary.

    Args:
        elements: Kind of its rows: `body`, `geom`, `pair` (contact pairs), `joint`, `dof`, `actuator`, `axis`, or
            `model` for a single number.
        derived: Whether MuJoCo derives other constants of the model from it.
        low: Lower bound of valid values.
        above: Whether `low` itself is invalid.
    """

    elements: str
    derived: bool = False
    low: float = 0.0
    above: bool = False


FIELDS: Mapping[str, Field] = {
    "body_mass": Field("body", derived=True, above=True),
    "body_inertia": Field("body", derived=True, above=True),
    SECOND_MOMENT: Field("body", derived=True, above=True),
    "geom_friction": Field("geom"),
    "pair_friction": Field("pair"),
    "jnt_stiffness": Field("joint"),
    "dof_damping": Field("dof"),
    "dof_armature": Field("dof", derived=True),
    "dof_frictionloss": Field("dof"),
    "actuator_gear": Field("actuator", derived=True, low=-math.inf),
    "actuator_gainprm": Field("actuator", low=-math.inf),
    "actuator_biasprm": Field("actuator", low=-math.inf),
    "actuator_forcerange": Field("actuator", low=-math.inf),
    "gravity": Field("axis", low=-math.inf),
    "wind": Field("axis", low=-math.inf),
    "density": Field("model"),
    "viscosity": Field("model"),
}
"""The fields that a `Change` may name. Wind acts only in a medium, so it requires `density` or `viscosity`."""

MEDIUM = ("density", "viscosity")
"""Fields of the medium; wind has no effect if both are 0."""


def read_field(model: Any, field: str) -> np.ndarray:
    """A copy of a field's numbers, `[elements]` or `[elements, columns]`."""
    return second_moments(model.body_inertia) if field == SECOND_MOMENT else np.array(field_numbers(model, field))


def field_numbers(model: Any, field: str) -> Any:
    """A view into the model of a field's numbers; for fields of the kind `model`, a float."""
    return getattr(model.opt if FIELDS[field].elements in ("axis", "model") else model, field)


def element_names(model: Any, kind: str, count: int) -> list[str]:
    """Names of the `count` elements of a kind; empty for an element without a name.

    A degree of freedom has the name of its joint, and so has an unnamed actuator that drives a joint.
    """
    if kind == "axis":
        return ["x", "y", "z"]
    if kind == "model":
        return [""]
    if kind == "dof":
        return [model.joint(model.dof_jntid[i]).name for i in range(count)]
    names = [getattr(model, kind)(i).name for i in range(count)]
    if kind == "actuator":
        drives_joint = model.actuator_trntype == mujoco.mjtTrn.mjTRN_JOINT
        joints = model.actuator_trnid[:, 0]
        names = [n or (model.joint(joints[i]).name if drives_joint[i] else "") for i, n in enumerate(names)]
    return names
