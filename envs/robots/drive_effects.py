"""Variations of a robot's drives and joints: `motor_strength`, `joint_damping`, `joint_friction`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np

from metarl.envs.elements import driven_joints
from metarl.envs.robots.effects import Declared, Robot
from metarl.envs.robots.options import find_ids, names_of
from metarl.envs.task_sets import Factor
from metarl.types import Bools, Floats

LINEAR = 3
"""Gain and bias parameters of a linear actuator: constant, and factors of length and velocity."""
OPERATIONS = ("scale", "add", "set")


def is_motor(model: Any) -> Bools:
    """Whether each actuator is a motor, whose force is a constant times its control, `[nu]`.

    Actuators of the transmission `body` have no gear and do not count.
    """
    motor: Bools = (
        (model.actuator_gaintype == mujoco.mjtGain.mjGAIN_FIXED)
        & (model.actuator_biastype == mujoco.mjtBias.mjBIAS_NONE)
        & (model.actuator_trntype != mujoco.mjtTrn.mjTRN_BODY)
    )
    return motor


def is_linear(model: Any) -> Bools:
    """Whether each actuator's force is linear in control, length and velocity: motors, servos and dampers, `[nu]`."""
    linear: Bools = np.isin(model.actuator_gaintype, (mujoco.mjtGain.mjGAIN_FIXED, mujoco.mjtGain.mjGAIN_AFFINE))
    return linear & np.isin(model.actuator_biastype, (mujoco.mjtBias.mjBIAS_NONE, mujoco.mjtBias.mjBIAS_AFFINE))


@dataclass(frozen=True)
class Scaled:
    """Numbers of a model that are the robot's own, times one factor.

    Args:
        field: Name of the field.
        index: Indices into the field.
        own: The robot's own numbers there.
    """

    field: str
    index: Any
    own: np.ndarray

    @classmethod
    def of(cls, model: Any, field: str, index: Any) -> Scaled:
        """The numbers of a field at an index."""
        return cls(field, index, getattr(model, field)[index].copy())

    def write(self, model: Any, factor: float) -> None:
        """Writes the numbers into a copy of the model."""
        getattr(model, self.field)[self.index] = self.own * factor


@dataclass(frozen=True)
class MotorStrength:
    """A factor on the force of actuators, bound by `bind_motor_strength`."""

    factor: Factor
    parts: tuple[Scaled, ...]
    derived: bool = True

    def write(self, model: Any, values: Floats) -> None:
        """Writes the factor `values[0]`."""
        for part in self.parts:
            part.write(model, float(values[0]))


def bind_motor_strength(
    robot: Robot, factor: Factor, options: Mapping[str, str], declared: Sequence[Declared]
) -> MotorStrength:
    """`motor_strength` (factor): the force of the actuators, in any state of the robot, times one number.

    Motors: changes `actuator_gear`, and so the torque per control and the largest torque. Servos: changes gain and bias
    together (`actuator_gainprm`, `actuator_biasprm`), so that stiffness and damping of the servo change and the
    position at which it rests does not; and `actuator_forcerange` if its force is limited, since a weaker motor has a
    lower largest torque. Limits of the total actuator force on a joint (`jnt_actfrcrange`) are scaled for the same
    reason. MuJoCo derives the actuators' accelerations (`actuator_acc0`).

    Options: `actuators` (names or indices, joined by `+`; all).
    """
    model = robot.model
    if not model.nu:
        raise ValueError("motor_strength: got a robot without actuators, expected at least one")
    chosen = (
        find_ids(model, "actuator", options["actuators"], "motor_strength")
        if "actuators" in options
        else list(range(model.nu))
    )
    rows = np.array(chosen)
    names = names_of(model, "actuator")
    if other := [names[i] or f"actuator {i}" for i in chosen if not is_linear(model)[i]]:
        raise ValueError(
            f"motor_strength: got {', '.join(other)}, a muscle or an actuator with a function of its own, expected "
            "motors and servos; name those by the option actuators"
        )
    motors, others = rows[is_motor(model)[rows]], rows[~is_motor(model)[rows]]
    limited = others[model.actuator_forcelimited[others].astype(np.bool_)]
    joints = [j for j in driven_joints(model, chosen) if model.jnt_actfrclimited[j]]
    parts = [
        Scaled.of(model, "actuator_gear", motors),
        Scaled.of(model, "actuator_gainprm", np.ix_(others, range(LINEAR))),
        Scaled.of(model, "actuator_biasprm", np.ix_(others, range(LINEAR))),
        Scaled.of(model, "actuator_forcerange", limited),
        Scaled.of(model, "jnt_actfrcrange", np.array(joints, dtype=np.int64)),
    ]
    if not any(part.own.any() for part in parts[:2]):
        raise ValueError("motor_strength: got actuators with gain or gear 0, expected at least one that can move")
    return MotorStrength(factor, tuple(part for part in parts if part.own.size))


@dataclass(frozen=True)
class JointNumbers:
    """A number per degree of freedom, bound by `bind_joint_damping` or `bind_joint_friction`."""

    factor: Factor
    field: str
    dofs: np.ndarray
    own: np.ndarray
    operation: str
    derived: bool = False

    def write(self, model: Any, values: Floats) -> None:
        """Writes `values[0]`: scales the robot's own numbers, is added to them or replaces them."""
        value = float(values[0])
        changed = {"scale": self.own * value, "add": self.own + value, "set": np.full_like(self.own, value)}
        getattr(model, self.field)[self.dofs] = changed[self.operation]


def bind_joint_damping(
    robot: Robot, factor: Factor, options: Mapping[str, str], declared: Sequence[Declared]
) -> JointNumbers:
    """`joint_damping` (factor, or N m s/rad): the torque against a joint's motion that grows with its velocity.

    Changes `dof_damping` of all joints but free ones. Nothing is derived from it. The damping of a servo (`kv`) is the
    actuator's and stays.

    Options: `operation` (`scale` the robot's own numbers, `add` to them or `set` them; `scale`), `joints` (names or
    indices, joined by `+`; all but free ones).
    """
    return _bind_joints(robot, factor, options, "joint_damping", "dof_damping")


def bind_joint_friction(
    robot: Robot, factor: Factor, options: Mapping[str, str], declared: Sequence[Declared]
) -> JointNumbers:
    """`joint_friction` (factor, or N m): the dry friction of a joint, the torque that has to be exceeded to move it.

    Changes `dof_frictionloss` of all joints but free ones. Nothing is derived from it.

    Options: as for `joint_damping`.
    """
    return _bind_joints(robot, factor, options, "joint_friction", "dof_frictionloss")


def _bind_joints(robot: Robot, factor: Factor, options: Mapping[str, str], who: str, field: str) -> JointNumbers:
    model, operation = robot.model, options.get("operation", OPERATIONS[0])
    if operation not in OPERATIONS:
        raise ValueError(f"{who}: got operation {operation!r}, expected {', '.join(OPERATIONS)}")
    free = model.jnt_type == mujoco.mjtJoint.mjJNT_FREE
    joints = find_ids(model, "joint", options["joints"], who) if "joints" in options else np.flatnonzero(~free).tolist()
    dofs = np.flatnonzero(np.isin(model.dof_jntid, joints))
    if not len(dofs):
        raise ValueError(f"{who}: got a robot without joints besides the free one, expected at least one")
    own = getattr(model, field)[dofs].copy()
    if operation == "scale" and not own.any():
        raise ValueError(
            f"{who}: got joints whose {field} is 0, which a factor does not change; use operation=set or operation=add"
        )
    return JointNumbers(factor, field, dofs, own, operation)
