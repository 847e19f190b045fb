"""Processes that start without the working folder at the head of their path.

`multiprocessing` starts its helpers by `python -c`, which takes modules from the working folder first: a `random.py`
there would end them, and a `numpy.py` that nobody named would run.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

VARIABLE = "PYTHONSAFEPATH"
MARK = "metarl"
"""Its value where it is ours to take away again."""


@contextlib.contextmanager
def safe_path() -> Iterator[None]:
    """Python processes that start meanwhile leave the working folder out of their path, see `forget_safe_path`."""
    if VARIABLE in os.environ:
        yield
        return
    os.environ[VARIABLE] = MARK
    try:
        yield
    finally:
        os.environ.pop(VARIABLE, None)


def forget_safe_path() -> None:
    """In such a process: those that it starts in turn find modules as usual."""
    if os.environ.get(VARIABLE) == MARK:
        del os.environ[VARIABLE]
