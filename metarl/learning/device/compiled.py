"""Loops that are compiled for the CPU by Numba, and their threads.

A module of compiled functions is imported when its first sequence is learned from, since Numba takes 0.2 s to import.
It has all functions that its loops call: Numba's cache on disk looks at the time of one file only.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numba
import torch

from metarl.learning.device.process import end_idle_threads

FAST_MATH = {"contract", "reassoc", "nsz", "arcp"}
"""Freedoms of the compiler: products and sums may be fused and reordered. NaN and infinity stay what they are."""


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiles a function of arrays and numbers for the CPU when it is first called, without the interpreter lock.

    The machine code is kept beside the module, or in the user's cache folder if that is read-only; without either it is
    compiled anew in every process.
    """
    options: dict[str, Any] = {"nogil": True, "fastmath": FAST_MATH, "error_model": "numpy"}
    try:
        made: Callable[..., Any] = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # no folder can be written
        made = numba.njit(**options)(function)
    return made


@cache
def _threads(count: int) -> ThreadPoolExecutor:
    """Threads that wait for work."""
    return ThreadPoolExecutor(count, thread_name_prefix="metarl-compiled")


os.register_at_fork(after_in_child=_threads.cache_clear)  # threads do not survive a fork


def over_rows(loop: Callable[..., None], rows: int, together: int, *arguments: Any) -> None:
    """Calls `loop(first, last, *arguments)` for ranges of rows that cover all of them, on as many threads as torch has.

    Args:
        loop: A compiled function, whose results for a row do not depend on the range.
        rows: Number of rows.
        together: Rows that the loop computes at once; ranges are multiples of it.
        arguments: Further arguments.
    """
    blocks = -(-rows // together)
    parts = max(1, min(torch.get_num_threads(), blocks))
    ends = [min(rows, together * (blocks * part // parts)) for part in range(parts + 1)]
    if parts == 1:
        loop(0, rows, *arguments)
        return
    end_idle_threads()
    others = _threads(parts - 1)
    waiting = [others.submit(loop, *ends[part : part + 2], *arguments) for part in range(1, parts)]
    loop(0, ends[1], *arguments)
    for one in waiting:
        one.result()
