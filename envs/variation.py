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
factors, summands or new values. `bind` checks a declaration against a model. `apply` writes a task's values into such a
model and lets MuJoCo recompute the derived constants (`mj_setConst`: inverse weights, subtree masses and others, but
not `qpos0`).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import mujoco
import numpy as np

from metarl.envs.draws import Dead as Dead
from metarl.envs.draws import Power as Power
from metarl.envs.draws import Uniform as Uniform
from metarl.envs.friction import warn_without_effect
from metarl.envs.inertia import (
    SECOND_MOMENT,
    breaks_triangle,
    moments_of_inertia,
    second_moments,
    turns,
    without_rounding,
)
from metarl.envs.model_fields import FIELDS, MEDIUM, element_names, field_numbers, read_field
from metarl.envs.task_sets import Choices, Factor
from metarl.logs import warn_once
from metarl.tasks import Parameter
from metarl.types import Floats, Task

logger = logging.getLogger(__name__)

OPERATIONS: Mapping[str, Callable[[Floats, Floats], Floats]] = {
    "scale": lambda base, value: base * value,
    "add": lambda base, value: base + value,
    "set": lambda base, value: np.broadcast_arrays(base, value)[1],
}


@dataclass(frozen=True)
class Change:
    """A variation of one field of the model.

    Scaling skips numbers that are 0. The world body is skipped unless it is named.

    Args:
        field: Name of the field, one of `metarl.envs.model_fields.FIELDS`.
        distribution: Distribution of the values.
        operation: Use of a value: `scale` the model's number by it, `add` it, or `set` it.
        elements: Names or indices of bodies, geoms, joints, actuators or axes; all by default. A joint's name selects
            its degrees of freedom. An unnamed actuator has the name of its joint.
        columns: Column indices in fields with several numbers per element (friction: sliding, torsional, rolling);
            all by default.
        shared: Draw one value for all numbers instead of one for each.
        with_inertia: For `body_mass` only. True scales the moments of inertia with the mass, as for a denser body.
            False keeps them, as if the additional mass were a point mass at the centre. The default also keeps them,
            and warns if the body can rotate and no other change sets its inertia.
        unphysical: For `body_inertia` only. Do not warn about moments that violate the triangle inequality, which
            published tasks have.
    """

    field: str
    distribution: Uniform | Power | Dead
    operation: Literal["scale", "add", "set"] = "scale"
    elements: Sequence[str | int] = ()
    columns: tuple[int, ...] = ()
    shared: bool = False
    with_inertia: bool | None = None
    unphysical: bool = False


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
        named = [change.field for change in changes]
        if len(set(named)) < len(named) or not named:
            raise ValueError(f"variation: got changes of {named}, expected at least one, each of another field")
        for name in named:
            if name not in FIELDS:
                raise ValueError(f"variation: got field {name!r}, expected one of {', '.join(FIELDS)}")
        for change in changes:
            if isinstance(change.elements, str):
                raise ValueError(
                    f"variation of {change.field}: got elements {change.elements!r}, "
                    "expected a tuple of names or indices"
                )
            if change.operation not in OPERATIONS:
                raise ValueError(
                    f"variation of {change.field}: got operation {change.operation!r}, expected {', '.join(OPERATIONS)}"
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
        self._changes = [_BoundChange(model, change) for change in variation.changes]
        # A change that multiplies the inertia follows one that sets it.
        self._in_order = sorted(self._changes, key=lambda bound: bool(bound.change.with_inertia))
        self._inertia = model.body_inertia.copy()
        self._derived = any(FIELDS[change.field].derived for change in variation.changes)
        self._scratch = mujoco.MjData(model)
        fields = {change.field for change in variation.changes}
        media = [self._constants.get(name, getattr(model.opt, name)) for name in MEDIUM]
        if "wind" in fields and not fields & set(MEDIUM) and not any(media):
            raise ValueError(
                'variation of wind: got a model without a medium, expected one: pass constants={"density": 1.2}'
            )
        if not {"body_inertia", SECOND_MOMENT} & fields:
            for bound in self._changes:
                bound.warn_same_inertia(model)

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
        if self._derived:
            model.body_inertia[:] = without_rounding(model.body_inertia)
            mujoco.mj_setConst(model, self._scratch)


class _BoundChange:
    """A change with its indices into a model's field and the numbers there.

    Attributes:
        change: The declaration.
        field: The field that it changes.
        index: Flat indices of the changed numbers, `[R]`.
        base: The model's numbers there, `[R]`.
        factor: The task parameter.
    """

    def __init__(self, model: Any, change: Change) -> None:
        self.change, self.field = change, FIELDS[change.field]
        values = np.atleast_1d(read_field(model, change.field))
        if not len(values):
            raise ValueError(f"{self._who}: got a model without any {self.field.elements}, expected at least one")
        table = values.reshape(len(values), -1)  # [elements, columns]
        self._names = element_names(model, self.field.elements, len(table))
        chosen = np.zeros(table.shape, dtype=np.bool_)
        columns = list(change.columns) or list(range(table.shape[1]))
        if not all(0 <= column < table.shape[1] for column in columns):
            raise ValueError(f"{self._who}: got columns {change.columns}, expected numbers below {table.shape[1]}")
        by_default = range(self.field.elements == "body", len(table))
        chosen[np.ix_(self._find(change.elements) if change.elements else list(by_default), columns)] = True
        if change.operation == "scale":
            chosen &= table != 0.0
        self.index = np.flatnonzero(chosen)
        self.base = values.reshape(-1)[self.index]
        self._rows = self.index // table.shape[1]
        if not len(self.index):
            raise ValueError(f"{self._who}: got scale for numbers that are all 0, which has no effect; use add or set")
        if change.with_inertia and not self.base.all():
            raise ValueError(f"{self._who}: got with_inertia for a body without mass, expected a mass above 0")
        self.factor = self._make_factor()
        if isinstance(change.distribution, Uniform | Power):
            self._warn(model, table, change.distribution)

    @property
    def _who(self) -> str:
        return f"variation of {self.change.field}"

    def _find(self, elements: Sequence[str | int]) -> list[int]:
        """Indices of elements that are given by name or index."""
        found: list[int] = []
        for element in elements:
            rows = [i for i, name in enumerate(self._names) if element in (i, name)]
            if not rows:
                raise ValueError(
                    f"{self._who}: got element {element!r}, expected one of {', '.join(filter(None, self._names))}, "
                    f"or an index below {len(self._names)}"
                )
            found += rows
        return found

    def _make_factor(self) -> Factor:
        change, count = self.change, 1 if self.change.shared else len(self.index)
        what = {"scale": "factor on", "add": "added to", "set": "value of"}[change.operation]
        names = list(dict.fromkeys(self._names[i] for i in self._rows))
        of = ", ".join(names) if len(names) <= 3 else f"{len(names)} {self.field.elements} entries"
        each = ", the same for all" if change.shared and len(self.index) > 1 else ", each" if count > 1 else ""
        link = "along" if self.field.elements == "axis" else "of"
        meaning = f"{what} {change.field}{f' {link} {of}' if of else ''}{each}; {change.distribution}"
        if isinstance(change.distribution, Dead):
            return self._make_choices(change.distribution, meaning)
        self._check(np.array([change.distribution.values(np.array(u)) for u in (0.0, 1.0)]))
        return Parameter(
            name=change.field, meaning=meaning, hidden=True, variates=count, transform=change.distribution.values
        )

    def _make_choices(self, dead: Dead, meaning: str) -> Choices:
        if self.change.operation != "scale" or self.change.shared:
            raise ValueError(f"{self._who}: got Dead with shared or an operation other than scale, expected neither")

        def factors(groups: tuple[tuple[str | int, ...], ...]) -> tuple[tuple[float, ...], ...]:
            for group in groups:
                if not group or not np.isin(self._find(group), self._rows).all():
                    raise ValueError(
                        f"{self._who}: got the dead group {group!r}, expected one or more of the change's elements"
                    )
            return tuple(tuple(np.where(np.isin(self._rows, self._find(group)), 0.0, 1.0)) for group in groups)

        self._check(np.zeros(1))
        withheld = None if dead.withheld is None else factors(dead.withheld)
        return Choices(
            name=self.change.field, meaning=meaning, train=factors(dead.train), withheld=withheld, categorical=True
        )

    def _check(self, extremes: Floats) -> None:
        """Raises ValueError if the field becomes invalid at the extremes of the distribution."""
        reached = OPERATIONS[self.change.operation](self.base, extremes[:, None])
        lowest, low = float(reached.min()), self.field.low
        if lowest < low or (self.field.above and lowest <= low):
            bound = f"above {low:g}" if self.field.above else f"at least {low:g}"
            raise ValueError(f"{self._who}: got values down to {lowest:g}, expected {bound}")

    def _warn(self, model: Any, table: Floats, distribution: Uniform | Power) -> None:
        """Logs unexpected effects of a change at the extremes of its distribution."""
        ends = [table.copy(), table.copy()]
        for end, u in zip(ends, (0.0, 1.0), strict=True):
            drawn = distribution.values(np.array(u))
            end.reshape(-1)[self.index] = OPERATIONS[self.change.operation](self.base, drawn)
        low, high = (pick(*ends) for pick in (np.minimum, np.maximum))
        if self.change.field == "geom_friction":
            warn_without_effect(model, low, high)
        if self.change.field != "body_inertia" or self.change.unphysical:
            return
        if self.change.shared:  # all numbers reach the same end together
            broken = np.any([breaks_triangle(end, end) for end in ends], axis=0)
        else:
            broken = breaks_triangle(low, high)
        names = [self._names[i] or f"body {i}" for i in np.flatnonzero(broken) if i in self._rows]
        if names:
            warn_once(
                logger,
                f"variation of body_inertia: got unphysical moments for {', '.join(names)} in some tasks (one exceeds "
                f"the sum of the other two); vary {SECOND_MOMENT} instead, or set unphysical=True",
            )

    def warn_same_inertia(self, model: Any) -> None:
        """Logs the bodies that change their mass but not their inertia, unless `with_inertia` is set."""
        if self.change.field == "body_mass" and self.change.with_inertia is None:
            turning = [self._names[i] or f"body {i}" for i in dict.fromkeys(self._rows) if turns(model, int(i))]
            if turning:
                warn_once(
                    logger,
                    f"variation of body_mass: got another mass with the same inertia for {', '.join(turning)}, as if "
                    "the difference were a point mass at the centre; set with_inertia=True to scale the inertia too, "
                    "or with_inertia=False if this is intended",
                )

    def write(self, model: Any, task: Task) -> None:
        """Writes the task's values into the model; raises as `BoundVariation.apply`."""
        drawn = np.array(task[self.change.field])
        expected = 1 if self.change.shared else len(self.index)
        if len(drawn) != expected:
            raise ValueError(f"{self._who}: got a task with {len(drawn)} values, expected {expected}")
        values = OPERATIONS[self.change.operation](self.base, drawn)
        if self.field.elements == "model":
            setattr(model.opt, self.change.field, float(values[0]))
        elif self.change.field == SECOND_MOMENT:
            moments, rows = second_moments(model.body_inertia), np.unique(self._rows)
            moments.reshape(-1)[self.index] = values
            model.body_inertia[rows] = moments_of_inertia(moments[rows])
        else:
            field_numbers(model, self.change.field).reshape(-1)[self.index] = values
        if self.change.with_inertia:
            model.body_inertia[self._rows] *= (values / self.base)[:, None]


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
