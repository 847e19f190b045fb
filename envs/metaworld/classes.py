"""All classes of Meta-World tasks by name."""

from __future__ import annotations

from collections.abc import Mapping

from metarl.envs.metaworld import (
    buttons,
    coffee,
    doors,
    drawers_and_windows,
    handles,
    pegs,
    picking,
    placing,
    plates,
    pushing,
    reaching,
    sticks,
    sweeping,
    tools,
    turning,
)
from metarl.envs.metaworld.scene import Manipulation

MODULES = (
    buttons,
    coffee,
    doors,
    drawers_and_windows,
    handles,
    pegs,
    picking,
    placing,
    plates,
    pushing,
    reaching,
    sticks,
    sweeping,
    tools,
    turning,
)

MANIPULATIONS: Mapping[str, type[Manipulation]] = {kind.name: kind for module in MODULES for kind in module.CLASSES}
