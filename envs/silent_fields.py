"""Reasons why different numbers of a MuJoCo model leave its motion alike: bodies, gravity, medium, actuators."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import mujoco
import numpy as np

from metarl.envs.elements import position_servos
from metarl.envs.inertia import turns
from metarl.envs.model_fields import element_names
from metarl.gymnasium_envs.check.ends import Reason
from metarl.types import Floats

SHOWN = 4
"""Number of names that a message lists."""
COMPENSATED = 1e-9
"""Deviation from 1 at which a share of compensated gravity counts as whole."""
NO_FORCE = 1e-12
"""Force on a joint that counts as none, N or N m."""

OPTIONS = ("gravity", "wind", "density", "viscosity")
FLAG = mujoco.mjtDisableBit
SWITCHES: Mapping[str, tuple[int, ...]] = {
    "gravity": (FLAG.mjDSBL_GRAVITY,),
    "jnt_stiffness": (FLAG.mjDSBL_PASSIVE,),
    "wind": (FLAG.mjDSBL_PASSIVE,),
    "density": (FLAG.mjDSBL_PASSIVE,),
    "viscosity": (FLAG.mjDSBL_PASSIVE,),
    "dof_frictionloss": (FLAG.mjDSBL_FRICTIONLOSS, FLAG.mjDSBL_CONSTRAINT),
    "geom_friction": (FLAG.mjDSBL_CONTACT, FLAG.mjDSBL_CONSTRAINT),
    "pair_friction": (FLAG.mjDSBL_CONTACT, FLAG.mjDSBL_CONSTRAINT),
    "actuator_gear": (FLAG.mjDSBL_ACTUATION,),
    "actuator_gainprm": (FLAG.mjDSBL_ACTUATION,),
    "actuator_biasprm": (FLAG.mjDSBL_ACTUATION,),
    "actuator_forcerange": (FLAG.mjDSBL_ACTUATION,),
}
"""Flags of <option> that make physics ignore a field. Damping acts without passive forces too: Euler's rule uses it."""
READ = (
    *SWITCHES,
    "dof_damping",
    "body_mass",
    "body_inertia",
    "body_ipos",
    "body_iquat",
    "body_gravcomp",
    "dof_armature",
)
"""Fields that variations change; others follow from them."""


def differing(one: Any, two: Any) -> dict[str, np.ndarray]:
    """The fields of `READ` that differ between two models, with the indices of the elements that do."""
    found = {}
    for name in READ:
        a, b = (np.atleast_1d(getattr(m.opt if name in OPTIONS else m, name)) for m in (one, two))
        rows = np.flatnonzero((a != b).reshape(len(a), -1).any(axis=1)) if len(a) else np.zeros(0, dtype=np.int64)
        if len(rows):
            found[name] = rows
    return found


def listed(model: Any, kind: str, rows: np.ndarray) -> str:
    """Names of elements: the first `SHOWN`; a geom without a name goes by its body."""
    count = {"body": model.nbody, "geom": model.ngeom, "actuator": model.nu, "dof": model.nv}[kind]
    names, words = element_names(model, kind, count), []
    for row in rows.tolist():
        if kind == "geom" and not names[row]:
            words.append(f"a geom of {model.body(int(model.geom_bodyid[row])).name or 'the world'}")
        else:
            words.append(names[row] or f"{kind} {row}")
    words = list(dict.fromkeys(words))
    return ", ".join(words[:SHOWN]) + (f" and {len(words) - SHOWN} more" if len(words) > SHOWN else "")


def disabled(model: Any, fields: Mapping[str, np.ndarray]) -> Iterator[Reason]:
    """Flags of the model that switch all the fields off."""
    off = {name: [f for f in SWITCHES.get(name, ()) if model.opt.disableflags & f] for name in fields}
    if all(off.values()):
        flags = {FLAG(f).name.removeprefix("mjDSBL_").lower() for found in off.values() for f in found}
        yield Reason(f"the model has <flag {' '.join(f'{f}={chr(34)}disable{chr(34)}' for f in sorted(flags))}/>")
    rows = {name: rows for name, rows in fields.items() if name.startswith("actuator_")}
    if rows and len(rows) == len(fields):
        every = np.unique(np.concatenate(list(rows.values())))
        groups = model.actuator_group[every]
        if all((0 <= g < 31) and model.opt.disableactuator & (1 << int(g)) for g in groups):
            yield Reason(f"the groups of the actuators {listed(model, 'actuator', every)} are disabled")


