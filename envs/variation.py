"""Dynamics that vary between tasks, declared as data: which numbers of a MuJoCo model change, how, and by how much.

```python
Variation(
    Change("body_mass", Power(1.5, -3, 3), with_inertia=True),             # an independent factor for every mass
    Change("geom_friction", Uniform(0.5, 2.0), elements=("floor",), columns=(0,)),
    Change("actuator_gear", Dead(train=(("hip",), ("knee",)), withheld=(("ankle",),))),
    Change("wind", Uniform(-20, 20), operation="set", elements=("x",)),
    constants={"density": 1.2},
)
```

Each change becomes one task parameter, hidden from the agent and named after the field. Its values are the drawn
factors, summands or new values; `also` couples several fields by one number. `bind` checks a declaration against a
model. `apply` writes a task's values into such a model and recomputes the derived constants
(`metarl.envs.derived_constants`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from metarl.envs.bound_change import BoundChange
from metarl.envs.changes import OPERATIONS
from metarl.envs.changes import Change as Change
from metarl.envs.changes import Part as Part
from metarl.envs.derived_constants import DerivedConstants
from metarl.envs.draws import Dead as Dead
from metarl.envs.draws import Power as Power
from metarl.envs.draws import Uniform as Uniform
from metarl.envs.inertia import SECOND_MOMENT, without_rounding
from metarl.envs.model_fields import FIELDS, MEDIUM
from metarl.envs.task_sets import Factor
from metarl.types import Task


class Variation:
    """Dynamics that vary between tasks.

    Args:
        *changes: The changes, each of another field.
        constants: Values of `density` and `viscosity` to set in all tasks.

    Raises:
        ValueError: No change is given, a field is unknown or named twice, or two changes contradict each other.
    """

    def __init__(self, *changes: Change, constants: Mapping[str, float] | None = None) -> None:
        self.changes, self.constants = changes, dict(constants or {})
        parts = [part for change in changes for part in change.parts]
        named = [part.field for part in parts]
        if len(set(named)) < len(named) or not named:
            raise ValueError(f"variation: got changes of {named}, expected at least one, each of another field")
        for name in named:
            if name not in FIELDS:
                raise ValueError(f"variation: got field {name!r}, expected one of {', '.join(FIELDS)}")
        for part in parts:
            if isinstance(part.elements, str):
                raise ValueError(
                    f"variation of {part.field}: got elements {part.elements!r}, expected a tuple of names or indices"
                )
            if part.operation not in OPERATIONS:
                raise ValueError(
                    f"variation of {part.field}: got operation {part.operation!r}, expected {', '.join(OPERATIONS)}"
                )
        if apart := [change.field for change in changes if change.also and not change.shared]:
            raise ValueError(
                f"variation of {apart[0]}: got other fields (also) without shared=True, expected one number for all"
            )
        follows = [change.field for change in changes if change.with_inertia]
        if set(follows) - {"body_mass"}:
            raise ValueError(f"variation of {follows[0]}: got with_inertia, expected it only for body_mass")
        if "body_inertia" in named and (follows or SECOND_MOMENT in named):
            other = "with_inertia" if follows else SECOND_MOMENT
            raise ValueError(f"variation: got body_inertia and {other}, expected one of them, since both set inertia")
        for name, value in self.constants.items():
            if name not in FIELDS or FIELDS[name].elements != "model" or name in named or not 0 <= value < math.inf:
                raise ValueError(
                    f"variation: got the constant {name!r} = {value!r}, expected density or viscosity of at least 0 "
                    "that no change varies"
                )

    def bind(self, model: Any) -> BoundVariation:
        """The variation for a given `MjModel` and its copies.

        Raises:
            ValueError: The model lacks an element, a change has no effect, or a value would be invalid for its field.
        """
        return BoundVariation(model, self)


class BoundVariation:
    """A variation that is resolved and checked for one model.

    Args:
        model: The `MjModel` whose values every change starts from; not modified.
        variation: The declaration.

    Raises:
        ValueError: See `Variation.bind`.
    """

    def __init__(self, model: Any, variation: Variation) -> None:
        self._constants = variation.constants
        self._changes = [BoundChange(model, change) for change in variation.changes]
        # A change that multiplies the inertia follows one that sets it.
        self._in_order = sorted(self._changes, key=lambda bound: bool(bound.change.with_inertia))
        self._inertia = model.body_inertia.copy()
        fields = {part.field for change in variation.changes for part in change.parts}
        self._derived = DerivedConstants(model) if any(FIELDS[name].derived for name in fields) else None
        media = [self._constants.get(name, getattr(model.opt, name)) for name in MEDIUM]
        if "wind" in fields and not fields & set(MEDIUM) and not any(media):
            raise ValueError(
                'variation of wind: got a model without a medium, expected one: pass constants={"density": 1.2}'
            )
        if not {"body_inertia", SECOND_MOMENT} & fields:
            for bound in self._changes:
                for part in (bound, *bound.parts):
                    part.warn_same_inertia(model)

    @property
    def factors(self) -> tuple[Factor, ...]:
        """The task parameters, one per change."""
        return tuple(bound.factor for bound in self._changes)

    def apply(self, model: Any, task: Task) -> None:
        """Writes a task's values into the model given to `bind`, or a copy of it.

        Raises:
            KeyError: The task lacks the parameter of a change.
            ValueError: The task has another number of values for a change.
        """
        for name, value in self._constants.items():
            setattr(model.opt, name, value)
        model.body_inertia[:] = self._inertia
        for bound in self._in_order:
            bound.write(model, task)
        if self._derived is not None:
            model.body_inertia[:] = without_rounding(model.body_inertia)
            self._derived.recompute(model)


def rand_params(*, published: bool = False) -> Variation:
    """The variation of the `*-rand-params` families, after rand_param_envs and oyster.

    Independent factors: `1.5^U(-3, 3)` on each body's mass, on each second moment of its mass and on each coefficient
    of friction, `1.3^U(-3, 3)` on the damping of each joint.

    Args:
        published: Scale the moments of inertia instead of the second moments of mass, as the sources do. Nearly every
            task then has unphysical bodies, whose XML MuJoCo's compiler would refuse.
    """
    wide, narrow = Power(1.5, -3.0, 3.0), Power(1.3, -3.0, 3.0)
    return Variation(
        Change("body_mass", wide),
        Change("body_inertia", wide, unphysical=True) if published else Change(SECOND_MOMENT, wide),
        Change("geom_friction", wide),
        Change("dof_damping", narrow),
    )
