"""Running statistics of observations and returns."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from metarl.types import Bools, Floats


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

    @property
    def std(self) -> Floats:
        """`[size]`, never below 1e-6."""
        return np.asarray(np.sqrt(np.maximum(self.variance, 1e-12)))

    def normalise(self, values: Floats, clip: float = 10.0) -> Floats:
        """Values with the mean taken off and divided by the standard deviation, clipped, float32."""
        return np.clip((values - self.mean) / self.std, -clip, clip).astype(np.float32)

    def tensors(self, prefix: str) -> dict[str, Tensor]:
        """The statistics for a checkpoint."""
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
