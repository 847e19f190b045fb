"""Parameters in which the tasks of a family differ, and their ranges."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from metarl.types import Floats, Task

MOST_COMPONENTS = 10_000
"""Upper bound on the components of a parameter."""

SHOWN = 6
"""Components whose ranges are listed in the meaning of a parameter."""


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One declared number (or vector) in which the tasks of a family differ.

    Args:
        name: Name in a `Task`.
        meaning: Meaning in words, with unit and range.
        hidden: True if the agent has to infer it; a hidden parameter never reaches an observation.
        variates: Number of variates uniform on [0, 1) from which a value is computed.
        transform: Maps variates `[n, variates]` to values `[n, size]`.
        categorical: True if a value is a label without order, such as the index of a task class. An oracle observes it
            one-hot, even if it is visible.
        sensed: True if it is a property of the sensors, such as their noise, so that the distribution of observations
            differs between tasks by nature; `metarl check` does not count that as a leak.

    Raises:
        ValueError: The name is no string, or the number of variates is negative or no whole number.
    """

    name: str
    meaning: str
    hidden: bool
    variates: int
    transform: Callable[[Floats], Floats]
    categorical: bool = False
    sensed: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise ValueError(f"Parameter: got the name {self.name!r}, expected a string")
        if not _is_whole(self.variates) or self.variates < 0:
            raise ValueError(f"parameter {self.name!r}: got variates={self.variates!r}, expected a whole number >= 0")


def uniform(
    name: str,
    low: float | Sequence[float],
    high: float | Sequence[float],
    *,
    size: int | None = None,
    meaning: str,
    hidden: bool = True,
) -> Parameter:
    """A parameter whose components are uniform on [low, high).

    Args:
        name: Name in a `Task`.
        low: Lower bound of all components, or one bound each: `uniform("goal", [-1.0, 0.2], [1.0, 0.8], ...)`.
        high: Upper bound, likewise.
        size: Number of components; by default the number of bounds, or 1.
        meaning: Meaning in words, with unit.
        hidden: True if the agent has to infer it.

    Raises:
        ValueError: A bound is not finite, a lower bound is not below its upper bound, or the numbers of components do
            not agree.
    """
    lows, highs = _bounds(name, low, high, size)
    single = not (np.ndim(low) or np.ndim(high))
    ranges = [f"[{a:g}, {b:g})" for a, b in zip(lows[:SHOWN], highs[:SHOWN], strict=True)]
    where = ranges[0] if single else " x ".join([*ranges, "..."] if len(lows) > SHOWN else ranges)
    each = f" in each of {len(lows)} components" if single and len(lows) > 1 else ""
    bottom, width = (lows[0], highs[0] - lows[0]) if single else (np.array(lows), np.array(highs) - np.array(lows))
    return Parameter(
        name=name,
        meaning=f"{meaning}; uniform on {where}{each}",
        hidden=hidden,
        variates=len(lows),
        transform=partial(_between, bottom, width),
    )


def _between(bottom: Floats | float, width: Floats | float, u: Floats) -> Floats:
    return np.asarray(bottom + width * u)


def refuse_twice(family: str, parameters: Sequence[Parameter]) -> None:
    """Raises ValueError if two parameters of a family have the same name: one value would overwrite the other."""
    names = [parameter.name for parameter in parameters]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(
                f"family {family!r}: got the parameter {name!r} {names.count(name)} times, expected each name once"
            )


def _bounds(
    name: str, low: float | Sequence[float], high: float | Sequence[float], size: int | None
) -> tuple[list[float], list[float]]:
    """The lower and the upper bounds of all components, checked."""
    try:
        given = [np.atleast_1d(np.asarray(bound, dtype=np.float64)) for bound in (low, high)]
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"parameter {name!r}: got the range {low!r} to {high!r}, expected numbers, or a list of them for each bound"
        ) from error
    if size is not None and (not _is_whole(size) or not 1 <= size <= MOST_COMPONENTS):
        raise ValueError(f"parameter {name!r}: got size={size!r}, expected a whole number from 1 to {MOST_COMPONENTS}")
    lengths = {len(bound) for bound, raw in zip(given, (low, high), strict=True) if np.ndim(raw)}
    count = size or max(lengths, default=1)
    if any(bound.ndim > 1 for bound in given) or lengths - {count} or not 1 <= count <= MOST_COMPONENTS:
        raise ValueError(
            f"parameter {name!r}: got {len(given[0])} lower and {len(given[1])} upper bounds"
            f"{f' and size={size}' if size else ''}, expected one number for all components or one for each, "
            f"at most {MOST_COMPONENTS}"
        )
    lows, highs = ([float(x) for x in np.broadcast_to(bound, count)] for bound in given)
    for i, (bottom, top) in enumerate(zip(lows, highs, strict=True)):
        if not (math.isfinite(bottom) and math.isfinite(top - bottom) and bottom < top):
            component = f" in component {i}" if count > 1 else ""
            raise ValueError(
                f"parameter {name!r}: got the range {bottom:g} to {top:g}{component}, expected two finite numbers, the "
                "lower one first"
            )
    return lows, highs


def _is_whole(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def describe(task: Task | None) -> str:
    """A task in words, with all digits of its numbers."""
    if task is None:
        return "no task yet"
    return ", ".join(
        f"{name} = {values[0]!r}" if len(values) == 1 else f"{name} = ({', '.join(map(repr, values))})"
        for name, values in task.parameters
    )
