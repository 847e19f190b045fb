"""The pose that a robot's episodes start from: a keyframe, or one within the joint limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np

from metarl.envs.elements import SCALAR_JOINTS, driven_joints, position_servos
from metarl.envs.models import find_keyframe
from metarl.envs.robots.loading import GROUNDS
from metarl.envs.robots.spec import RobotSpec
from metarl.names import did_you_mean
from metarl.types import Floats

HOME = "home"
"""Name of the keyframe to start from, if there are several."""
FREE = int(mujoco.mjtJoint.mjJNT_FREE)


@dataclass(frozen=True)
class Start:
    """The start of episodes.

    Args:
        qpos: Joint positions `[nq]`.
        ctrl: Controls of position servos that hold them, `[nu]`; 0 for any other actuator, as far as its range allows.
        key: Index of the keyframe, which also sets the activations of actuators; -1 for none.
        note: A sentence on where the pose comes from.
    """

    qpos: Floats
    ctrl: Floats
    key: int
    note: str


def free_joint(model: Any) -> int:
    """Index of the free joint of the robot's base: one with an actuated body in its subtree; -1 if there is none."""
    driven = {int(model.jnt_bodyid[j]) for j in driven_joints(model)}
    for joint in np.flatnonzero(model.jnt_type == FREE):
        root = int(model.jnt_bodyid[joint])
        if any(_is_inside(model, body, root) for body in driven):
            return int(joint)
    return -1


def _is_inside(model: Any, body: int, root: int) -> bool:
    while body and body != root:
        body = int(model.body_parentid[body])
    return body == root


def scalar_joints(model: Any, base_joint: int) -> list[int]:
    """Indices of the hinges and slides of the robot: those in the base's subtree, or all of a robot that is fixed."""
    root = int(model.jnt_bodyid[base_joint]) if base_joint >= 0 else 0
    inside = [_is_inside(model, int(model.jnt_bodyid[j]), root) for j in range(model.njnt)]
    return [j for j in range(model.njnt) if int(model.jnt_type[j]) in SCALAR_JOINTS and inside[j]]


def grounds(model: Any) -> tuple[int, ...]:
    """Indices of the planes and height fields that do not move and that bodies collide with."""
    fixed = model.body_weldid[model.geom_bodyid] == 0
    solid = (model.geom_contype != 0) | (model.geom_conaffinity != 0)
    return tuple(int(i) for i in np.flatnonzero(fixed & solid & np.isin(model.geom_type, GROUNDS)))


def base_body(model: Any, spec: RobotSpec, base_joint: int) -> int:
    """Index of the body that carries a payload and is pushed: the named one, the free one, or an arm's last.

    Raises:
        ValueError: There is no body of that name.
    """
    if "base" in spec.options:
        return body_named(model, spec, "base")
    if base_joint >= 0:
        return int(model.jnt_bodyid[base_joint])
    return last_body(model)


def body_named(model: Any, spec: RobotSpec, option: str) -> int:
    """Index of the body that an option names; raises ValueError if there is none."""
    name = str(spec.options[option])
    names = [model.body(i).name for i in range(model.nbody)]
    if name not in names[1:]:
        known = [one for one in names[1:] if one]
        near = did_you_mean(name, known)
        raise ValueError(f"{spec.what}: got {option}={name}, expected a body: {', '.join(known)}{near}".rstrip("."))
    return names.index(name)


def last_body(model: Any) -> int:
    """The body with the most joints between it and the world; the first of several."""
    moved = np.zeros(model.nbody, dtype=np.int64)
    for body in range(1, model.nbody):
        moved[body] = moved[model.body_parentid[body]] + model.body_jntnum[body]
    return int(np.argmax(moved))


