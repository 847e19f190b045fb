"""Loading of MuJoCo models, and checks of their initial states."""

from __future__ import annotations

import functools
import logging
from typing import Any

import mujoco

from metarl.envs.elements import SCALAR_JOINTS
from metarl.types import Floats

TOLERANCE = 1e-6
"""Distance outside of its range at which a joint's initial position is still accepted, rad or m."""
QUATERNION = ("quaternion w", "quaternion x", "quaternion y", "quaternion z")
ROTATIONS = ("about x", "about y", "about z")
SHOWN = 3
"""Number of joints that a message names."""

logger = logging.getLogger(__name__)


def load_model(path: str) -> Any:
    """The `MjModel` of an XML file.

    Raises:
        ValueError: The file does not exist, or MuJoCo cannot compile it.
    """
    try:
        return mujoco.MjModel.from_xml_path(path)
    except ValueError as error:
        reason = "; ".join(line.strip() for line in str(error).splitlines() if line.strip())
        raise ValueError(f"model_path: got {path!r}, expected a model that MuJoCo can compile ({reason})") from error


def find_keyframe(model: Any, name: str | None) -> int:
    """Index of a model's keyframe, or -1 (the model's initial state) if `name` is None.

    Raises:
        ValueError: The model has no keyframe of that name.
    """
    if name is None:
        return -1
    key = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_KEY, name)
    if key < 0:
        known = " or ".join(_keyframes(model)) or "None: the model has none"
        raise ValueError(f"keyframe: got {name!r}, expected {known}")
    return int(key)


def _keyframes(model: Any) -> list[str]:
    return [repr(model.key(i).name) for i in range(model.nkey) if model.key(i).name]


def state_names(model: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of a model's positions, length `nq`, and velocities, length `nv`: those of the joints, with their axes."""
    axes = {
        int(mujoco.mjtJoint.mjJNT_FREE): (("x", "y", "z", *QUATERNION), ("x", "y", "z", *ROTATIONS)),
        int(mujoco.mjtJoint.mjJNT_BALL): (QUATERNION, ROTATIONS),
    }
    positions, velocities = list[str](), list[str]()
    for i in range(model.njnt):
        name = model.joint(i).name or f"joint {i}"
        of_positions, of_velocities = axes.get(int(model.jnt_type[i]), (("",), ("",)))
        positions += [f"position of {name} {axis}".rstrip() for axis in of_positions]
        velocities += [f"velocity of {name} {axis}".rstrip() for axis in of_velocities]
    return tuple(positions), tuple(velocities)


def actuator_names(model: Any) -> tuple[str, ...]:
    """Names of a model's actuators, or of the joints that they move, length `nu`."""
    names = []
    for i in range(model.nu):
        joint = int(model.actuator_trnid[i, 0])
        moves_joint = int(model.actuator_trntype[i]) == int(mujoco.mjtTrn.mjTRN_JOINT)
        fallback = model.joint(joint).name if moves_joint else ""
        names.append(model.actuator(i).name or fallback or f"actuator {i}")
    return tuple(names)


def warn_outside_limits(model: Any, qpos: Floats) -> None:
    """Logs, once, the joints that start outside of their ranges, since the constraint solver will push them back.

    Args:
        model: The `MjModel`.
        qpos: Initial joint positions `[nq]`, rad or m.
    """
    outside = []
    for i in range(model.njnt):
        if model.jnt_limited[i] and model.jnt_type[i] in SCALAR_JOINTS:
            at, (low, high) = float(qpos[model.jnt_qposadr[i]]), model.jnt_range[i]
            if not low - TOLERANCE <= at <= high + TOLERANCE:
                outside.append(f"{model.joint(i).name or f'joint {i}'} at {at:.4g} ({low:.4g} to {high:.4g})")
    if outside:
        keys = _keyframes(model)
        advice = f"set the class attribute keyframe to {' or '.join(keys)}" if keys else "add a <key> to the XML"
        more = f" and {len(outside) - SHOWN} more" if len(outside) > SHOWN else ""
        _warn_outside(", ".join(outside[:SHOWN]) + more, advice)


@functools.cache
def _warn_outside(joints: str, advice: str) -> None:
    logger.warning("initial positions: got joints outside of their ranges, %s; %s", joints, advice)
