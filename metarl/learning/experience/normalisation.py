"""Running statistics of observations and returns, and what these are divided by.

A channel that hardly varies must not be divided by its own deviation: the rest would be noise of the solver, blown up
to the size of a signal. The deviation therefore has a floor, a share of a size that says what counts as much:

| divided | floor: `DEVIATION_FLOOR` times | because |
|---|---|---|
| a channel with a unit | the largest deviation of the channels of that unit | they can be compared |
| channels without a declared unit | the median deviation of those that vary | a few of another size do not move it |
| returns | their root mean square | a return has no other size |

The page `docs/normalisation.md` has the deviations that were measured, and the command that prints them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from metarl.types import Bools, Floats

DEVIATION_FLOOR = 1e-2
"""Measured under random actions: MuJoCo's families have no channel that moves below 0.11 of the largest in its unit,
Meta-World's objects that are only brushed lie below 0.01."""
CLIP = 10.0
"""Normalised values are clipped to this."""
NORMALISATION = f"clip((x - mean) / deviation, -{CLIP:g}, {CLIP:g})"
"""How the reader of an exported policy normalises, for its description."""
TINY = 1e-6
"""A deviation below this is none."""


class RunningMoments:
    """Mean and variance of all rows seen so far, merged batch by batch (Chan, Golub and LeVeque 1983).

    Args:
        size: Components of a row.

    Attributes:
        count: Rows seen.
        mean: `[size]` float64.
        variance: `[size]` float64, the population variance; 1 before the first row.
    """

    def __init__(self, size: int) -> None:
        self.count, self.mean, self.variance = 0.0, np.zeros(size), np.ones(size)

    def update(self, values: Floats, mask: Bools) -> None:
        """Takes in the rows `values[mask]`; `values` has one axis more than `mask`."""
        rows = values[mask].astype(np.float64)
        if not len(rows):
            return
        total = self.count + len(rows)
        shift = rows.mean(axis=0) - self.mean
        old = self.variance * self.count if self.count else 0.0
        self.variance = (old + rows.var(axis=0) * len(rows) + shift**2 * (self.count * len(rows) / total)) / total
        self.mean = self.mean + shift * (len(rows) / total)
        self.count = total

    def tensors(self, prefix: str) -> dict[str, Tensor]:
        """The statistics for a checkpoint; what follows from them is not saved."""
        return {
            f"{prefix}.count": torch.tensor([self.count], dtype=torch.float64),
            f"{prefix}.mean": torch.tensor(self.mean),
            f"{prefix}.variance": torch.tensor(self.variance),
        }

    def restore(self, prefix: str, tensors: Mapping[str, Tensor]) -> None:
        """Takes back what `tensors` gave."""
        self.count = float(tensors[f"{prefix}.count"])
        self.mean, self.variance = (
            tensors[f"{prefix}.mean"].numpy().copy(),
            tensors[f"{prefix}.variance"].numpy().copy(),
        )


class Normaliser(RunningMoments):
    """Takes the running mean off each channel and divides by its running deviation, which has a floor.

    Args:
        size: Channels.
        floor: Least deviation to divide by, as a share of the reference that the module's table names; 0 for none.
        units: Unit of each channel, as `metarl.types.Spaces.observation_units` has them; an empty text, or no units
            at all, where it is not declared.
        expected: A deviation that is known beforehand, as of a latent under its prior: no reference is below it.

    Raises:
        ValueError: The number of units is neither 0 nor `size`.
    """

    def __init__(self, size: int, floor: float, units: Sequence[str] = (), *, expected: float = 0.0) -> None:
        super().__init__(size)
        if units and len(units) != size:
            raise ValueError(f"Normaliser: got {len(units)} units, expected one for each of {size} channels")
        names = np.array(units or ("",) * size, dtype=np.str_)
        self._groups = [(name != "", np.flatnonzero(names == name)) for name in dict.fromkeys(names.tolist())]
        self._floor, self._expected = floor, expected
        self._deviation: Floats | None = None  # derived when first asked for

    @property
    def deviation(self) -> Floats:
        """What channels are divided by, `[size]`; 1 where no channel of a unit varies."""
        if self._deviation is None:
            std, reference = np.sqrt(self.variance), np.empty_like(self.variance)
            for declared, channels in self._groups:
                reference[channels] = _largest(std[channels]) if declared else _typical(std[channels])
            self._deviation = floored(std, np.maximum(reference, self._expected), self._floor)
        return self._deviation

    def normalise(self, values: Floats) -> Floats:
        """Normalised channels `[..., size]`, clipped, float32."""
        return np.clip((values - self.mean) / self.deviation, -CLIP, CLIP).astype(np.float32)

    def update(self, values: Floats, mask: Bools) -> None:
        """Takes in the rows `values[mask]`; `values` has one axis more than `mask`."""
        super().update(values, mask)
        self._deviation = None

    def restore(self, prefix: str, tensors: Mapping[str, Tensor]) -> None:
        """Takes back what `tensors` gave."""
        super().restore(prefix, tensors)
        self._deviation = None

    def exported(self, prefix: str) -> dict[str, Tensor]:
        """Mean and deviation `[size]` float64, for an exported policy; `NORMALISATION` says how to use them."""
        return {f"{prefix}.mean": torch.tensor(self.mean), f"{prefix}.deviation": torch.tensor(self.deviation)}


class ReturnScale(RunningMoments):
    """What rewards are divided by: the running deviation of the returns, which has a floor.

    Args:
        floor: Least deviation, as a share of the returns' root mean square; constant returns become plus or minus
            its inverse. 0 for none.
    """

    def __init__(self, floor: float) -> None:
        super().__init__(1)
        self._floor = floor

    @property
    def scale(self) -> np.float64:
        """The divisor, in float64 as rewards then are too; 1 where all returns are zero, and before the first."""
        size = np.sqrt(self.variance + np.square(self.mean))
        return np.float64(floored(np.sqrt(self.variance), size, self._floor)[0])


def floored(std: Floats, reference: Floats, floor: float) -> Floats:
    """Deviations with a floor, `[size]`: at least `floor` times the reference, and 1 where that is none."""
    least = np.maximum(floor * reference, TINY)
    return np.where(reference > TINY, np.maximum(std, least), 1.0)


def _largest(std: Floats) -> float:
    return float(std.max())


def _typical(std: Floats) -> float:
    """The median of the deviations that are not zero up to rounding; 0 where all are."""
    varying = std[std > TINY]
    return float(np.median(varying)) if len(varying) else 0.0
