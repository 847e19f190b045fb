"""The global random generators of Python and NumPy, which the user's code may use; metarl uses none."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

import numpy as np


@contextlib.contextmanager
def global_generators_kept(seed: int | None = None) -> Iterator[None]:
    """Restores the global generators of Python and NumPy at the end of the context.

    Args:
        seed: Seed for both within the context, below 2^32; None leaves them as they are.
    """
    pythons, numpys = random.getstate(), np.random.get_state()  # noqa: NPY002
    if seed is not None:
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(pythons)
        np.random.set_state(numpys)  # noqa: NPY002
