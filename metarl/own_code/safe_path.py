"""Starts processes without the working folder at the head of `sys.path`.

`multiprocessing` starts its helpers with `python -c`, which searches the working folder first: a file `random.py` there
would break them, and a `numpy.py` that the user did not name would run.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

VARIABLE = "PYTHONSAFEPATH"
MARK = "metarl"
"""Value of the variable if this module has set it."""


@contextlib.contextmanager
def safe_path() -> Iterator[None]:
    """Python processes started within it search no working folder; undone there by `forget_safe_path`."""
    if VARIABLE in os.environ:
        yield
        return
    os.environ[VARIABLE] = MARK
    try:
        yield
    finally:
        os.environ.pop(VARIABLE, None)


def forget_safe_path() -> None:
    """Called in such a process, lets the processes that it starts find modules as usual."""
    if os.environ.get(VARIABLE) == MARK:
        del os.environ[VARIABLE]
