"""Friction changes without effect, since MuJoCo combines the friction of two geoms in contact.

A contact takes the friction of the geom with the higher `priority`; at equal priority, the larger of both per column.
Sliding friction acts in contacts of at least 3 dimensions (`condim`), torsional of 4, rolling of 6.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from metarl.logs import warn_once
from metarl.types import Floats

COLUMNS = ("sliding", "torsional", "rolling")
LEAST_DIMENSIONS = (3, 4, 6)
"""Least `condim` of a contact in which each column acts."""
SHOWN = 4
"""Number of geoms that a message names."""

logger = logging.getLogger(__name__)


def warn_without_effect(model: Any, low: Floats, high: Floats) -> None:
    """Logs, once per process, geoms whose varied friction has no effect in all or part of its range.

    Args:
        model: The `MjModel`.
        low: Lowest friction of each geom over all tasks, `[ngeom, 3]`.
        high: Highest friction of each geom over all tasks, `[ngeom, 3]`.
    """
    varies = low < high
    for geom in np.flatnonzero(varies.any(axis=1)).tolist():
        column, partners = int(varies[geom].argmax()), _partners(model, geom)
        if not len(partners):
            continue  # no contacts, or only those of a <pair>, which has a friction of its own
        name = _name(model, geom)
        if _dimensions(model, geom, partners) < LEAST_DIMENSIONS[column]:
            warn_once(
                logger,
                f"{COLUMNS[column]} friction of {name} acts only in contacts of condim {LEAST_DIMENSIONS[column]}",
            )
            continue
        priority = model.geom_priority[partners]
        equal = partners[priority == model.geom_priority[geom]]
        stronger = partners[priority > model.geom_priority[geom]]
        if len(fixed := stronger[~varies[stronger].any(axis=1)]):
            warn_once(
                logger,
                f"the friction of {name} has no effect in contact with {_names(model, fixed)} of higher priority: "
                "vary theirs",
            )
        hidden = float(low[equal, column].min()) if len(equal) else 0.0
        if len(equal) + len(stronger) == len(partners) and low[geom, column] < hidden and not varies[equal].any():
            warn_once(
                logger,
                f"{COLUMNS[column]} friction of {name} below {hidden:.4g} has no effect, since a contact takes the "
                f"larger friction of both geoms: vary that of {_names(model, equal)} too, or set a priority for {name}",
            )


def _name(model: Any, geom: int) -> str:
    """A geom's name, else its body's."""
    return str(model.geom(geom).name or f"a geom of {model.body(int(model.geom_bodyid[geom])).name or 'the world'}")


def _names(model: Any, geoms: np.ndarray) -> str:
    """The first `SHOWN` names."""
    names = list(dict.fromkeys(_name(model, geom) for geom in geoms))
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def _partners(model: Any, geom: int) -> np.ndarray:
    """Indices of the geoms that may be in contact with `geom`."""
    types, affinities, body = model.geom_contype, model.geom_conaffinity, model.geom_bodyid
    matching = ((types & affinities[geom]) | (affinities & types[geom])) != 0
    moving = model.body_weldid[body] != model.body_weldid[body[geom]]
    return np.flatnonzero(matching & moving)


def _dimensions(model: Any, geom: int, partners: np.ndarray) -> int:
    """Largest `condim` of a geom's contacts."""
    mine, theirs = model.geom_priority[geom], model.geom_priority[partners]
    own, others = np.full(len(partners), model.geom_condim[geom]), model.geom_condim[partners]
    combined = np.where(theirs > mine, others, np.where(theirs < mine, own, np.maximum(own, others)))
    return int(combined.max())
