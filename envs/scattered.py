"""Gather and scatter of numbers at many memory addresses, such as the states of many simulations, in one call."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np


class Scattered:
    """Views of many rows, read into and written from one array.

    One array spans the memory from the lowest address to the highest, and an index array holds the position of each
    number in it. All rows are then copied by one indexing operation instead of one call per view. Memory between the
    views is never accessed.

    Args:
        rows: Views of each row into live memory, one or several, of one dtype and of the same total size in all rows.
            They may be strided. References to them are kept.

    Attributes:
        array: The numbers as of the last `read`, `[N, sum of the sizes]`.

    Raises:
        ValueError: The views differ in dtype or size, or a number is not aligned to its own size.
    """

    def __init__(self, rows: Sequence[Sequence[np.ndarray]]) -> None:
        types = {view.dtype for views in rows for view in views}
        if len(types) != 1 or len({sum(view.size for view in views) for views in rows}) != 1:
            raise ValueError(f"Scattered: got unequal rows or types {types}, expected rows of one size and one type")
        self._owners = rows
        dtype = types.pop()
        addresses = np.stack([np.concatenate([_addresses(view) for view in views]) for views in rows])
        first, last = (int(addresses.min()), int(addresses.max())) if addresses.size else (0, 0)
        if (addresses % dtype.itemsize != first % dtype.itemsize).any():
            raise ValueError(f"Scattered: got numbers that are not aligned to {dtype.itemsize} bytes")
        self._memory = np.zeros(0, dtype)
        if addresses.size:
            span = (ctypes.c_char * (last - first + dtype.itemsize)).from_address(first)
            self._memory = np.frombuffer(memoryview(span), dtype)
        self._places = (addresses - first) // dtype.itemsize  # [N, sum of the sizes]
        self.array = np.zeros(addresses.shape, dtype)

    def read(self, rows: np.ndarray) -> None:
        """Copies the numbers of `rows` into `array`; its other rows stay unchanged."""
        if len(rows) == len(self.array):
            np.take(self._memory, self._places, out=self.array, mode="clip")  # "raise" would copy twice
        else:
            self.array[rows] = self._memory[self._places[rows]]

    def write(self, rows: np.ndarray, values: np.ndarray) -> None:
        """Copies values `[rows, size]` into the memory of `rows`."""
        self._memory[self._places if len(rows) == len(self._places) else self._places[rows]] = values


def _addresses(view: np.ndarray) -> np.ndarray:
    """Memory address of each number of a view, flattened in C order."""
    offsets = np.zeros((), dtype=np.int64)
    for size, stride in zip(view.shape, view.strides, strict=True):
        offsets = offsets[..., None] + np.arange(size) * stride
    return int(view.__array_interface__["data"][0]) + offsets.reshape(-1)
