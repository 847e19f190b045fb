"""Seconds and memory of a call, on whatever device it works."""

from __future__ import annotations

import contextlib
import ctypes
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from metarl.learning.device.gpu import one_by_one

STATUS = Path("/proc/self/status")
PEAK_RESET = Path("/proc/self/clear_refs")


class Stopwatch:
    """Seconds of a call, all work on the device included.

    Args:
        device: Where the work is done.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def __call__(self, work: Callable[[], Any]) -> float:
        """How long `work` takes."""
        self._wait()
        clock = time.perf_counter()
        work()
        self._wait()
        return time.perf_counter() - clock

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


def peak_mib(device: torch.device, work: Callable[[], Any]) -> float | None:
    """How far the memory in use rises above what it was before, in MiB; None where the system does not tell."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        with one_by_one():  # a replay takes the same memory, but took it when it was recorded
            work()
        torch.cuda.synchronize(device)
        return (torch.cuda.max_memory_allocated(device) - before) / 2**20
    try:
        used_before = used_mib()
        PEAK_RESET.write_text("5")
        work()
        return status_kib("VmHWM") / 1024 - used_before
    except OSError:
        work()
        return None


def used_mib() -> float:
    """Memory of this process that is in use, in MiB.

    Raises:
        OSError: The system does not tell.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)  # what was freed counts as in use until it is given back
    return status_kib("VmRSS") / 1024


def status_kib(name: str) -> int:
    """A figure of this process in KiB, as Linux reports it: `VmRSS` (memory in use), `VmHWM` (its peak)."""
    (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith(name))
    return int(line.split()[1])
