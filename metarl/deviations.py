"""Standard deviations to divide channels by, with a floor. Does not import torch.

`metarl.learning.experience.normalisation` has the table of the references, and the reason for a floor.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from metarl.types import Floats

DEVIATION_FLOOR = 1e-2
"""Default floor, chosen from deviations under random actions.

In MuJoCo's families each channel that varies has at least 0.11 of the largest deviation in its unit; objects of
Meta-World that the robot hardly touches have less than 0.01.
"""
CLIP = 10.0
"""Bound of normalised values."""
TINY = 1e-6
"""Smaller deviations count as zero."""


def floored(std: Floats, reference: Floats, floor: float) -> Floats:
    """Deviations of at least `floor` times the reference, `[size]`; 1 if the reference is zero."""
    least = np.maximum(floor * reference, TINY)
    return np.where(reference > TINY, np.maximum(std, least), 1.0)


def channels_by_unit(units: Sequence[str], size: int) -> list[tuple[bool, np.ndarray]]:
    """The channels of each unit: whether it is declared, and their indices.

    Args:
        units: Unit of each channel, an empty string for an undeclared one; an empty sequence if none is declared.
        size: Number of channels.
    """
    names = np.array(units or ("",) * size, dtype=np.str_)
    return [(name != "", np.flatnonzero(names == name)) for name in dict.fromkeys(names.tolist())]


def references(std: Floats, groups: Sequence[tuple[bool, np.ndarray]]) -> Floats:
    """Reference of each channel's floor, `[size]`: the largest deviation in its unit, or without a unit the median.

    Args:
        std: Deviations, `[size]`.
        groups: The channels of each unit, see `channels_by_unit`.
    """
    reference = np.empty_like(std)
    for declared, channels in groups:
        reference[channels] = float(std[channels].max()) if declared else _typical(std[channels])
    return reference


def _typical(std: Floats) -> float:
    """Median of the deviations above `TINY`; 0 if there is none."""
    varying = std[std > TINY]
    return float(np.median(varying)) if len(varying) else 0.0


class Scaling:
    """Normalisation by the statistics of fixed rows.

    Args:
        rows: `[n, size]`.
        units: Unit of each channel, see `channels_by_unit`.

    Attributes:
        mean: `[size]` float64.
        deviation: `[size]` float64, with the floor.
    """

    def __init__(self, rows: Floats, units: Sequence[str] = ()) -> None:
        values = rows.astype(np.float64)
        self.mean, std = values.mean(axis=0), values.std(axis=0)
        self.deviation = floored(std, references(std, channels_by_unit(units, len(std))), DEVIATION_FLOOR)

    def __call__(self, values: Floats) -> Floats:
        """Normalised and clipped channels, `[..., size]` float32."""
        return np.clip((values - self.mean) / self.deviation, -CLIP, CLIP).astype(np.float32)
