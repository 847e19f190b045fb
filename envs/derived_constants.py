"""The constants that MuJoCo derives from a model's masses, inertias, armatures and gears.

`mj_setConst` recomputes them: inverse weights, subtree masses, lengths and accelerations of actuators, and others, as
the compiler does. MuJoCo 3.3.0 also overwrites numbers that do not follow from masses: the `<statistic>` of the XML,
and the second anchor of connect and weld constraints, which may have been set after compilation. These are kept here.
"""

from __future__ import annotations

import copy
from typing import Any

import mujoco
import numpy as np

VIEW = ("center", "extent", "meansize")
"""Statistics that cameras and pictures use; no physics depends on them."""
PHYSICAL = ("meanmass", "meaninertia")
"""Statistics that follow from masses, unless the XML sets them; the solver's tolerance is relative to `meaninertia`."""


class DerivedConstants:
    """Recomputes the derived constants of copies of a model.

    Args:
        model: The `MjModel`, as it was loaded; not modified.
    """

    def __init__(self, model: Any) -> None:
        self._scratch = mujoco.MjData(model)
        self._eq_data = model.eq_data.copy()
        plain = copy.copy(model)
        mujoco.mj_setConst(plain, self._scratch)
        kept = [*VIEW, *(name for name in PHYSICAL if getattr(plain.stat, name) != getattr(model.stat, name))]
        self._stat = {name: np.array(getattr(model.stat, name)) for name in kept}

    def recompute(self, model: Any) -> None:
        """Recomputes the constants of a copy of the model, whose anchors and statistics of the XML stay."""
        mujoco.mj_setConst(model, self._scratch)
        model.eq_data[:] = self._eq_data
        for name, value in self._stat.items():
            setattr(model.stat, name, value if value.ndim else float(value))
