"""Running normalisation of observations and rewards, with a floor on the deviation.

Division of a nearly constant channel by its own deviation would amplify the simulator's numerical noise to the size of
a signal. The deviation therefore has a floor, a fraction of a reference:

| quantity | floor: `DEVIATION_FLOOR` times | reason |
|---|---|---|
| channel with a unit | largest deviation of the channels with that unit | they are comparable |
| channels without a declared unit | median deviation of those that vary | robust against a few large ones |
| returns | root mean square of the returns | no other scale is known |

The page `docs/normalisation.md` has measured deviations and the script that prints them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from metarl.deviations import CLIP, channels_by_unit, floored, references
from metarl.deviations import DEVIATION_FLOOR as DEVIATION_FLOOR
from metarl.types import Bools, Floats

NORMALISATION = f"clip((x - mean) / deviation, -{CLIP:g}, {CLIP:g})"
"""The formula of the normalisation, for the description of an exported policy."""


class RunningMoments:
    """Running mean and variance of rows, merged batch by batch (Chan, Golub and LeVeque 1983).

    Args:
        size: Components of a row.

    Attributes:
        count: Rows so far.
        mean: `[size]` float64.
        variance: `[size]` float64, the population variance; 1 before the first row.
    """

    def __init__(self, size: int) -> None:
        self.count, self.mean, self.variance = 0.0, np.zeros(size), np.ones(size)

    def update(self, values: Floats, mask: Bools) -> None:
        """Adds the rows `values[mask]`; `values` has one axis more than `mask`."""
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
        """Count, mean and variance, for a checkpoint; derived values are not saved."""
        return {
            f"{prefix}.count": torch.tensor([self.count], dtype=torch.float64),
            f"{prefix}.mean": torch.tensor(self.mean),
            f"{prefix}.variance": torch.tensor(self.variance),
        }

    def restore(self, prefix: str, tensors: Mapping[str, Tensor]) -> None:
        """Restores the statistics that `tensors` returned."""
        self.count = float(tensors[f"{prefix}.count"])
        self.mean, self.variance = (
            tensors[f"{prefix}.mean"].numpy().copy(),
            tensors[f"{prefix}.variance"].numpy().copy(),
        )


class Normaliser(RunningMoments):
    """Subtracts the running mean of each channel and divides by its running deviation, which has a floor.

    Args:
        size: Number of channels.
        floor: Smallest deviation to divide by, as a fraction of the reference in the module's table; 0 for no floor.
        units: Unit of each channel, as in `metarl.types.Spaces.observation_units`; an empty string for an undeclared
            unit, an empty sequence if no unit is declared.
        expected: Smallest reference: a deviation known in advance, such as that of a latent under its prior.

    Raises:
        ValueError: The number of units is neither 0 nor `size`.
    """

    def __init__(self, size: int, floor: float, units: Sequence[str] = (), *, expected: float = 0.0) -> None:
        super().__init__(size)
        if units and len(units) != size:
            raise ValueError(f"Normaliser: got {len(units)} units, expected one for each of {size} channels")
        self._groups = channels_by_unit(units, size)
        self._floor, self._expected = floor, expected
        self._deviation: Floats | None = None  # computed on demand

    @property
    def deviation(self) -> Floats:
        """Divisor of each channel, `[size]`; 1 if no channel of its unit varies."""
        if self._deviation is None:
            std = np.sqrt(self.variance)
            reference = np.maximum(references(std, self._groups), self._expected)
            self._deviation = floored(std, reference, self._floor)
        return self._deviation

    def normalise(self, values: Floats) -> Floats:
        """Normalised and clipped channels, `[..., size]` float32."""
        return np.clip((values - self.mean) / self.deviation, -CLIP, CLIP).astype(np.float32)

    def update(self, values: Floats, mask: Bools) -> None:
        """Adds the rows `values[mask]`; `values` has one axis more than `mask`."""
        super().update(values, mask)
        self._deviation = None

    def restore(self, prefix: str, tensors: Mapping[str, Tensor]) -> None:
        """Restores the statistics that `tensors` returned."""
        super().restore(prefix, tensors)
        self._deviation = None

    def exported(self, prefix: str) -> dict[str, Tensor]:
        """Mean and deviation `[size]` float64 for an exported policy, which applies the formula `NORMALISATION`."""
        return {f"{prefix}.mean": torch.tensor(self.mean), f"{prefix}.deviation": torch.tensor(self.deviation)}


class ReturnScale(RunningMoments):
    """The divisor of rewards: the running deviation of the returns, which has a floor.

    Args:
        floor: Smallest deviation, as a fraction of the root mean square of the returns; 0 for no floor. Constant
            returns are scaled to plus or minus `1 / floor`.
    """

    def __init__(self, floor: float) -> None:
        super().__init__(1)
        self._floor = floor

    @property
    def scale(self) -> np.float64:
        """The divisor, float64 (as are the rewards then); 1 if all returns are zero, and before the first return."""
        size = np.sqrt(self.variance + np.square(self.mean))
        return np.float64(floored(np.sqrt(self.variance), size, self._floor)[0])
