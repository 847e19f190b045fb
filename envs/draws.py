"""Where the values of a change of dynamics come from."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from metarl.types import Floats


@dataclass(frozen=True)
class Uniform:
    """Values uniform on [low, high)."""

    low: float
    high: float

    def __post_init__(self) -> None:
        _check_range("Uniform", self.low, self.high)

    def __str__(self) -> str:
        return f"U({self.low:g}, {self.high:g})"

    def values(self, u: Floats) -> Floats:
        """Values from uniform variates of the same shape."""
        return self.low + (self.high - self.low) * u


@dataclass(frozen=True)
class Power:
    """Values `base^x` with x uniform on [low, high): as often a factor of 2 as of 1/2, say."""

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
        """Values from uniform variates of the same shape."""
        return np.power(self.base, self.low + (self.high - self.low) * u)


@dataclass(frozen=True)
class Dead:
    """One group of elements is scaled by zero, the others stay as they are; which group it is, is the task.

    Args:
        train: The groups of names of which one is dead in a training task.
        withheld: Those of held-out tasks; None where there are too few to withhold any.
    """

    train: tuple[tuple[str | int, ...], ...]
    withheld: tuple[tuple[str | int, ...], ...] | None

    def __str__(self) -> str:
        names = "; ".join("+".join(map(str, group)) for group in self.train + (self.withheld or ()))
        return f"0 for one of {names}, 1 for the others"


def _check_range(kind: str, low: float, high: float) -> None:
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"{kind}: got the range {low!r} to {high!r}, expected two numbers, the lower one first")
