"""Time and peak memory of a call, on a CPU or a GPU."""

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
    """Measures the seconds of a call, including all work that it starts on the device.

    Args:
        device: Device of the work.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def __call__(self, work: Callable[[], Any]) -> float:
        """Seconds of `work`."""
        self._wait()
        clock = time.perf_counter()
        work()
        self._wait()
        return time.perf_counter() - clock

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


def peak_mib(device: torch.device, work: Callable[[], Any]) -> float | None:
    """Increase of the memory in use during a call, in MiB; None if the platform does not report it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        with one_by_one():  # a recorded graph holds its memory already
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
    """Memory in use by this process, in MiB.

    Raises:
        OSError: The platform does not report it.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)  # freed memory counts as in use until it is returned to the system
    return status_kib("VmRSS") / 1024


def status_kib(name: str) -> int:
    """A figure of this process in KiB, as Linux reports it: `VmRSS` (memory in use), `VmHWM` (its peak)."""
    (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith(name))
    return int(line.split()[1])
