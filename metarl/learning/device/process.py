"""Settings of this process: keep freed memory, and control the threads of torch and of NumPy's BLAS."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable, Iterator
from functools import cache

import torch
from threadpoolctl import ThreadpoolController

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of mallopt, from malloc.h of glibc."""
OMP_PAUSE_SOFT = 1
"""Argument of omp_pause_resource_all, from omp.h: threads end, and settings stay."""
NEVER = 2**31 - 1
"""A threshold in bytes that no allocation reaches."""


def keep_freed_memory() -> None:
    """Makes glibc's malloc keep freed memory for the next arrays; does nothing with another C library.

    By default malloc returns large arrays to the system, and the next array pays a page fault for every page.
    """
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(M_TRIM_THRESHOLD, NEVER)
        library.mallopt(M_MMAP_THRESHOLD, NEVER)


@cache
def matrix_library() -> ThreadpoolController:
    """Controller of NumPy's BLAS threads. After a product they spin for a while, on cores that torch needs."""
    return ThreadpoolController().select(user_api="blas")


@cache
def _pauses() -> tuple[Callable[[int], int], ...]:
    """The function `omp_pause_resource_all` of each OpenMP library in this process that has it (OpenMP 5.0)."""
    libraries = ThreadpoolController().select(user_api="openmp").info()
    found = (getattr(ctypes.CDLL(one["filepath"]), "omp_pause_resource_all", None) for one in libraries)
    return tuple(function for function in found if function is not None)


def end_idle_threads() -> None:
    """Ends the idle threads of OpenMP, which torch starts again in some 30 us when it needs them.

    After each parallel operation they spin for several milliseconds (libgomp), on the cores that compiled loops need.
    """
    for pause in _pauses():
        pause(OMP_PAUSE_SOFT)


@contextlib.contextmanager
def threads(number: int) -> Iterator[None]:
    """Limits the threads of torch and of NumPy's products; idle ones would spin on the cores that step the physics."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        with matrix_library().limit(limits=number):
            yield
    finally:
        torch.set_num_threads(before)
