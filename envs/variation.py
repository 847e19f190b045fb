"""Dynamics that differ from task to task, declared as data: which numbers of a MuJoCo model, changed how, by how much.

```python
Variation(
    Change("body_mass", Power(1.5, -3, 3), with_inertia=True),             # every mass by a factor of its own
    Change("geom_friction", Uniform(0.5, 2.0), elements=("floor",), columns=(0,)),
    Change("actuator_gear", Dead(train=(("hip",), ("knee",)), withheld=(("ankle",),))),
    Change("wind", Uniform(-20, 20), operation="set", elements=("x",)),
    constants={"density": 1.2},
)
```

A change becomes one parameter of the family's tasks, hidden from the agent and named after the field; its values are
what is drawn: the factors, summands or new values. `bind` checks a declaration against a model; `apply` writes
a task's values into a model of that kind and lets MuJoCo recompute what follows from them (`mj_setConst`: inverse
weights, subtree masses, ...; it leaves `qpos0` as it is).
"""

from __future__ import annotations

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
    warn_same_inertia,
    warn_unphysical,
    without_rounding,
)
from metarl.envs.task_sets import Choices, Factor
from metarl.tasks import Parameter
from metarl.types import Floats, Task


@dataclass(frozen=True)
class Field:
    """A field of MuJoCo's model that may vary.

    Args:
        elements: What it has an entry for: `body`, `geom`, `joint`, `dof`, `actuator`, `axis`, or `model` for
            a single number.
        derived: Whether other constants of the model follow from it.
        low: Lowest value that makes sense.
        above: Whether it has to lie above `low`.
    """

    elements: str
    derived: bool = False
    low: float = 0.0
    above: bool = False


FIELDS: Mapping[str, Field] = {
    "body_mass": Field("body", derived=True, above=True),
    "body_inertia": Field("body", derived=True, above=True),
    SECOND_MOMENT: Field("body", derived=True, above=True),
    "geom_friction": Field("geom"),
    "jnt_stiffness": Field("joint"),
    "dof_damping": Field("dof"),
    "dof_armature": Field("dof", derived=True),
    "dof_frictionloss": Field("dof"),
    "actuator_gear": Field("actuator", derived=True, low=-math.inf),
    "gravity": Field("axis", low=-math.inf),
    "wind": Field("axis", low=-math.inf),
    "density": Field("model"),
    "viscosity": Field("model"),
}
"""What a change may name. Wind acts only in a medium: set `density` or `viscosity` as well."""

MEDIUM = ("density", "viscosity")
"""Without one of them wind does nothing."""

OPERATIONS: Mapping[str, Callable[[Floats, Floats], Floats]] = {
    "scale": lambda base, value: base * value,
    "add": lambda base, value: base + value,
    "set": lambda base, value: np.broadcast_arrays(base, value)[1],
}


