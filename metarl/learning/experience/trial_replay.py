"""A ring buffer of whole trials."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metarl.learning.experience.columns import Columns
from metarl.types import Bools, Floats


class TrialReplay:
    """A ring buffer of whole trials; when it is full, the oldest are overwritten.

    Args:
        capacity: Capacity, in trials.
        steps: Largest number of steps of a trial.
        columns: Arrays that describe a step.

    Attributes:
        size: Current number of trials.
    """

    def __init__(self, capacity: int, steps: int, columns: Columns) -> None:
        self._columns = columns
        self._rows = np.zeros((capacity, steps, columns.width), dtype=np.float32)
        self._lengths = np.zeros(capacity, dtype=np.int64)
        self.size, self._next = 0, 0

    @property
    def longest(self) -> int:
        """Steps of the longest trial; 0 if there is none."""
        return int(self._lengths[: self.size].max(initial=0))

    def add(self, arrays: Mapping[str, Floats], mask: Bools) -> None:
        """Appends trials in order. If there are more than the capacity, only the last ones are kept.

        Args:
            arrays: The columns by name, `[B, L, ...]`; other names are ignored.
            mask: `[B, L]`, True on the steps that happened, which come first.

        Raises:
            ValueError: The trials are longer than `steps`.
        """
        rows = self._columns.pack(**arrays)
        capacity, steps, _ = self._rows.shape
        if mask.shape[1] > steps:
            raise ValueError(f"TrialReplay.add: got trials of {mask.shape[1]} steps, expected at most {steps}")
        where = (self._next + np.arange(len(rows))) % capacity
        kept = slice(max(len(rows) - capacity, 0), None)
        self._rows[where[kept]] = 0.0
        self._rows[where[kept], : mask.shape[1]] = np.where(mask[..., None], rows, 0.0)[kept]
        self._lengths[where[kept]] = mask.sum(axis=1)[kept]
        self.size, self._next = min(self.size + len(rows), capacity), int((self._next + len(rows)) % capacity)

    def sample(self, batch: int, rng: np.random.Generator) -> tuple[Mapping[str, Floats], Bools]:
        """Distinct trials, drawn uniformly: columns `[B, L, ...]` and mask `[B, L]`, with `L` steps in the longest.

        Args:
            batch: Number of trials; all of them if the buffer holds fewer.
            rng: Source of the choice.

        Raises:
            ValueError: The buffer is empty.
        """
        if not self.size:
            raise ValueError("TrialReplay.sample: got an empty buffer, expected at least one trial in it")
        chosen = rng.choice(self.size, min(batch, self.size), replace=False)
        lengths = self._lengths[chosen]
        mask = np.arange(lengths.max()) < lengths[:, None]
        return self._columns.unpack(self._rows[chosen, : mask.shape[1]]), mask

    def windows(self, batch: int, steps: int, rng: np.random.Generator) -> Mapping[str, Floats]:
        """Windows of successive steps of one trial, drawn uniformly from all that the buffer holds.

        Args:
            batch: `B`, number of windows; one may be drawn several times.
            steps: Steps of a window.
            rng: Source of the choice.

        Returns:
            Columns `[B, steps, ...]`.

        Raises:
            ValueError: No trial has that many steps.
        """
        starts = np.maximum(self._lengths[: self.size] - steps + 1, 0)  # windows of each trial
        ends = starts.cumsum()
        if not self.size or not ends[-1]:
            raise ValueError(
                f"TrialReplay.windows: got {steps} steps, expected at most {self.longest}, the longest trial"
            )
        drawn = rng.integers(ends[-1], size=batch)
        trials = np.searchsorted(ends, drawn, side="right")
        first = drawn - (ends[trials] - starts[trials])
        return self._columns.unpack(self._rows[trials[:, None], first[:, None] + np.arange(steps)])

    def tensors(self, prefix: str) -> dict[str, Tensor]:
        """The content for a checkpoint, cut to the longest trial."""
        return {
            f"{prefix}.rows": torch.tensor(self._rows[: self.size, : self.longest]),
            f"{prefix}.lengths": torch.tensor(self._lengths[: self.size]),
            f"{prefix}.next": torch.tensor([self._next]),
        }

    def check(self, prefix: str, tensors: Mapping[str, Tensor]) -> None:
        """Checks tensors for `restore`.

        Raises:
            ValueError: An array is missing, or does not fit capacity, steps or width.
        """
        capacity, steps, width = self._rows.shape
        got: dict[str, Any] = {key: tensors.get(f"{prefix}.{key}") for key in ("rows", "lengths", "next")}
        shapes = {key: None if t is None else tuple(t.shape) for key, t in got.items()}
        if None not in shapes.values() and shapes["next"] == (1,) and len(shapes["lengths"] or ()) == 1:
            (size,), lengths, position = shapes["lengths"] or (0,), got["lengths"], int(got["next"])
            longest = int(lengths.max()) if size else 0
            within = size <= capacity and longest <= steps and 0 <= position < capacity
            if within and bool((lengths >= 0).all()) and shapes["rows"] == (size, longest, width):
                return
        raise ValueError(
            f"buffer {prefix!r}: got arrays {shapes}, expected at most {capacity} trials of at most {steps} steps with "
            f"{width} numbers each"
        )

    def restore(self, prefix: str, tensors: Mapping[str, Tensor]) -> None:
        """Restores what `tensors` returned."""
        rows = tensors[f"{prefix}.rows"].numpy()
        self.size, self._next = len(rows), int(tensors[f"{prefix}.next"])
        self._rows[:], self._lengths[:] = 0.0, 0
        self._rows[: self.size, : rows.shape[1]] = rows
        self._lengths[: self.size] = tensors[f"{prefix}.lengths"].numpy()
