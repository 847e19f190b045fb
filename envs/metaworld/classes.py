"""All classes of Meta-World tasks by name."""

from __future__ import annotations

from collections.abc import Mapping

from metarl.envs.metaworld import pegs, picking, placing, reaching
from metarl.envs.metaworld.scene import Manipulation

MODULES = (reaching, picking, placing, pegs)

MANIPULATIONS: Mapping[str, type[Manipulation]] = {kind.name: kind for module in MODULES for kind in module.CLASSES}
