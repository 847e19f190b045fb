"""N-way tasks: which of N classes an example belongs to, with classes withheld from training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from metarl.few_shot.shots import Shots
from metarl.parameters import Parameter
from metarl.tasks import HELD_OUT_SEED
from metarl.types import Floats, Task

HELD_OUT = 140
"""Number of held-out tasks."""
REPORTED = 100
"""Number of them that tables report on; settings are chosen by the others."""


@dataclass(frozen=True)
class ClassTasks:
    """Tasks of N classes each, in a random order, which is the order of the labels.

    Held-out tasks consist of withheld classes only, so no class of theirs is ever seen in training. They are drawn with
    a fixed seed, and may repeat if there are few sets of N classes.

    Args:
        family: Name of the family.
        ways: N.
        train: Indices of the classes for training.
        withheld: Indices of the withheld classes.

    Raises:
        ValueError: There are fewer classes than N, or a class is in both sets.
    """

    family: str
    ways: int
    train: tuple[int, ...]
    withheld: tuple[int, ...]
    splits: bool = field(default=True, init=False)
    reported: int = field(default=REPORTED, init=False)

    def __post_init__(self) -> None:
        fewest = min(len(self.train), len(self.withheld))
        if fewest < 2:
            raise ValueError(
                f"family {self.family!r}: got {len(self.train)} classes for training and {len(self.withheld)} that are "
                "held out, expected at least 2 of each"
            )
        if not 2 <= self.ways <= fewest:
            raise ValueError(
                f"family {self.family!r}: got ways={self.ways}, expected 2 to {fewest}: it has {len(self.train)} "
                f"classes for training and {len(self.withheld)} that are held out"
            )
        if both := set(self.train) & set(self.withheld):
            raise ValueError(
                f"family {self.family!r}: got {len(both)} classes that are withheld and trained on, expected none"
            )

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """The classes of a task, in the order of its labels."""
        meaning = f"indices of the {self.ways} classes; {len(self.train)} for training, {len(self.withheld)} held out"
        return (Parameter(name="classes", meaning=meaning, hidden=True, variates=self.ways, transform=_as_drawn),)

    def _tasks(self, classes: Sequence[int], n: int, rng: np.random.Generator) -> list[Task]:
        drawn = (rng.choice(np.array(classes), self.ways, replace=False) for _ in range(n))
        return [Task.of(self.family, classes=one.astype(np.float64)) for one in drawn]

    def sample(self, n: int, rng: np.random.Generator) -> list[Task]:
        """Draws `n` training tasks."""
        return self._tasks(self.train, n, rng)

    def train_tasks(self, n: int) -> list[Task]:
        """The first `n` training tasks, the same at every call."""
        return self._tasks(self.train, n, np.random.default_rng(0))

    @cached_property
    def _held_out(self) -> tuple[Task, ...]:
        rng = np.random.Generator(np.random.PCG64(HELD_OUT_SEED))
        return tuple(self._tasks(self.withheld, HELD_OUT, rng))

    def held_out(self, n: int | None = None) -> list[Task]:
        """The first `n` held-out tasks (all by default)."""
        return list(self._held_out[:n])


def _as_drawn(u: Floats) -> Floats:
    return u


def draw_of_classes(
    examples: Sequence[Floats], tasks: Sequence[Task], shots: int, queries: int, rng: np.random.Generator
) -> tuple[Shots, Shots]:
    """Support and queries of N-way tasks, without any example in both.

    Args:
        examples: The examples of each class by its index, `[n, *x_shape]` each.
        tasks: The tasks; `classes` are indices of `examples`.
        shots: Examples per class to adapt to.
        queries: Examples per class to predict.
        rng: Source of the choice.

    Returns:
        Support and queries, shot after shot: one example of each class, then the next of each.

    Raises:
        ValueError: A class has fewer examples.
    """
    count = shots + queries
    ways = len(tasks[0]["classes"])
    drawn = []
    for task in tasks:
        of_classes = [examples[int(index)] for index in task["classes"]]
        fewest = min(map(len, of_classes))
        if fewest < count:
            raise ValueError(
                f"family {task.family!r}: got {shots} shots and {queries} queries per class, expected at most {fewest} "
                "in total: a class has no more examples"
            )
        # [count, ways, *x_shape]
        drawn.append(np.stack([one[rng.choice(len(one), count, replace=False)] for one in of_classes], axis=1))
    x = np.stack(drawn).astype(np.float32)
    x = x.reshape(len(tasks), 1, count * ways, *x.shape[3:])
    y = np.broadcast_to(np.tile(np.eye(ways, dtype=np.float32), (count, 1)), (len(tasks), 1, count * ways, ways))
    both = Shots(x, np.ascontiguousarray(y), score_name="accuracy")
    edge = shots * ways
    return both.first(edge), Shots(both.x[:, :, edge:], both.y[:, :, edge:], score_name="accuracy")


def split_classes(count: int, share: float = 0.75) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Training and held-out classes of an unordered set: a fixed random split.

    Args:
        count: Number of classes.
        share: Share of the training classes.
    """
    order = np.random.Generator(np.random.PCG64(HELD_OUT_SEED)).permutation(count)
    edge = math.ceil(share * count)
    return tuple(sorted(map(int, order[:edge]))), tuple(sorted(map(int, order[edge:])))
