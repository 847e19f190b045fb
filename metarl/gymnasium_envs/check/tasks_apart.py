"""Tasks that differ in a single parameter, and a test whether two tasks' numbers differ in distribution."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from metarl.tasks import ContinuousTasks, Family
from metarl.types import Floats, Task

ENUMERATED = 1000
"""Training tasks that are searched for two that differ in a single parameter."""
SPREAD_OUT = 50
"""Training tasks, and as many held-out tasks, that are searched for the most distant value of a parameter."""
LEVEL = 1e-4
"""Probability of a false difference between equal distributions, over all components."""


@dataclass(frozen=True)
class Part:
    """A parameter, or one component of it.

    Args:
        name: The parameter.
        component: Index of the component; None for the whole parameter.
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
    """All parameters, then all components of those with several."""
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
    """Up to `most` tasks that differ from `base` only in the part, the most distant first.

    If parameters are drawn independently, `base` gets the part of another task. Otherwise only enumerated tasks count,
    since a combined task may be impossible.
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
    picked = np.unique(np.linspace(0, len(near_last) // 2, most).astype(int))  # the most distant, and others too
    return [near_last[i] for i in picked]


def _alike(base: Task, other: Task, part: Part) -> bool:
    """Whether two tasks are equal apart from the part."""
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
    """Whether numbers from two tasks, under the same seeds, differ in distribution.

    If the numbers do not depend on the task, the two of a pair are exchangeable, even if random numbers are drawn in
    another order. Three tests: the mean of the paired differences; the rank correlation of differences and sums (equal
    variances; Pitman 1939, Morgan 1939); and the largest distance of the empirical distributions (Kolmogorov-Smirnov).

    Args:
        one: `[n]`, numbers from one task.
        two: `[n]`, numbers from the other, in the same order of seeds.
        comparisons: Number of comparisons made together (Bonferroni correction).
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
    """Relative increase of a normal quantile, for the heavier tails of few pairs."""
    return 8.0 / max(n, 2)


def _ranks(numbers: Floats) -> Floats:
    """Ranks `[n]`; equal numbers share their mean rank."""
    _, places, counts = np.unique(numbers, return_inverse=True, return_counts=True)
    ranks: Floats = (np.cumsum(counts) - (counts - 1) / 2.0)[places]
    return ranks
