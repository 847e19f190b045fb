"""Families of few-shot tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from metarl.distribution import with_finite_set
from metarl.few_shot.shots import Shots, ShotSpaces
from metarl.tasks import TaskDistribution, read_options
from metarl.types import Task

Draw = Callable[[Sequence[Task], int, int, np.random.Generator], tuple[Shots, Shots]]
"""Maps tasks, shots, queries and a generator to the support and the queries, disjoint where examples are finite. Shots
and queries count per class in a classification. Shot after shot: the first n shots are a support of n shots."""


@dataclass(frozen=True, kw_only=True)
class FewShotFamily:
    """A task distribution and a source of examples: FAMILY in `metarl train LEARNER FAMILY`.

    Args:
        name: Name of the family, as on the command line, without options.
        summary: One line for `metarl list`.
        distribution: Distribution of its tasks.
        spaces: Sizes of the examples, with the shots and queries of training.
        draw: Draws examples.
        most_shots: Largest number of shots that can be drawn besides the queries, at least those of training; an oracle
            is fitted to them.
        unit: Unit of the error, for labels; empty for none.
    """

    name: str
    summary: str
    distribution: TaskDistribution
    spaces: ShotSpaces
    draw: Draw
    most_shots: int = 1000
    unit: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "most_shots", max(self.most_shots, self.spaces.shots))

    def with_finite_train_set(self, size: int) -> FewShotFamily:
        """The same family, its training tasks drawn from a fixed set of `size` (0: unchanged).

        Raises:
            ValueError: The family's training tasks are a fixed set already, or the set is too small.
        """
        return replace(self, distribution=with_finite_set(self.distribution, self.name, size))


def few_shot_options(family: str, argument: str, **defaults: int) -> tuple[str, dict[str, int]]:
    """Splits the text after a few-shot family's name into its subject and its options.

    The subject is a family or a folder, the part before the first option: `FOLDER,ways=5,shots=1`.

    Args:
        family: Name of the family, for messages.
        argument: The text after `FAMILY:`; may be empty.
        **defaults: Names and defaults of all options.

    Raises:
        ValueError: An option is unknown or repeated, or its value is no whole number from 1 to 10,000.
    """
    parts = argument.split(",")
    first = next((i for i, part in enumerate(parts) if part.partition("=")[0] in defaults), len(parts))
    most = dict.fromkeys(defaults, 10_000)
    return ",".join(parts[:first]), read_options(family, ",".join(parts[first:]), most, **defaults)
