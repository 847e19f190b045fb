"""All task classes of Meta-World by name."""

from __future__ import annotations

import importlib
from collections.abc import Mapping

from metarl.envs.metaworld.scene import Manipulation

MODULES = (
    "buttons",
    "coffee",
    "doors",
    "drawers_and_windows",
    "handles",
    "pegs",
    "picking",
    "placing",
    "plates",
    "pushing",
    "reaching",
    "sticks",
    "sweeping",
    "tools",
    "turning",
)
"""Modules of this package that define task classes, each with a tuple `CLASSES`."""

MANIPULATIONS: Mapping[str, type[Manipulation]] = {
    kind.name: kind for module in MODULES for kind in importlib.import_module(f"metarl.envs.metaworld.{module}").CLASSES
}
