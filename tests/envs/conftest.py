"""Helpers that tests of environments share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest


@pytest.fixture
def numbers() -> Callable[[Any], dict[str, np.ndarray]]:
    """A function that returns every number of a model, its options and statistics, by name."""

    def read(model: Any) -> dict[str, np.ndarray]:
        found = {}
        for part in (model, model.opt, model.stat):
            for name in dir(part):
                value = None if name.startswith("_") else getattr(part, name)
                if isinstance(value, np.ndarray | float):
                    found[f"{type(part).__name__}.{name}"] = np.array(value)
        return found

    return read
