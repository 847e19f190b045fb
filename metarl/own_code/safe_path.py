"""Starts processes without the working folder at the head of `sys.path`.

`multiprocessing` starts its helpers with `python -c`, which searches the working folder first: a file `random.py` there
would break them, and a `numpy.py` would run although the user did not name it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

VARIABLE = "PYTHONSAFEPATH"


@contextlib.contextmanager
def safe_path() -> Iterator[None]:
    """Python processes started in this context do not search the working folder first."""
    if VARIABLE in os.environ:
        yield
        return
    os.environ[VARIABLE] = "1"
    try:
        yield
    finally:
        os.environ.pop(VARIABLE, None)
