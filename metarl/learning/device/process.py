"""Settings of this process: memory that is freed is kept, and NumPy's matrix library uses one thread."""

from __future__ import annotations

import contextlib
import ctypes
from functools import cache

from threadpoolctl import ThreadpoolController

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of mallopt, from malloc.h of the GNU C library."""
NEVER = 2**31 - 1
"""Bytes from which that library would act."""


def keep_freed_memory() -> None:
    """Lets this process keep the memory that it frees for its next arrays, where the C library is GNU's.

    By default large arrays come from the system and go back to it, and each page of the next one is a fault.
    """
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(M_TRIM_THRESHOLD, NEVER)
        library.mallopt(M_MMAP_THRESHOLD, NEVER)


@cache
def matrix_library() -> ThreadpoolController:
    """NumPy's. Threads of it that are done keep the cores busy for a while, when it is the turn of torch's."""
    return ThreadpoolController().select(user_api="blas")
