"""Elements of a MuJoCo model that are named by a body, and geoms that are on the ground in a keyframe."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import mujoco
import numpy as np

from metarl.envs.elements import ON_JOINTS, may_collide

CLOSE = 0.01
"""Distance to the ground up to which a geom counts as on it, m: poses of keyframes are seldom exact."""
BODY, KEYFRAME = "body:", "keyframe:"


def selected(model: Any, kind: str, text: str) -> list[int]:
    """Indices of the elements that `body:NAME` or `keyframe:NAME` selects; none for another text.

    Args:
        model: The `MjModel`.
        kind: Kind of the elements, as in `metarl.envs.model_fields.Field`.
        text: The selection.

    Raises:
        ValueError: There is no body or keyframe of that name, or it has no elements of this kind.
    """
    if text.startswith(BODY):
        body = _named(model, "body", text.removeprefix(BODY))
        rows = _of_body(model, kind, body)
    elif text.startswith(KEYFRAME):
        rows = list(_on_ground(model, _named(model, "key", text.removeprefix(KEYFRAME)))) if kind == "geom" else []
    else:
        return []
    if not rows:
        where = "within 1 cm of the ground" if text.startswith(KEYFRAME) and kind == "geom" else "there"
        raise ValueError(f"got {text!r}, expected at least one {kind} {where}")
    return rows


def _named(model: Any, kind: str, name: str) -> int:
    count = {"body": model.nbody, "key": model.nkey}[kind]
    names = [getattr(model, kind)(i).name for i in range(count)]
    if name not in names:
        what = {"body": "a body", "key": "a keyframe"}[kind]
        raise ValueError(f"got {name!r}, expected {what}: {', '.join(filter(None, names)) or 'the model has none'}")
    return names.index(name)


def _of_body(model: Any, kind: str, body: int) -> list[int]:
    if kind == "body":
        return [body]
    if kind == "actuator":
        drives = np.isin(model.actuator_trntype, ON_JOINTS)
        joints = np.where(drives, model.actuator_trnid[:, 0], 0)
        return [int(i) for i in np.flatnonzero(drives & (model.jnt_bodyid[joints] == body))] if model.njnt else []
    owner = {"geom": "geom_bodyid", "joint": "jnt_bodyid", "dof": "dof_bodyid"}.get(kind)
    return [] if owner is None else [int(i) for i in np.flatnonzero(getattr(model, owner) == body)]


def _on_ground(model: Any, key: int) -> Iterator[int]:
    """Geoms close to a geom of the world that they can touch, in a keyframe."""
    data = mujoco.MjData(model)
    mujoco.mj_resetDataKeyframe(model, data, key)
    mujoco.mj_forward(model, data)
    fixed = model.body_weldid[model.geom_bodyid] == 0
    pairs = set(zip(model.pair_geom1.tolist(), model.pair_geom2.tolist(), strict=True))
    for geom in np.flatnonzero(~fixed).tolist():
        collide = may_collide(model, geom)
        for ground in np.flatnonzero(fixed).tolist():
            paired = (geom, ground) in pairs or (ground, geom) in pairs
            if (collide[ground] or paired) and mujoco.mj_geomDistance(model, data, geom, ground, CLOSE, None) < CLOSE:
                yield geom
                break