def silent_bodies(one: Any, two: Any, fields: Mapping[str, np.ndarray]) -> Iterator[Reason]:
    """Masses and inertias of bodies that are fixed to the world, cannot rotate, or are gravity compensated."""
    names = [name for name in ("body_mass", "body_inertia", "body_ipos", "body_iquat") if name in fields]
    if not names:
        return
    rows = np.unique(np.concatenate([fields[name] for name in names]))
    fixed = one.body_weldid[rows] == 0
    if fixed.all() and set(fields) <= {*names, "body_gravcomp"}:
        yield Reason(f"{listed(one, 'body', rows)} {_is(rows)} fixed to the world, so mass and inertia move nothing")
        return
    if set(fields) <= {"body_inertia", "body_iquat"} and not any(turns(one, int(row)) for row in rows):
        yield Reason(f"{listed(one, 'body', rows)} cannot rotate, so moments of inertia move nothing")
    loads = rows[(np.abs(one.body_gravcomp[rows] - 1) < COMPENSATED) & ~fixed]
    loads = loads[np.abs(two.body_gravcomp[loads] - 1) < COMPENSATED]
    weight = one.opt.gravity.any() and not one.opt.disableflags & FLAG.mjDSBL_GRAVITY
    if len(loads) and weight:
        yield Reason(
            f"{listed(one, 'body', loads)} {_is(loads)} gravity compensated (gravcomp=1), so another mass or "
            "centre has no weight: it is felt only while the robot moves; compensate the robot's own weight alone "
            "(payload.compensated=no), or lower gravcomp",
            "part",
        )
    if not weight and "body_mass" in fields:
        yield Reason("there is no gravity, so another mass has no weight: it is felt only in motion", "part")


def silent_gravity(one: Any, two: Any, fields: Mapping[str, np.ndarray], qpos: Floats) -> Iterator[Reason]:
    """Gravity that bodies compensate, or that acts across all joints."""
    if "gravity" not in fields or one.opt.disableflags & FLAG.mjDSBL_GRAVITY:
        return
    moving = np.flatnonzero((one.body_weldid > 0) & (one.body_mass > 0))
    held = moving[np.abs(one.body_gravcomp[moving] - 1) < COMPENSATED]
    alone = set(fields) == {"gravity"}
    if len(held) and len(held) == len(moving) and alone:
        yield Reason("all moving bodies are gravity compensated (gravcomp=1), whatever gravity is")
    elif len(held):
        yield Reason(f"{listed(one, 'body', held)} {_is(held)} gravity compensated (gravcomp=1)", "part")
    elif alone and np.abs(_weights(one, qpos) - _weights(two, qpos)).max(initial=0.0) < NO_FORCE:
        yield Reason("another gravity exerts no force on any joint at the start: it acts across them")


def _weights(model: Any, qpos: Floats) -> Floats:
    """Forces of gravity on the degrees of freedom at rest, `[nv]`."""
    data = mujoco.MjData(model)
    data.qpos[:] = qpos
    mujoco.mj_forward(model, data)
    forces: Floats = data.qfrc_bias.copy()
    return forces


def silent_medium(one: Any, two: Any, fields: Mapping[str, np.ndarray]) -> Iterator[Reason]:
    """Wind without a medium."""
    if set(fields) == {"wind"} and not any((one.opt.density, one.opt.viscosity, two.opt.density, two.opt.viscosity)):
        yield Reason('the model has no medium, so there is no wind; set <option density="1.2"/>')


def silent_drives(one: Any, two: Any, fields: Mapping[str, np.ndarray], ctrl: Floats) -> Iterator[Reason]:
    """Gears of position servos, which move the commanded pose, and limits of forces that are not limited."""
    servo = position_servos(one)
    for name, what in (("actuator_gear", "gear"), ("actuator_gainprm", "gain without its bias")):
        rows = fields.get(name, np.zeros(0, dtype=np.int64))
        if name == "actuator_gainprm" and "actuator_biasprm" in fields:
            continue
        rests = [_rest(model, rows, ctrl) for model in (one, two)]
        servos = rows[servo[rows] & np.isfinite(rests[0]) & np.isfinite(rests[1])]
        if len(servos):
            moved = np.abs(rests[0] - rests[1])[np.isin(rows, servos)].max()
            yield Reason(
                f"{listed(one, 'actuator', servos)} {_is(servos)} position servos: another {what} moves the pose that "
                f"they hold (by up to {moved:.2g} rad or m under the controls at the start) rather than making them "
                "weaker; use the variation motor_strength, or couple gain and bias",
                "part",
            )
    if set(fields) == {"actuator_gear"}:
        rows = fields["actuator_gear"]
        joint = np.isin(one.actuator_trntype[rows], (mujoco.mjtTrn.mjTRN_JOINT, mujoco.mjtTrn.mjTRN_TENDON))
        ball = np.isin(one.jnt_type[one.actuator_trnid[rows, 0]], (0, 1)) & joint
        if (joint & ~ball).all() and not (one.actuator_gear[rows, 0] != two.actuator_gear[rows, 0]).any():
            yield Reason(f"{listed(one, 'actuator', rows)}: only the first number of a gear acts on a hinge or slide")
    if set(fields) == {"actuator_forcerange"} and not one.actuator_forcelimited[fields["actuator_forcerange"]].any():
        rows = fields["actuator_forcerange"]
        yield Reason(f"the force of {listed(one, 'actuator', rows)} is not limited (forcelimited)")


def _rest(model: Any, rows: np.ndarray, ctrl: Floats) -> Floats:
    """Joint positions at which position servos rest under the controls; infinite for gear or stiffness 0, `[rows]`."""
    gain, bias = model.actuator_gainprm[rows, 0], model.actuator_biasprm[rows]
    stiffness = -bias[:, 1] * model.actuator_gear[rows, 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        rest: Floats = np.where(stiffness != 0.0, (gain * ctrl[rows] + bias[:, 0]) / stiffness, np.inf)
    return rest


def _is(rows: np.ndarray) -> str:
    return "is" if len(rows) == 1 else "are"
