"""Home pose and drive of a robot as values, for the contract of an exported policy."""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np

from metarl.envs.elements import ON_JOINTS, SCALAR_JOINTS, position_servos
from metarl.envs.mujoco_batch import POSITION_UNITS
from metarl.envs.robots.actions import Actions
from metarl.envs.robots.loading import LoadedRobot
from metarl.envs.robots.state import Sensors
from metarl.types import Floats
from metarl.vector import ActionControls, HomePose

HINGE, SLIDE = int(mujoco.mjtJoint.mjJNT_HINGE), int(mujoco.mjtJoint.mjJNT_SLIDE)
POSITIONS, FORCES = {HINGE: "rad", SLIDE: "m"}, {HINGE: "N m", SLIDE: "N"}


def home_pose(sensors: Sensors) -> HomePose:
    """The pose that the observed joint positions are relative to."""
    model, joints = sensors.model, sensors.joints
    return HomePose(
        joints=tuple(model.joint(j).name or f"joint {j}" for j in joints),
        positions=sensors.home[model.jnt_qposadr[list(joints)]],
        units=tuple(POSITION_UNITS[int(model.jnt_type[j])][0][0] for j in joints),
        site=sensors.part,
    )


def action_controls(loaded: LoadedRobot, actions: Actions) -> ActionControls:
    """The controls of an action, with the gains of servos before the variations of a task."""
    model = loaded.model
    rows = [_drive(model, i, i in loaded.made_servos) for i in range(model.nu)]
    kinds, units, kp, kd, limits = zip(*rows, strict=True)
    return ActionControls(
        actions.centre,
        actions.half,
        actions.low,
        actions.high,
        kinds,
        units,
        np.array(kp),
        np.array(kd),
        np.array(limits),
    )


def _drive(model: Any, i: int, made: bool) -> tuple[str, str, float, float, float]:
    """Kind of an actuator, unit of its control, kp and kd at its joint, and its largest torque there."""
    gain, bias, gear = float(model.actuator_gainprm[i, 0]), model.actuator_biasprm[i], float(model.actuator_gear[i, 0])
    on_joint = int(model.actuator_trntype[i]) in ON_JOINTS
    joint = int(model.actuator_trnid[i, 0]) if on_joint else -1
    kind = int(model.jnt_type[joint]) if on_joint else -1
    scalar = kind in SCALAR_JOINTS
    if position_servos(model)[i]:
        name, target = "pd" if made else "servo", scalar and not bias[0] and gear
        unit = _times(-gain / (float(bias[1]) * gear), POSITIONS[kind]) if target else "1"
        if not scalar:
            return name, unit, np.nan, np.nan, np.nan
        return name, unit, float(-bias[1]) * gear**2, float(-bias[2]) * gear**2, _largest(model, i, joint)
    fixed = int(model.actuator_gaintype[i]) == int(mujoco.mjtGain.mjGAIN_FIXED)
    plain = fixed and int(model.actuator_biastype[i]) == int(mujoco.mjtBias.mjBIAS_NONE)
    if plain and int(model.actuator_dyntype[i]) == int(mujoco.mjtDyn.mjDYN_NONE):
        return "torque", _times(gain * gear, FORCES[kind]) if scalar else "1", np.nan, np.nan, np.nan
    return "other", "1", np.nan, np.nan, np.nan


def _times(factor: float, unit: str) -> str:
    """A unit times a factor, such as `rad` or `24 N m`."""
    return unit if abs(factor - 1.0) < 1e-9 else f"{factor:g} {unit}"


def _largest(model: Any, i: int, joint: int) -> float:
    """Largest torque or force of an actuator at its joint; infinite without a limit."""
    bounds: list[Floats] = []
    if model.actuator_forcelimited[i]:
        bounds.append(np.abs(model.actuator_forcerange[i] * model.actuator_gear[i, 0]))
    if model.jnt_actfrclimited[joint]:
        bounds.append(np.abs(model.jnt_actfrcrange[joint]))
    return min((float(bound.max()) for bound in bounds), default=np.inf)
