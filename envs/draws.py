"""Distributions of the values of a change of dynamics."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from metarl.types import Floats


@dataclass(frozen=True)
class Uniform:
    """Values uniform on [low, high).

    Args:
        low: Lower bound.
        high: Upper bound.

    Raises:
        ValueError: A bound is not finite, or `low` is not below `high`.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        _check_range("Uniform", self.low, self.high)

    def __str__(self) -> str:
        return f"U({self.low:g}, {self.high:g})"

    def values(self, u: Floats) -> Floats:
        """The values at uniform variates `u` in [0, 1), of the same shape."""
        return self.low + (self.high - self.low) * u


@dataclass(frozen=True)
class Power:
    """Values `base^x` with x uniform on [low, high). If low = -high, a factor f is as likely as 1/f.

    Args:
        base: Base of the power, above 0.
        low: Lower bound of the exponent.
        high: Upper bound of the exponent.

    Raises:
        ValueError: A bound is not finite, `low` is not below `high`, or the base is not above 0.
    """

    base: float
    low: float
    high: float

    def __post_init__(self) -> None:
        _check_range("Power", self.low, self.high)
        if not (math.isfinite(self.base) and self.base > 0):
            raise ValueError(f"Power: got base {self.base!r}, expected a number above 0")

    def __str__(self) -> str:
        return f"{self.base:g}^U({self.low:g}, {self.high:g})"

    def values(self, u: Floats) -> Floats:
        """The values at uniform variates `u` in [0, 1), of the same shape."""
        return np.power(self.base, self.low + (self.high - self.low) * u)


@dataclass(frozen=True)
class Dead:
    """A task scales one group of elements by 0 and leaves the others unchanged.

    Args:
        train: Groups of names or indices; a training task scales one of them by 0.
        withheld: Groups of held-out tasks; None if there are too few to hold any out.
    """

    train: tuple[tuple[str | int, ...], ...]
    withheld: tuple[tuple[str | int, ...], ...] | None

    def __str__(self) -> str:
        names = "; ".join("+".join(map(str, group)) for group in self.train + (self.withheld or ()))
        return f"0 for one of {names}, 1 for the others"


def _check_range(kind: str, low: float, high: float) -> None:
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"{kind}: got the range {low!r} to {high!r}, expected two finite numbers, the lower one first")
