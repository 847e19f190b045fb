"""Loading of a robot's MJCF file: the model that is simulated, and the one that is drawn.

The simulated model omits geoms that neither collide nor have mass, with their meshes and textures: its motion is the
same, and a copy for each task takes kilobytes instead of megabytes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from metarl.envs.robots.spec import RobotSpec

JOINT = mujoco.mjtTrn.mjTRN_JOINT
FLOOR = "floor"
GROUNDS = (int(mujoco.mjtGeom.mjGEOM_PLANE), int(mujoco.mjtGeom.mjGEOM_HFIELD))
FULL_TORQUE_AT = 0.5
"""Default stiffness of `action=pd`: the error in rad at which a motor reaches its largest torque."""
STIFFNESS = 50.0
"""Default stiffness for motors without a largest torque, N m/rad."""
SERVO, TORQUE, PD = "servo", "torque", "pd"


@dataclass(frozen=True)
class LoadedRobot:
    """A robot's model.

    Args:
        path: The MJCF file.
        edited: The edits of the file that the options ask for.
        model: The `MjModel` that is simulated.
        notes: Sentences on what was added or chosen.
        made_servos: Indices of the actuators that `action=pd` made servos of.
    """

    path: Path
    edited: RobotSpec
    model: Any
    notes: tuple[str, ...] = field(default=())
    made_servos: tuple[int, ...] = field(default=())

    def drawn(self) -> Any:
        """The `MjModel` with all geoms, for pictures; its joints are those of `model`."""
        return _compiled(self.path, self.edited, drawn=True)[0]


def load_robot(path: Path, spec: RobotSpec) -> LoadedRobot:
    """Loads an MJCF file with the options of a family's name.

    Raises:
        ValueError: MuJoCo cannot compile the file, it has no actuators, or an option does not fit it.
    """
    model, notes, made_servos = _compiled(path, spec, drawn=False)
    return LoadedRobot(path, spec, model, tuple(notes), made_servos)


def _compiled(path: Path, spec: RobotSpec, *, drawn: bool) -> tuple[Any, list[str], tuple[int, ...]]:
    notes: list[str] = []
    try:
        edited = mujoco.MjSpec.from_file(str(path))
        if not edited.actuators:
            raise ValueError(
                _way_from_urdf(path)
                if _is_urdf(path)
                else "got a model without actuators, expected at least one, such as "
                '<actuator><motor joint="NAME" ctrlrange="-1 1"/></actuator>'
            )
        _set_physics(edited, spec)
        if not _grounds(edited) and _has_free_joint(edited):
            edited.worldbody.add_geom(name=_free_name(edited), type=mujoco.mjtGeom.mjGEOM_PLANE, size=[0, 0, 0.05])
            notes.append("the file has no floor, so a plane at z = 0 is added")
        made_servos = _set_drive(edited, spec)
        edited.compiler.discardvisual = not drawn
        return edited.compile(), notes, made_servos
    except (ValueError, TypeError) as error:
        reason = "; ".join(line.strip() for line in str(error).splitlines() if line.strip())
        expected = "" if "expected" in reason else ", expected a MuJoCo XML file (MJCF) that it can compile"
        raise ValueError(f"{spec.what}: {path.name}: {reason}{expected}") from error


def _is_urdf(path: Path) -> bool:
    """Whether the first element of an XML file is that of a URDF; MuJoCo decides by it too."""
    text = re.sub(r"<!--.*?-->", "", path.read_text(encoding="utf-8", errors="replace"), flags=re.DOTALL)
    first = re.search(r"<\s*([A-Za-z][\w:]*)", text)
    return first is not None and first[1] == "robot"


def _way_from_urdf(path: Path) -> str:
    return (
        f"{path.name} is a URDF, in which MuJoCo reads no actuators, expected an MJCF with some; make one "
        f"in its folder with python -c \"import mujoco; mujoco.mj_saveLastXML('{path.stem}.xml', "
        f"mujoco.MjModel.from_xml_path('{path.name}'))\", then write an actuator for each joint before </mujoco>, "
        'such as <actuator><motor joint="NAME" ctrlrange="-1 1"/></actuator>'
    )


def _set_physics(edited: Any, spec: RobotSpec) -> None:
    if "timestep" in spec.options:
        edited.option.timestep = spec.options["timestep"]
    if "cone" in spec.options:
        edited.option.cone = {"pyramidal": 0, "elliptic": 1}[spec.options["cone"]]


def _grounds(edited: Any) -> list[Any]:
    """The planes and height fields of the world and of bodies that are fixed to it."""
    found, bodies = list[Any](), [edited.worldbody]
    while bodies:
        body = bodies.pop()
        found += [one for one in body.geoms if int(one.type) in GROUNDS and (one.contype or one.conaffinity)]
        bodies += [child for child in body.bodies if not list(child.joints)]
    return found


def _has_free_joint(edited: Any) -> bool:
    return any(one.type == mujoco.mjtJoint.mjJNT_FREE for one in edited.joints)


def _free_name(edited: Any) -> str:
    taken = {one.name for one in edited.geoms}
    return (
        FLOOR
        if FLOOR not in taken
        else next(f"{FLOOR}{i}" for i in range(len(taken) + 1) if f"{FLOOR}{i}" not in taken)
    )


def is_servo(actuator: Any) -> bool:
    """Whether an actuator of an `MjSpec` is a position servo."""
    return actuator.biastype == mujoco.mjtBias.mjBIAS_AFFINE and actuator.biasprm[1] < 0.0


def is_motor(actuator: Any) -> bool:
    """Whether an actuator of an `MjSpec` is a motor: its force is a factor on the control."""
    return (
        actuator.gaintype == mujoco.mjtGain.mjGAIN_FIXED
        and actuator.biastype == mujoco.mjtBias.mjBIAS_NONE
        and actuator.dyntype == mujoco.mjtDyn.mjDYN_NONE
    )


def _set_drive(edited: Any, spec: RobotSpec) -> tuple[int, ...]:
    """Makes servos of motors (`action=pd`) or motors of servos (`action=torque`); indices of the servos made."""
    action, made = spec.options.get("action"), list[int]()
    on_joints = [one for one in edited.actuators if one.trntype == JOINT]
    if action == PD:
        made = [i for i, one in enumerate(edited.actuators) if one.trntype == JOINT and is_motor(one)]
        if not made:
            raise ValueError("got action=pd for a robot without torque motors, expected action=servo or none")
        for i in made:
            _make_servo(edited.actuators[i], spec)
    elif {"kp", "kd"} & set(spec.options):
        raise ValueError("got kp or kd without action=pd, expected both or neither")
    if action == TORQUE:
        for one in on_joints:
            if is_servo(one):
                _make_motor(one)
    if action == SERVO and not any(map(is_servo, edited.actuators)):
        raise ValueError("got action=servo for a robot without position servos, expected action=pd or action=torque")
    return tuple(made)


def _make_servo(motor: Any, spec: RobotSpec) -> None:
    """A motor becomes a servo on its joint's position, with the motor's largest torque."""
    largest = _largest_force(motor) * abs(float(motor.gear[0]))
    kp = spec.number("kp", largest / FULL_TORQUE_AT if np.isfinite(largest) else STIFFNESS)
    motor.gear[:] = [1.0, *[0.0] * 5]
    motor.gaintype, motor.biastype = mujoco.mjtGain.mjGAIN_FIXED, mujoco.mjtBias.mjBIAS_AFFINE
    motor.gainprm[0] = kp
    # A positive third number is a damping ratio: the compiler turns it into a damping.
    motor.biasprm[:3] = [0.0, -kp, -spec.options["kd"] if "kd" in spec.options else 1.0]
    motor.ctrllimited = mujoco.mjtLimited.mjLIMITED_FALSE
    if np.isfinite(largest):
        motor.forcelimited, motor.forcerange = mujoco.mjtLimited.mjLIMITED_TRUE, [-largest, largest]


def _largest_force(motor: Any) -> float:
    """Largest force of a motor before its gear; infinite if nothing limits it."""
    bounds = [np.inf]
    if _limited(motor.ctrllimited, motor.ctrlrange):
        bounds.append(float(np.abs(motor.ctrlrange).max()) * abs(float(motor.gainprm[0])))
    if _limited(motor.forcelimited, motor.forcerange):
        bounds.append(float(np.abs(motor.forcerange).max()))
    return min(bounds)


def _limited(limited: Any, limits: np.ndarray) -> bool:
    """Whether a range of an actuator is in force: stated, or implied by the range (`autolimits`)."""
    return bool(limits[0] < limits[1]) and limited != mujoco.mjtLimited.mjLIMITED_FALSE


def _make_motor(servo: Any) -> None:
    """A servo becomes a motor with the servo's largest force."""
    if not _limited(servo.forcelimited, servo.forcerange):
        raise ValueError(f"got action=torque for {servo.name!r}, a servo without forcerange, expected one")
    servo.gainprm[0], servo.biasprm[:3] = 1.0, [0.0, 0.0, 0.0]
    servo.biastype = mujoco.mjtBias.mjBIAS_NONE
    servo.ctrllimited, servo.inheritrange = mujoco.mjtLimited.mjLIMITED_TRUE, 0.0
    servo.ctrlrange = servo.forcerange.copy()
