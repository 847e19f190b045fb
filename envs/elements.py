"""Elements of a MuJoCo model: joints with one number, actuators of joints, position servos, geoms that may collide."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mujoco

from metarl.types import Bools

SCALAR_JOINTS = (int(mujoco.mjtJoint.mjJNT_SLIDE), int(mujoco.mjtJoint.mjJNT_HINGE))
"""Types of joints with one position and one velocity."""
ON_JOINTS = (int(mujoco.mjtTrn.mjTRN_JOINT), int(mujoco.mjtTrn.mjTRN_JOINTINPARENT))
"""Transmissions of actuators that drive a joint directly."""


def driven_joints(model: Any, actuators: Sequence[int] | None = None) -> list[int]:
    """Indices of the joints that actuators drive directly, each once; those of all actuators by default."""
    chosen = range(model.nu) if actuators is None else actuators
    return sorted({int(model.actuator_trnid[i, 0]) for i in chosen if int(model.actuator_trntype[i]) in ON_JOINTS})


def position_servos(model: Any) -> Bools:
    """Whether each actuator pulls to a position that its control sets: its force falls with its length, `[nu]`."""
    affine = model.actuator_biastype == mujoco.mjtBias.mjBIAS_AFFINE
    servos: Bools = affine & (model.actuator_biasprm[:, 1] < 0.0) & (model.actuator_gainprm[:, 0] > 0.0)
    return servos


def motors(model: Any) -> Bools:
    """Whether each actuator is a motor of a joint: its force is a factor on the control, `[nu]`."""
    on_joint = model.actuator_trntype == mujoco.mjtTrn.mjTRN_JOINT
    fixed = model.actuator_gaintype == mujoco.mjtGain.mjGAIN_FIXED
    plain = (model.actuator_biastype == mujoco.mjtBias.mjBIAS_NONE) & (
        model.actuator_dyntype == mujoco.mjtDyn.mjDYN_NONE
    )
    found: Bools = on_joint & fixed & plain
    return found


def may_collide(model: Any, geom: int) -> Bools:
    """Whether `contype` and `conaffinity` let each geom collide with a geom, `[ngeom]`; bodies are not considered."""
    mine = model.geom_contype & model.geom_conaffinity[geom]
    theirs = model.geom_conaffinity & model.geom_contype[geom]
    collide: Bools = (mine | theirs) != 0
    return collide