@dataclass(frozen=True)
class Change:
    """What varies in one field of the model.

    Args:
        field: Name of the field, one of `FIELDS`.
        distribution: Where a task's values come from.
        operation: What they do to the model's own: `scale`, `add`, or `set`.
        elements: Names of bodies, geoms, joints, actuators or axes (or their indices); all by default. A joint
            stands for its degrees of freedom, an actuator without a name goes by its joint's.
        columns: Which of an element's numbers, where it has several (friction: sliding, torsional, rolling);
            all by default.
        shared: One value for all of them, not one each.
        with_inertia: For `body_mass`: moments of inertia follow the mass in proportion, as those of a denser body do.
            With False a body of twice the mass turns as easily as before, as if the rest sat at its centre; so it does
            by default, with a warning where bodies turn and nothing else changes their inertia.
        unphysical: For `body_inertia`: take moments that no body has without a warning, as published tasks have them.

    Numbers that are 0 are left out of scaling, and the world body is never meant unless it is named.
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
    """How dynamics differ from task to task.

    Args:
        *changes: What varies, each in a field of its own.
        constants: Fields of the whole model (`density`, `viscosity`) to set to the same number in every task.

    Raises:
        ValueError: A field is unknown or named twice.
    """

    def __init__(self, *changes: Change, constants: Mapping[str, float] | None = None) -> None:
        self.changes, self.constants = changes, dict(constants or {})
        named = [change.field for change in changes]
        if len(set(named)) < len(named) or not named:
            raise ValueError(f"variation: got changes of {named}, expected at least one, each of a field of its own")
        for name in named:
            if name not in FIELDS:
                raise ValueError(f"variation: got field {name!r}, expected one of {', '.join(FIELDS)}")
        for change in changes:
            if isinstance(change.elements, str):
                raise ValueError(
                    f"variation of {change.field}: got elements {change.elements!r}, expected a tuple of names"
                )
            if change.operation not in OPERATIONS:
                raise ValueError(
                    f"variation of {change.field}: got operation {change.operation!r}, expected {', '.join(OPERATIONS)}"
                )
        follows = [change.field for change in changes if change.with_inertia]
        if set(follows) - {"body_mass"}:
            raise ValueError(f"variation of {follows[0]}: got with_inertia, expected it on body_mass only")
        if "body_inertia" in named and (follows or SECOND_MOMENT in named):
            other = "with_inertia" if follows else SECOND_MOMENT
            raise ValueError(f"variation: got body_inertia and {other}, expected one of them: both set the inertia")
        for name, value in self.constants.items():
            if name not in FIELDS or FIELDS[name].elements != "model" or name in named or not 0 <= value < math.inf:
                raise ValueError(
                    f"variation: got the constant {name!r} = {value!r}, expected density or viscosity of at least 0, "
                    "and not varied too"
                )

    def bind(self, model: Any) -> BoundVariation:
        """The declaration for a model and its copies.

        Raises:
            ValueError: The model has no such element, nothing of it would change, or a value would leave the
                range of its field.
        """
        return BoundVariation(model, self)


class BoundVariation:
    """A variation with its places in a model found and checked.

    Args:
        model: The model; its values are the base of every change. It is left as it is.
        variation: The declaration.
    """

    def __init__(self, model: Any, variation: Variation) -> None:
        self._constants = variation.constants
        self._places = [_Place(model, change) for change in variation.changes]
        # A place that multiplies the inertia writes after one that sets it.
        self._writing = sorted(self._places, key=lambda place: bool(place.change.with_inertia))
        self._inertia = model.body_inertia.copy()
        self._derived = any(FIELDS[change.field].derived for change in variation.changes)
        self._scratch = mujoco.MjData(model)
        fields = {change.field for change in variation.changes}
        media = [self._constants.get(name, getattr(model.opt, name)) for name in MEDIUM]
        if "wind" in fields and not fields & set(MEDIUM) and not any(media):
            raise ValueError(
                'variation of wind: got a model without a medium, expected one, such as constants={"density": 1.2}'
            )
        if not {"body_inertia", SECOND_MOMENT} & fields:
            for place in self._places:
                place.warn_of_inertia(model)

    @property
    def factors(self) -> tuple[Factor, ...]:
        """The parameters of the family's tasks, one per change."""
        return tuple(place.factor for place in self._places)

    def apply(self, model: Any, task: Task) -> None:
        """Writes a task's values into a model: `bind`'s own, or a copy of it.

        Raises:
            KeyError: The task has no values for a change.
            ValueError: It has another number of them.
        """
        for name, value in self._constants.items():
            setattr(model.opt, name, value)
        model.body_inertia[:] = self._inertia
        for place in self._writing:
            place.write(model, task)
        if self._derived:
            model.body_inertia[:] = without_rounding(model.body_inertia)
            mujoco.mj_setConst(model, self._scratch)


