"""Actors, blocks and episodes as bytes for other processes.

Arrays are kept out of the byte stream, so that they can be copied once into shared memory. Tensors travel as arrays and
arrive on the CPU, in memory of torch's own alignment: products of a CPU's matrix library may depend on it. This module
is the only one that unpickles, and what it unpickles was packed by a process of the same run, never read from a file.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from metarl.workers.faults import WorkersError

_device: ContextVar[str] = ContextVar("device", default="cpu")  # of unpacked tensors


class Packed(NamedTuple):
    """A value as bytes.

    Attributes:
        data: Everything but the arrays.
        arrays: Memory of each array; valid as long as the value does not change.
    """

    data: bytes
    arrays: Sequence[memoryview]

    @property
    def num_bytes(self) -> int:
        """Size in bytes."""
        return len(self.data) + sum(array.nbytes for array in self.arrays)


class _Packer(pickle.Pickler):
    """Packs tensors as arrays, and any device as the CPU."""

    def reducer_override(self, value: Any) -> Any:
        """See `pickle.Pickler`."""
        if isinstance(value, Tensor):
            array = value.detach().cpu().contiguous().numpy()
            return (_parameter if isinstance(value, nn.Parameter) else _tensor), (array,)
        if isinstance(value, torch.device):
            return torch.device, ("cpu",)
        return NotImplemented


def _tensor(array: NDArray[Any]) -> Tensor:
    return torch.tensor(array, device=_device.get())


def _parameter(array: NDArray[Any]) -> nn.Parameter:
    return nn.Parameter(_tensor(array), requires_grad=False)


def pack(value: Any) -> Packed:
    """Packs a value.

    Raises:
        Exception: Some part of the value cannot be pickled; pickle raises exceptions of several types.
    """
    stream, buffers = io.BytesIO(), list[pickle.PickleBuffer]()
    _Packer(stream, protocol=5, buffer_callback=buffers.append).dump(value)
    return Packed(stream.getvalue(), [buffer.raw() for buffer in buffers])


def pack_or_refuse(what: str, value: Any) -> Packed:
    """Packs a value for workers.

    Args:
        what: Name of the value, for the message.
        value: The value.

    Raises:
        WorkersError: Some part of the value cannot be pickled.
    """
    try:
        return pack(value)
    except Exception as error:  # pickle raises exceptions of several types
        raise WorkersError(
            f"{what} cannot be sent to worker processes ({type(error).__name__}: {error}); define functions and "
            "classes at the top of a module, or use --workers 0"
        ) from error


def unpack(packed: Packed, device: torch.device | None = None) -> Any:
    """The value that was packed. Its NumPy arrays are views of the packed arrays; its tensors are copies.

    Args:
        packed: The output of `pack`.
        device: Device of the tensors; the CPU by default.
    """
    with _tensors_on(device or torch.device("cpu")):
        return pickle.loads(packed.data, buffers=packed.arrays)  # bytes of our own processes


def same(one: Packed, two: Packed) -> bool:
    """Whether two packed values are equal; NumPy compares their bytes faster than memoryviews do."""
    if one.data != two.data or len(one.arrays) != len(two.arrays):
        return False
    pairs = zip(one.arrays, two.arrays, strict=True)
    return all(np.array_equal(np.frombuffer(a, np.uint8), np.frombuffer(b, np.uint8)) for a, b in pairs)


def copied(packed: Packed) -> Packed:
    """The same with its arrays in memory of their own, which may be written to."""
    return Packed(packed.data, [memoryview(bytearray(array)) for array in packed.arrays])


@contextmanager
def _tensors_on(device: torch.device) -> Iterator[None]:
    token = _device.set(str(device))
    try:
        yield
    finally:
        _device.reset(token)


def device_of(value: Any) -> torch.device:
    """Device of the first tensor in a value that is not on the CPU; the CPU if there is none.

    Raises:
        Exception: Some part of the value cannot be pickled.
    """
    found: list[torch.device] = []

    class Finder(_Packer):
        def reducer_override(self, value: Any) -> Any:
            if isinstance(value, Tensor):
                if value.device.type != "cpu":
                    found.append(value.device)
                return _tensor, (np.zeros(0),)
            return super().reducer_override(value)

    Finder(io.BytesIO(), protocol=5, buffer_callback=lambda buffer: None).dump(value)
    return found[0] if found else torch.device("cpu")
