"""Task distributions that combine continuous parameters with parameters of a few discrete values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product

import numpy as np

from metarl.tasks import ContinuousTasks, DiscreteTasks, Parameter, TaskDistribution, balanced_choice
from metarl.types import Floats, Task


@dataclass(frozen=True, kw_only=True)
class Choices:
    """A hidden parameter with a few discrete values.

    Args:
        name: Key of the parameter in a `Task`.
        meaning: Description with unit.
        train: Values of training tasks.
        withheld: Values of held-out tasks; None if there are too few to hold any out.
        categorical: Whether values are labels rather than ordered numbers.
    """

    name: str
    meaning: str
    train: tuple[tuple[float, ...], ...]
    withheld: tuple[tuple[float, ...], ...] | None = None
    categorical: bool = False

    @property
    def parameter(self) -> Parameter:
        """The parameter's declaration. Tasks list its values, so it needs no random variates."""
        return Parameter(
            name=self.name,
            meaning=self.meaning,
            hidden=True,
            variates=0,
            transform=_unchanged,
            categorical=self.categorical,
        )


def _unchanged(u: Floats) -> Floats:
    return u


def _on_disc(radius: float, u: Floats) -> Floats:
    angle, distance = 2 * np.pi * u[:, 0], radius * np.sqrt(u[:, 1])
    return np.stack([distance * np.cos(angle), distance * np.sin(angle)], axis=1)


Factor = Parameter | Choices
"""A parameter in which the tasks of a family differ."""


def on_disc(name: str, radius: float, *, meaning: str, center: str) -> Parameter:
    """A hidden position, uniform on a disc: angle `2 pi u`, distance `radius sqrt(u')`.

    Args:
        name: Key of the parameter in a `Task`; its values are two coordinates.
        radius: Radius of the disc.
        meaning: Description with unit.
        center: Centre of the disc in words, for the description.
    """
    meaning = f"{meaning}; uniform on the disc of radius {radius:g} around {center}"
    return Parameter(name=name, meaning=meaning, hidden=True, variates=2, transform=partial(_on_disc, radius))


@dataclass(frozen=True)
class MixedTasks:
    """Tasks with continuous parameters and choices, in all combinations.

    A held-out task has a held-out continuous value and a withheld choice, if choices are withheld.

    Args:
        continuous: Distribution of the continuous parameters.
        discrete: Distribution of the choices, of the same family.
        finite: 0 to draw new continuous values each time; otherwise the size of a fixed set of training tasks, which
            combines a few continuous values with all choices (the last value perhaps with fewer).
    """

    continuous: ContinuousTasks
    discrete: DiscreteTasks
    finite: int = 0
    splits: bool = field(default=True, init=False)

    @property
    def family(self) -> str:
        """Name of the family."""
        return self.continuous.family

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """The continuous parameters, then the choices."""
        return self.continuous.parameters + self.discrete.parameters

    def _join(self, pairs: Sequence[tuple[Task, Task]]) -> list[Task]:
        return [Task(self.family, tuple(sorted(a.parameters + b.parameters))) for a, b in pairs]

    def with_finite_set(self, size: int) -> MixedTasks:
        """The same distribution with training tasks from a fixed set of `size`.

        Raises:
            ValueError: The set is smaller than the number of choices.
        """
        choices = len(self.discrete.train)
        if size < choices:
            names = ", ".join(p.name for p in self.discrete.parameters)
            raise ValueError(
                f"train_tasks: got {size}, but training tasks of {self.family!r} have {choices} values of {names}; "
                f"use {choices} or more, or 0 to draw new tasks each time"
            )
        return replace(self, continuous=self.continuous.with_finite_set(-(-size // choices)), finite=size)

    def sample(self, n: int, rng: np.random.Generator) -> list[Task]:
        """`n` training tasks with all choices equally often; from a finite set, all tasks equally often."""
        if self.finite:
            tasks = self.train_tasks(self.finite)
            return [tasks[i] for i in balanced_choice(len(tasks), n, rng)]
        return self._join(list(zip(self.continuous.sample(n, rng), self.discrete.sample(n, rng), strict=True)))

    def train_tasks(self, n: int) -> list[Task]:
        """The first `n` enumerated training tasks, or all of a smaller finite set; the same at every call."""
        most = min(n, self.finite) if self.finite else n
        return self._join(list(product(self.continuous.train_tasks(most), self.discrete.train))[:most])

    def held_out(self, n: int | None = None) -> list[Task]:
        """The first `n` held-out tasks (all by default), ordered by continuous value, then by choice."""
        return self._join(list(product(self.continuous.held_out(), self.discrete.held_out()))[:n])


def combined_tasks(family: str, factors: Sequence[Factor]) -> TaskDistribution:
    """The distribution of tasks that vary in all the given parameters.

    Args:
        family: Name of the family.
        factors: The parameters, with distinct names.

    Raises:
        ValueError: No parameter is given, or two have the same name.
    """
    names = [factor.name for factor in factors]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"family {family!r}: got parameters {names}, expected at least one, with distinct names")
    continuous = ContinuousTasks(family, tuple(f for f in factors if isinstance(f, Parameter)))
    choices = [f for f in factors if isinstance(f, Choices)]
    if not choices:
        return continuous

    def grid(values: Sequence[tuple[tuple[float, ...], ...]]) -> tuple[Task, ...]:
        return tuple(
            Task.of(family, **{c.name: v for c, v in zip(choices, point, strict=True)}) for point in product(*values)
        )

    discrete = DiscreteTasks(
        family,
        tuple(c.parameter for c in choices),
        train=grid([c.train for c in choices]),
        withheld=grid([c.withheld or c.train for c in choices]) if any(c.withheld for c in choices) else None,
    )
    return MixedTasks(continuous, discrete) if continuous.parameters else discrete
