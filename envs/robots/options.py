"""Options of a declared variation: names of a model's elements, and numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from metarl.envs.model_fields import element_names
from metarl.types import Floats

SHOWN = 12
"""Number of names that a message lists."""
COUNTS = {"body": "nbody", "joint": "njnt", "actuator": "nu", "geom": "ngeom"}


def names_of(model: Any, kind: str) -> list[str]:
    """Names of all bodies, joints, actuators or geoms; an unnamed actuator has the name of its joint."""
    return element_names(model, kind, int(getattr(model, COUNTS[kind])))


def find_id(model: Any, kind: str, name: str, who: str) -> int:
    """Index of the element of a name or number.

    Raises:
        ValueError: There is none; the message lists the names.
    """
    names = names_of(model, kind)
    if name in names:
        return names.index(name)
    if name.isascii() and name.isdecimal() and int(name) < len(names):
        return int(name)
    known = [n for n in names if n]
    more = f" and {len(known) - SHOWN} more" if len(known) > SHOWN else ""
    listed = f"{', '.join(known[:SHOWN])}{more}" if known else "none has a name"
    raise ValueError(f"{who}: got {kind} {name!r}, expected a name ({listed}) or an index below {len(names)}")


def find_ids(model: Any, kind: str, text: str, who: str) -> list[int]:
    """Indices of the elements in `a+b+c`, each once; raises as `find_id`."""
    return list(dict.fromkeys(find_id(model, kind, name.strip(), who) for name in text.split("+")))


def read_numbers(who: str, option: str, text: str, count: int) -> Floats:
    """Numbers from a text, separated by commas, spaces, colons or semicolons, `[count]`.

    Raises:
        ValueError: The text has another number of them, or one is not finite.
    """
    parts: Sequence[str] = [part for part in re.split(r"[\s,:;()\[\]]+", text) if part]
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        numbers = []
    if len(numbers) != count or not all(map(math.isfinite, numbers)):
        expected = "a finite number" if count == 1 else f"{count} finite numbers, such as {','.join(['0.1'] * count)}"
        raise ValueError(f"{who}: got {option} {text!r}, expected {expected}")
    return np.array(numbers)
