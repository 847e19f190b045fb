"""Tasks that differ in a single thing, and whether numbers drawn under two tasks can be told apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from metarl.tasks import ContinuousTasks, Family
from metarl.types import Floats, Task

ENUMERATED = 1000
"""Training tasks that are looked through for two that differ in a single parameter."""
SPREAD_OUT = 50
"""Training and held-out tasks, of each, among which the farthest value of a parameter is looked for."""
LEVEL = 1e-4
"""Probability of telling two equal distributions apart by mistake, over all components."""


@dataclass(frozen=True)
class Part:
    """A parameter, or one component of it.

    Args:
        name: The parameter.
        component: Which number of it; None for the whole.
    """

    name: str
    component: int | None = None

    def __str__(self) -> str:
        return self.name if self.component is None else f"{self.name}[{self.component}]"

    def of(self, task: Task) -> Floats:
        """The value in a task."""
        values = np.asarray(task[self.name], dtype=np.float64).reshape(-1)
        return values if self.component is None else values[self.component : self.component + 1]


def parts_of(task: Task) -> list[Part]:
    """Every parameter, then every component of those that have several."""
    wholes = [Part(name) for name, _ in task.parameters]
    return wholes + [Part(n, i) for n, values in task.parameters if len(values) > 1 for i in range(len(values))]


def mixed(family: Family, base: Task, other: Task, parts: Sequence[Part]) -> Task:
    """`base` with the given parts of `other`."""
    values = {name: list(v) for name, v in base.parameters}
    theirs = dict(other.parameters)
    for part in parts:
        if part.component is None:
            values[part.name] = list(theirs[part.name])
        else:
            values[part.name][part.component] = theirs[part.name][part.component]
    return Task.of(family.distribution.family, **values)


def partners(family: Family, base: Task, part: Part, most: int) -> list[Task]:
    """Up to `most` tasks that differ from `base` in the part alone, the farthest first; none where there is none.

    Where parameters are drawn independently, the part of another task is put into `base`. Otherwise they are looked
    for among the enumerated tasks, since a task put together may be one that is never drawn.
    """
    tasks = family.distribution
    if isinstance(tasks, ContinuousTasks):
        others = [*tasks.held_out(SPREAD_OUT), *tasks.train_tasks(SPREAD_OUT)]
        found = [mixed(family, base, other, [part]) for other in others]
    else:
        found = [t for t in [*tasks.held_out(), *tasks.train_tasks(ENUMERATED)] if _alike(base, t, part)]
    far = {t: float(np.abs(part.of(t) - part.of(base)).sum()) for t in found}
    near_last = sorted((t for t in far if far[t] > 0), key=lambda t: -far[t])
    if len(near_last) <= most:
        return near_last
    picked = np.unique(np.linspace(0, len(near_last) // 2, most).astype(int))  # the farthest, and not only its like
    return [near_last[i] for i in picked]


def _alike(base: Task, other: Task, part: Part) -> bool:
    """Whether two tasks agree in all but the part."""
    mine, theirs = dict(base.parameters), dict(other.parameters)
    if mine.keys() != theirs.keys():
        return False
    for name in mine:
        a, b = list(mine[name]), list(theirs[name])
        if name == part.name and part.component is None:
            continue
        if name == part.name and len(a) == len(b) and part.component is not None:
            a[part.component] = b[part.component]
        if a != b:
            return False
    return True


# Two samples ----------------------------------------------------------------------------------------------


def told_apart(one: Floats, two: Floats, comparisons: int = 1) -> bool:
    """Whether numbers `[n]` drawn under one task and, by the same seeds, another can be told apart.

    If the task is not in the numbers, the two of a pair can change places without a difference, also where they come
    of random numbers drawn in another order. Three tests of that: the mean of the pairs' differences, the correlation
    of differences and sums (Pitman 1939, Morgan 1939: equal variances), by ranks, and the largest distance of the
    empirical distributions (Kolmogorov and Smirnov).

    Args:
        one: `[n]`.
        two: `[n]`.
        comparisons: How many such comparisons are made together.
    """
    n, gap, total = len(one), one - two, one + two
    if n < 2 or not gap.any():
        return bool(n == 1 and gap.any())
    level = LEVEL / max(comparisons, 1) / 3.0
    bar = NormalDist().inv_cdf(1.0 - level / 2.0) * (1.0 + bar_slack(n))
    deviation = float(gap.std(ddof=1))
    if deviation <= 1e-9 * float(np.abs(gap).max()) or abs(float(gap.mean())) > bar * deviation / math.sqrt(n):
        return True
    spread = float(total.std(ddof=1))
    if spread > 0 and n > 3:
        r = float(np.corrcoef(_ranks(gap), _ranks(total))[0, 1])
        if abs(r) >= 1.0 - 1e-12 or abs(math.atanh(r)) * math.sqrt(n - 3) > bar:
            return True
    grid = np.sort(np.concatenate([one, two]))
    heights = [np.searchsorted(np.sort(x), grid, side="right") / n for x in (one, two)]
    return float(np.abs(heights[0] - heights[1]).max()) > math.sqrt(-math.log(level / 2.0) / n)


def bar_slack(n: int) -> float:
    """By how much a bar taken from the normal distribution is raised for the heavier tails of few pairs."""
    return 8.0 / max(n, 2)


def _ranks(numbers: Floats) -> Floats:
    """Ranks `[n]`, equal numbers sharing one."""
    _, places, counts = np.unique(numbers, return_inverse=True, return_counts=True)
    ranks: Floats = (np.cumsum(counts) - (counts - 1) / 2.0)[places]
    return ranks
