"""Friction in contacts: MuJoCo combines two geoms in contact, so that a change of one may change nothing.

A contact has the friction of the geom with the higher `priority`; at equal priority the larger of both, number by
number. Sliding friction acts in contacts of 3 dimensions or more (`condim`), torsional of 4, rolling of 6.
"""

from __future__ import annotations

import functools
import logging
from typing import Any

import numpy as np

from metarl.types import Floats

COLUMNS = ("sliding", "torsional", "rolling")
LEAST_DIMENSIONS = (3, 4, 6)
"""Dimensions of a contact from which on each number acts."""
SHOWN = 4
"""Geoms that a message names."""

logger = logging.getLogger(__name__)


def warn_without_effect(model: Any, low: Floats, high: Floats) -> None:
    """Says once where changed friction never counts, or not over its whole range.

    Args:
        model: The model.
        low: Lowest friction of every geom in any task, `[ngeom, 3]`.
        high: Highest, likewise.
    """
    varies = low < high
    for geom in np.flatnonzero(varies.any(axis=1)).tolist():
        column, partners = int(varies[geom].argmax()), _partners(model, geom)
        if not len(partners):
            continue  # touches nothing, or only in a declared pair
        name = _name(model, geom)
        if _dimensions(model, geom, partners) < LEAST_DIMENSIONS[column]:
            _say(f"{COLUMNS[column]} friction of {name} needs contacts of condim {LEAST_DIMENSIONS[column]}")
            continue
        priority = model.geom_priority[partners]
        equal = partners[priority == model.geom_priority[geom]]
        stronger = partners[priority > model.geom_priority[geom]]
        if len(fixed := stronger[~varies[stronger].any(axis=1)]):
            _say(
                f"the friction of {name} never counts at {_names(model, fixed)}, whose priority is higher: vary theirs"
            )
        hidden = float(low[equal, column].min()) if len(equal) else 0.0
        if len(equal) + len(stronger) == len(partners) and low[geom, column] < hidden and not varies[equal].any():
            _say(
                f"{COLUMNS[column]} friction of {name} below {hidden:.4g} counts nowhere, as contacts have the larger "
                f"one of both geoms: vary that of {_names(model, equal)} too, or give {name} a priority"
            )


def _name(model: Any, geom: int) -> str:
    """A geom's name, or its body's."""
    return str(model.geom(geom).name or f"a geom of {model.body(int(model.geom_bodyid[geom])).name or 'the world'}")


def _names(model: Any, geoms: np.ndarray) -> str:
    """A few of the names."""
    names = list(dict.fromkeys(_name(model, geom) for geom in geoms))
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def _partners(model: Any, geom: int) -> np.ndarray:
    """Geoms that may touch one."""
    types, affinities, body = model.geom_contype, model.geom_conaffinity, model.geom_bodyid
    matching = ((types & affinities[geom]) | (affinities & types[geom])) != 0
    moving = model.body_weldid[body] != model.body_weldid[body[geom]]
    return np.flatnonzero(matching & moving)


def _dimensions(model: Any, geom: int, partners: np.ndarray) -> int:
    """The most dimensions that a contact of a geom has."""
    mine, theirs = model.geom_priority[geom], model.geom_priority[partners]
    own, others = np.full(len(partners), model.geom_condim[geom]), model.geom_condim[partners]
    combined = np.where(theirs > mine, others, np.where(theirs < mine, own, np.maximum(own, others)))
    return int(combined.max())


@functools.cache
def _say(message: str) -> None:
    logger.warning("variation of geom_friction: got a change that does nothing in part; %s", message)
