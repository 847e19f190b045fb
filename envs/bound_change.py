"""A change that is resolved and checked for one model."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from metarl.envs.changes import OPERATIONS, Change, Part
from metarl.envs.draws import Dead, Power, Uniform
from metarl.envs.friction import warn_without_effect
from metarl.envs.inertia import SECOND_MOMENT, breaks_triangle, moments_of_inertia, second_moments, turns
from metarl.envs.model_fields import FIELDS, element_names, field_numbers, read_field
from metarl.envs.selection import selected
from metarl.envs.task_sets import Choices, Factor
from metarl.logs import warn_once
from metarl.tasks import Parameter
from metarl.types import Floats, Task

logger = logging.getLogger(__name__)


class BoundChange:
    """A change with its indices into a model's field and the numbers there.

    Attributes:
        change: The declaration.
        field: The field that it changes.
        index: Flat indices of the changed numbers, `[R]`.
        base: The model's numbers there, `[R]`.
        factor: The task parameter.
        parts: The other fields that the same number changes.
    """

    def __init__(self, model: Any, change: Change) -> None:
        self.change, self.field, self._model = change, FIELDS[change.field], model
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
        self.parts = [BoundChange(model, _as_change(change, part)) for part in change.also]
        self.factor = self._make_factor()
        if isinstance(change.distribution, Uniform | Power):
            self._warn(model, table, change.distribution)

    @property
    def _who(self) -> str:
        return f"variation of {self.change.field}"

    def _find(self, elements: Sequence[str | int]) -> list[int]:
        """Indices of elements that are given by name, index, body or keyframe."""
        found: list[int] = []
        for element in elements:
            rows = [i for i, name in enumerate(self._names) if element in (i, name)]
            if not rows and isinstance(element, str):
                try:
                    rows = selected(self._model, self.field.elements, element)
                except ValueError as error:
                    raise ValueError(f"{self._who}: {error}") from error
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
        fields = " and ".join([change.field, *dict.fromkeys(part.field for part in change.also)])
        meaning = f"{what} {fields}{f' {link} {of}' if of else ''}{each}; {change.distribution}"
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
        self._write(model, drawn)
        for part in self.parts:
            part._write(model, drawn)

    def _write(self, model: Any, drawn: Floats) -> None:
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


def _as_change(change: Change, part: Part) -> Change:
    """The change of a part, by the same number."""
    return Change(
        part.field, change.distribution, part.operation, elements=part.elements, columns=part.columns, shared=True
    )