class _Place:
    """Where a change acts in a model, and what stands there."""

    def __init__(self, model: Any, change: Change) -> None:
        self.change, self.field = change, FIELDS[change.field]
        values = np.atleast_1d(_read(model, change.field))
        if not len(values):
            raise ValueError(f"{self._who}: got a model without any {self.field.elements}, expected at least one")
        table = values.reshape(len(values), -1)  # [elements, columns]
        self._names = _element_names(model, self.field.elements, len(table))
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
            raise ValueError(f"{self._who}: got scale for numbers that are all 0 and stay so, expected add or set")
        if change.with_inertia and not self.base.all():
            raise ValueError(f"{self._who}: got with_inertia for a body without mass, expected a mass to compare with")
        self.factor = self._make_factor()
        if isinstance(change.distribution, Uniform | Power):
            self._warn(model, table, change.distribution)

    @property
    def _who(self) -> str:
        return f"variation of {self.change.field}"

    def _find(self, elements: Sequence[str | int]) -> list[int]:
        """Indices of elements, which are given by name or by index."""
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
            raise ValueError(f"{self._who}: got Dead with another operation than scale or shared, expected neither")

        def factors(groups: tuple[tuple[str | int, ...], ...]) -> tuple[tuple[float, ...], ...]:
            for group in groups:
                if not group or not np.isin(self._find(group), self._rows).all():
                    raise ValueError(
                        f"{self._who}: got the dead group {group!r}, expected some of the elements it varies"
                    )
            return tuple(tuple(np.where(np.isin(self._rows, self._find(group)), 0.0, 1.0)) for group in groups)

        self._check(np.zeros(1))
        withheld = None if dead.withheld is None else factors(dead.withheld)
        return Choices(
            name=self.change.field, meaning=meaning, train=factors(dead.train), withheld=withheld, categorical=True
        )

    def _check(self, extremes: Floats) -> None:
        """Refuses values outside of the field's range, from the extremes of what is drawn."""
        reached = OPERATIONS[self.change.operation](self.base, extremes[:, None])
        lowest, low = float(reached.min()), self.field.low
        if lowest < low or (self.field.above and lowest <= low):
            bound = f"above {low:g}" if self.field.above else f"at least {low:g}"
            raise ValueError(f"{self._who}: got values down to {lowest:g}, expected {bound}")

    def _warn(self, model: Any, table: Floats, distribution: Uniform | Power) -> None:
        """Says what a change does not do as one may think, from the extremes of what is drawn."""
        ends = [table.copy(), table.copy()]
        for end, u in zip(ends, (0.0, 1.0), strict=True):
            drawn = distribution.values(np.array(u))
            end.reshape(-1)[self.index] = OPERATIONS[self.change.operation](self.base, drawn)
        low, high = (pick(*ends) for pick in (np.minimum, np.maximum))
        if self.change.field == "geom_friction":
            warn_without_effect(model, low, high)
        if self.change.field != "body_inertia" or self.change.unphysical:
            return
        if self.change.shared:  # all at one end, or all at the other
            broken = np.any([breaks_triangle(end, end) for end in ends], axis=0)
        else:
            broken = breaks_triangle(low, high)
        names = [self._names[i] or f"body {i}" for i in np.flatnonzero(broken) if i in self._rows]
        if names:
            warn_unphysical(", ".join(names))

    def warn_of_inertia(self, model: Any) -> None:
        """Says which bodies get another mass and keep their inertia, unless that is asked for."""
        if self.change.field == "body_mass" and self.change.with_inertia is None:
            turning = [self._names[i] or f"body {i}" for i in dict.fromkeys(self._rows) if turns(model, int(i))]
            if turning:
                warn_same_inertia(", ".join(turning))

    def write(self, model: Any, task: Task) -> None:
        """Puts the task's values into the model."""
        drawn = np.array(task[self.change.field])
        expected = 1 if self.change.shared else len(self.index)
        if len(drawn) != expected:
            raise ValueError(f"{self._who}: got {len(drawn)} values in a task, expected {expected}")
        values = OPERATIONS[self.change.operation](self.base, drawn)
        if self.field.elements == "model":
            setattr(model.opt, self.change.field, float(values[0]))
        elif self.change.field == SECOND_MOMENT:
            moments, rows = second_moments(model.body_inertia), np.unique(self._rows)
            moments.reshape(-1)[self.index] = values
            model.body_inertia[rows] = moments_of_inertia(moments[rows])
        else:
            _holder(model, self.change.field).reshape(-1)[self.index] = values
        if self.change.with_inertia:
            model.body_inertia[self._rows] *= (values / self.base)[:, None]


def _read(model: Any, field: str) -> np.ndarray:
    """A copy of the field's numbers."""
    return second_moments(model.body_inertia) if field == SECOND_MOMENT else np.array(_holder(model, field))


def _holder(model: Any, field: str) -> Any:
    """The field's numbers: a view into the model, or a single number."""
    return getattr(model.opt if FIELDS[field].elements in ("axis", "model") else model, field)


def _element_names(model: Any, kind: str, count: int) -> list[str]:
    if kind == "axis":
        return ["x", "y", "z"]
    if kind == "model":
        return [""]
    if kind == "dof":
        return [model.joint(model.dof_jntid[i]).name for i in range(count)]
    names = [getattr(model, kind)(i).name for i in range(count)]
    if kind == "actuator":
        drives_joint = model.actuator_trntype == mujoco.mjtTrn.mjTRN_JOINT
        joints = model.actuator_trnid[:, 0]
        names = [n or (model.joint(joints[i]).name if drives_joint[i] else "") for i, n in enumerate(names)]
    return names


def rand_params(*, published: bool = False) -> Variation:
    """The variation of the `*-rand-params` families, after rand_param_envs and oyster.

    Each mass, each second moment of a body's mass and each coefficient of friction times `1.5^U(-3, 3)`, each damping
    of a joint times `1.3^U(-3, 3)`, all independent.

    Args:
        published: Scale the components of inertia instead of the second moments, as the sources do: nearly every task
            then has bodies that no distribution of mass has, and whose XML MuJoCo's compiler refuses.
    """
    wide, narrow = Power(1.5, -3.0, 3.0), Power(1.3, -3.0, 3.0)
    return Variation(
        Change("body_mass", wide),
        Change("body_inertia", wide, unphysical=True) if published else Change(SECOND_MOMENT, wide),
        Change("geom_friction", wide),
        Change("dof_damping", narrow),
    )
