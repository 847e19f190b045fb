"""Memory that processes share, without a name that could be left behind: it is gone with the last process."""

from __future__ import annotations

import mmap
import os
import tempfile
from multiprocessing.reduction import DupFd
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from metarl.workers.packed import Packed

ALIGNMENT = 64
"""Alignment of each array in shared memory, bytes."""


class SharedFile:
    """A nameless file in memory. Sent to a process that is being started, it is the same file there.

    Unlike named shared memory it needs no /dev/shm, which containers make small, and no clean-up.

    Args:
        descriptor: An open file; by default a new one.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        self.descriptor = _nameless_file() if descriptor is None else descriptor

    def __reduce__(self) -> Any:
        return _received, (DupFd(self.descriptor),)

    def duplicate(self) -> SharedFile:
        """The same file, to be closed separately."""
        return SharedFile(os.dup(self.descriptor))

    def content(self, start: int = 0) -> bytes:
        """The bytes from byte `start` on."""
        return os.pread(self.descriptor, max(os.fstat(self.descriptor).st_size - start, 0), start)

    def close(self) -> None:
        """Closes the file; memory that is mapped stays valid."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def _received(sent: Any) -> SharedFile:
    return SharedFile(sent.detach())


def _nameless_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("metarl", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:  # not Linux
        return os.dup(file.fileno())


class Letter(NamedTuple):
    """A packed value whose arrays are in a mailbox; it is sent through a pipe.

    Attributes:
        data: Everything but the arrays.
        spans: First byte and number of bytes of each array.
        end: First byte after them.
    """

    data: bytes
    spans: tuple[tuple[int, int], ...]
    end: int


class Mailbox:
    """Shared memory for arrays, written by one process and read by others; it grows as needed.

    Args:
        file: The shared file.
    """

    def __init__(self, file: SharedFile) -> None:
        self._file = file
        self._memory: mmap.mmap | None = None

    def write(self, packed: Packed, start: int = 0) -> Letter:
        """Copies the arrays of a packed value into the memory from byte `start` on."""
        spans, end = [], start
        for array in packed.arrays:
            end = -(-end // ALIGNMENT) * ALIGNMENT
            spans.append((end, array.nbytes))
            end += array.nbytes
        if end:
            if os.fstat(self._file.descriptor).st_size < end:
                os.ftruncate(self._file.descriptor, end)
            memory = self._mapped(end)
            for (first, size), array in zip(spans, packed.arrays, strict=True):
                memory[first : first + size] = array
        return Letter(packed.data, tuple(spans), end)

    def read(self, letter: Letter) -> Packed:
        """The packed value of a letter; its arrays are views of the memory."""
        memory = self._mapped(letter.end) if letter.end else memoryview(b"")
        return Packed(letter.data, [memory[first : first + size] for first, size in letter.spans])

    def _mapped(self, end: int) -> memoryview:
        """The memory, at least up to byte `end`."""
        if self._memory is None or len(self._memory) < end:
            self._memory = mmap.mmap(self._file.descriptor, os.fstat(self._file.descriptor).st_size)
        return memoryview(self._memory)


def shared_numbers(file: SharedFile, count: int) -> NDArray[np.int64]:
    """An array of `count` whole numbers in a shared file, zeros at first."""
    os.ftruncate(file.descriptor, 8 * count)
    return np.frombuffer(mmap.mmap(file.descriptor, 8 * count), dtype=np.int64)