def start_pose(model: Any, spec: RobotSpec, base_joint: int) -> Start:
    """The pose that episodes start from.

    It is the keyframe that the options name, else `home`, else the first one, else the model's initial state with each
    joint moved into its range, and a free robot lifted until its lowest point touches the floor.

    Raises:
        ValueError: There is no keyframe of the given name.
    """
    data = mujoco.MjData(model)
    key, names = -1, [model.key(i).name for i in range(model.nkey)]
    if "keyframe" in spec.options:
        try:
            key = find_keyframe(model, str(spec.options["keyframe"]))
        except ValueError as error:
            raise ValueError(f"{spec.what}: {error}") from error
    elif names:
        key = names.index(HOME) if HOME in names else 0
    mujoco.mj_resetDataKeyframe(model, data, key)
    note = f"episodes start from the keyframe {names[key] or key!r}" if key >= 0 else ""
    moved = _move_into_limits(model, data.qpos)
    if key < 0:
        note = "episodes start from the model's initial state, since it has no keyframe"
        if base_joint >= 0:
            _stand_on_floor(model, data, int(model.jnt_qposadr[base_joint]))
            note += ", set upon the floor"
    if moved:
        note += f" ({', '.join(moved[:3])}{', ...' if len(moved) > 3 else ''} moved into its range)"
    mujoco.mj_forward(model, data)
    ctrl = _holding(model, data, model.key_ctrl[key] if key >= 0 else np.zeros(model.nu))
    return Start(data.qpos.copy(), ctrl, key, note)


def _move_into_limits(model: Any, qpos: Floats) -> list[str]:
    """Clips hinges and slides to their ranges in place; the names of those that moved."""
    moved = []
    for joint in range(model.njnt):
        if model.jnt_limited[joint] and int(model.jnt_type[joint]) in SCALAR_JOINTS:
            address = int(model.jnt_qposadr[joint])
            inside = float(np.clip(qpos[address], *model.jnt_range[joint]))
            if abs(inside - qpos[address]) > 1e-6:
                moved.append(model.joint(joint).name or f"joint {joint}")
                qpos[address] = inside
    return moved


def _holding(model: Any, data: Any, given: Floats) -> Floats:
    """Controls that hold a pose: those of a keyframe that has some for servos, else each servo's present length."""
    servos = position_servos(model)
    gain, bias = model.actuator_gainprm[:, 0], model.actuator_biasprm
    with np.errstate(divide="ignore", invalid="ignore"):
        target = -(bias[:, 0] + bias[:, 1] * data.actuator_length) / gain
    ctrl = np.where(servos, given if given[servos].any() else target, 0.0)
    limited = model.actuator_ctrllimited.astype(np.bool_)
    low, high = model.actuator_ctrlrange.T
    return np.where(limited, np.clip(ctrl, low, high), ctrl)


def _stand_on_floor(model: Any, data: Any, address: int) -> None:
    """Lifts or lowers a free base until the lowest point of its colliding geoms is at z = 0."""
    mujoco.mj_kinematics(model, data)
    solid = (model.geom_contype != 0) | (model.geom_conaffinity != 0)
    moving = model.body_weldid[model.geom_bodyid] != 0
    lowest = [_lowest(model, data, int(i)) for i in np.flatnonzero(solid & moving)]
    if lowest:
        data.qpos[address + 2] -= min(lowest)


def _lowest(model: Any, data: Any, geom: int) -> float:
    """Height of the lowest point of a geom, m."""
    kind, size = int(model.geom_type[geom]), model.geom_size[geom]
    height, up = float(data.geom_xpos[geom, 2]), data.geom_xmat[geom, 6:9]  # z of the geom's axes
    shapes = mujoco.mjtGeom
    if kind == shapes.mjGEOM_SPHERE:
        return height - float(size[0])
    if kind == shapes.mjGEOM_CAPSULE:
        return height - float(size[0] + abs(up[2]) * size[1])
    if kind == shapes.mjGEOM_ELLIPSOID:
        return height - float(np.linalg.norm(up * size))
    if kind == shapes.mjGEOM_CYLINDER:
        return height - float(abs(up[2]) * size[1] + np.hypot(up[0], up[1]) * size[0])
    if kind == shapes.mjGEOM_MESH:
        mesh = int(model.geom_dataid[geom])
        first, count = int(model.mesh_vertadr[mesh]), int(model.mesh_vertnum[mesh])
        return height + float((model.mesh_vert[first : first + count] @ up).min())
    middle, half = model.geom_aabb[geom, :3], model.geom_aabb[geom, 3:]
    return height + float(middle @ up - np.abs(up) @ half)
