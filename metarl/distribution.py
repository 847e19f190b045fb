"""Interface of distributions: what training and evaluation ask of a distribution of tasks."""

from __future__ import annotations

from typing import Protocol, Self, runtime_checkable

import numpy as np

from metarl.parameters import Parameter
from metarl.types import Task


class TaskDistribution(Protocol):
    """A distribution of tasks, as training and evaluation use it."""

    @property
    def family(self) -> str:
        """Name of the family, as in its tasks."""
        ...

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """The declared parameters, hidden and visible."""
        ...

    @property
    def splits(self) -> bool:
        """Whether there are held-out tasks. If not, evaluation uses the training tasks, and its labels say so."""
        ...

    def sample(self, n: int, rng: np.random.Generator) -> list[Task]:
        """Draws `n` training tasks. None of them is held out, unless `splits` is False."""
        ...

    def train_tasks(self, n: int) -> list[Task]:
        """The first `n` training tasks (all, if there are fewer), the same at every call."""
        ...

    def held_out(self, n: int | None = None) -> list[Task]:
        """The first `n` held-out tasks; all by default, or if there are fewer."""
        ...


@runtime_checkable
class DrawnTasks(TaskDistribution, Protocol):
    """A distribution that draws training tasks at random, from a range or from a fixed set."""

    def with_finite_set(self, size: int) -> Self:
        """The same distribution, its training tasks drawn from a fixed set of `size`.

        Raises:
            ValueError: The set is too small for the distribution.
        """
        ...


def with_finite_set(distribution: TaskDistribution, family: str, size: int) -> TaskDistribution:
    """The same distribution, its training tasks drawn from a fixed set of `size` (0: unchanged).

    Args:
        distribution: The distribution.
        family: Name of the family, for messages.
        size: Number of training tasks.

    Raises:
        ValueError: The training tasks are a fixed set already, or the set is too small.
    """
    if not size:
        return distribution
    if not isinstance(distribution, DrawnTasks):
        raise ValueError(
            f"train_tasks: got {size}, but the training tasks of {family!r} are a fixed set already (or their "
            "distribution has no `with_finite_set`); use 0, and make an agent's replay large enough for all tasks"
        )
    return distribution.with_finite_set(size)
