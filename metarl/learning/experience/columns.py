"""Several arrays of a step as one float32 row: the storage of replays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import numpy as np
from torch import Tensor

from metarl.types import Floats

ArrayT = TypeVar("ArrayT", Floats, Tensor)


class Columns:
    """Packs named arrays into rows, and rows into named views.

    Args:
        widths: Size of each column, in order; 0 for a single number without an axis.

    Attributes:
        width: Numbers per row.
    """

    def __init__(self, **widths: int) -> None:
        self._widths = widths
        self.width = sum(max(width, 1) for width in widths.values())

    def pack(self, **arrays: Floats) -> Floats:
        """Rows `[..., width]` float32 of arrays `[..., column]` (`[...]` for single numbers); ignores other names."""
        parts = [arrays[name] if width else arrays[name][..., None] for name, width in self._widths.items()]
        return np.concatenate(parts, axis=-1, dtype=np.float32)

    def unpack(self, rows: ArrayT) -> Mapping[str, ArrayT]:
        """Views of the columns of rows `[..., width]`, by name."""
        views, start = {}, 0
        for name, width in self._widths.items():
            views[name] = rows[..., start : start + width] if width else rows[..., start]
            start += max(width, 1)
        return views
