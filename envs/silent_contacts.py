"""Reasons why friction that differs between tasks does not reach the contacts of a MuJoCo robot.

A contact of two geoms has the friction of the geom with the higher `priority`; at equal priority, the larger of both
per column. An explicit contact <pair> has a friction of its own. A contact of `condim` 1 has none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import mujoco
import numpy as np

from metarl.envs.elements import may_collide
from metarl.envs.friction import LEAST_DIMENSIONS
from metarl.envs.silent_fields import listed
from metarl.gymnasium_envs.check.ends import Reason
from metarl.types import Floats

FLOOR_FRICTION = "floor_friction"
"""The variation of a robot that changes the friction of all contacts with the ground."""
SECONDS = 1.0
"""Simulated time in which contacts are counted, s."""
MOST_STEPS = 2000
SHARE = 0.5
"""Share of unchanged contacts from which a variation of friction is a problem."""
Cause = Literal["pair", "dimensions", "priority", "larger", "own"]
COLUMNS_OF_PAIR = (0, 2, 3)
"""Columns of `pair_friction` for sliding, torsional and rolling friction."""


@dataclass(frozen=True)
class _Kept:
    """A contact whose friction is the same in both tasks.

    Args:
        geom: The geom whose friction varies.
        other: The other geom.
        cause: The reason.
        friction: Its sliding friction.
    """

    geom: int
    other: int
    cause: Cause
    friction: float


def silent_friction(
    one: Any, two: Any, fields: Mapping[str, np.ndarray], qpos: Floats, ctrl: Floats, parameter: str = ""
) -> Iterator[Reason]:
    """Reasons why friction of geoms or pairs has no effect, by the contacts of a short roll-out under the controls.

    If friction of the ground varies, its contacts decide: those between a robot and its fixed base are left out.
    """
    varied = fields.get("geom_friction", np.zeros(0, dtype=np.int64))
    pairs = fields.get("pair_friction", np.zeros(0, dtype=np.int64))
    if not len(varied) and not len(pairs):
        return
    alone = set(fields) <= {"geom_friction", "pair_friction"}
    involved = set(varied.tolist())
    explicit = {_key(int(one.pair_geom1[p]), int(one.pair_geom2[p])): p for p in range(one.npair)}
    touching = [*_possible(one, varied), *(key for key, p in explicit.items() if p in pairs or involved & set(key))]
    ground = varied[one.body_weldid[one.geom_bodyid[varied]] == 0]
    varied = ground if len(ground) else varied
    named = "" if parameter == FLOOR_FRICTION else f" (the variation {FLOOR_FRICTION} does all of it)"
    if not touching:
        yield Reason(f"nothing can touch {listed(one, 'geom', varied)} (contype, conaffinity, contact pairs)")
        return
    counted = _count(one, qpos, ctrl) + _count(two, qpos, ctrl)
    met = {key: n for key, n in counted.items() if involved & set(key) or explicit.get(key, -1) in pairs}
    kept = {key: _kept(one, two, key, involved, explicit) for key in {*touching, *met}}
    silent = {key: why for key, why in kept.items() if why is not None}
    if alone and len(silent) == len(kept):
        yield Reason(_because(one, list(silent.values()), named))
        return
    of_ground = {key: n for key, n in met.items() if set(ground) & set(key) or explicit.get(key, -1) in pairs}
    if len(ground) and (of_ground or met.keys() <= silent.keys()):
        met = of_ground
    total, same = sum(met.values()), sum(n for key, n in met.items() if key in silent)
    if not total:
        if alone:
            what = listed(one, "geom", varied) if len(varied) else "the geoms of the contact pairs"
            moving = " that moves" if len(ground) else ""
            yield Reason(f"nothing{moving} touched {what} in {SECONDS:g} s from the start under constant controls")
    elif same >= SHARE * total:
        words = _because(one, [silent[key] for key in met if key in silent], named)
        yield Reason(
            f"{same} of {total} contacts in {SECONDS:g} s from the start, at both ends, keep their friction: {words}",
            "most",
        )


def _key(one: int, two: int) -> tuple[int, int]:
    return (min(one, two), max(one, two))


def _possible(model: Any, geoms: np.ndarray) -> Iterator[tuple[int, int]]:
    """Pairs of these geoms and others that collisions are sought for, besides explicit pairs."""
    weld = model.body_weldid[model.geom_bodyid]
    parent = model.body_weldid[model.body_parentid[weld]]
    for geom in geoms.tolist():
        family = ((parent == weld[geom]) | (weld == parent[geom])) & (weld > 0) & (weld[geom] > 0)
        if model.opt.disableflags & mujoco.mjtDisableBit.mjDSBL_FILTERPARENT:
            family[:] = False
        for other in np.flatnonzero(may_collide(model, geom) & (weld != weld[geom]) & ~family).tolist():
            yield _key(geom, other)


def _count(model: Any, qpos: Floats, ctrl: Floats) -> Counter[tuple[int, int]]:
    """Numbers of contacts by geoms, over the steps of a roll-out from the start under constant controls."""
    data, found = mujoco.MjData(model), Counter[tuple[int, int]]()
    data.qpos[:], data.ctrl[:] = qpos, ctrl
    for _ in range(min(MOST_STEPS, max(1, round(SECONDS / model.opt.timestep)))):
        mujoco.mj_step(model, data)
        found.update(_key(a, b) for a, b in data.contact.geom.tolist())
    return found


def _combined(model: Any, a: int, b: int) -> tuple[Floats, int]:
    """Friction `[3]` and dimensions of a contact of two geoms."""
    if model.geom_priority[a] != model.geom_priority[b]:
        first = a if model.geom_priority[a] > model.geom_priority[b] else b
        return model.geom_friction[first], int(model.geom_condim[first])
    return np.maximum(model.geom_friction[a], model.geom_friction[b]), int(model.geom_condim[[a, b]].max())


def _kept(
    one: Any, two: Any, key: tuple[int, int], involved: set[int], explicit: Mapping[tuple[int, int], int]
) -> _Kept | None:
    """The reason why a contact has the same friction in both tasks; None if it does not."""
    geom, other = key if key[0] in involved else (key[1], key[0])
    if (pair := explicit.get(key, -1)) >= 0:
        dimensions = int(one.pair_dim[pair])
        before, after = (model.pair_friction[pair, COLUMNS_OF_PAIR] for model in (one, two))
    else:
        before, dimensions = _combined(one, *key)
        after, _ = _combined(two, *key)
    active = np.array(LEAST_DIMENSIONS) <= dimensions
    if (before != after)[active].any():
        return None
    cause: Cause = "own"
    if pair >= 0:
        cause = "pair"
    elif not active[(one.geom_friction[geom] != two.geom_friction[geom])].any():
        cause = "dimensions"
    elif one.geom_priority[other] > one.geom_priority[geom]:
        cause = "priority"
    elif one.geom_priority[other] == one.geom_priority[geom]:
        cause = "larger"
    return _Kept(geom, other, cause, float(before[0]))


def _because(model: Any, kept: list[_Kept], named: str) -> str:
    """The causes in words, with the geoms that decide, and a variation that has none of them."""
    words, causes = [], dict.fromkeys(one.cause for one in kept)
    for cause in causes:
        mine = [one for one in kept if one.cause == cause]
        geoms, others = (
            listed(model, "geom", np.unique([getattr(one, side) for one in mine])) for side in ("geom", "other")
        )
        frictions = sorted({round(one.friction, 6) for one in mine})
        numbers = f"{frictions[0]:g}" if len(frictions) == 1 else f"{frictions[0]:g} to {frictions[-1]:g}"
        words.append(
            {
                "pair": f"explicit contact pairs of {geoms} and {others} have a friction of their own ({numbers}): "
                "vary pair_friction",
                "dimensions": f"contacts of {geoms} and {others} have fewer dimensions (condim) than that friction",
                "priority": f"in contact with {geoms}, the friction of {others} counts alone, whose priority is higher "
                f"({numbers}): vary theirs",
                "larger": f"in contact with {geoms}, the friction of {others} counts, which is the larger of both "
                f"({numbers}): vary theirs too",
                "own": f"contacts of {geoms} and {others} have the same friction ({numbers})",
            }[cause]
        )
    return "; ".join(words) + (named if causes.keys() & {"pair", "priority", "larger"} else "")
