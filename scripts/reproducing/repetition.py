"""Does a repetition of trainings agree with the first ones? Differences of two tables on the same tasks.

An honest repetition has other trainings: other seeds, or the same seeds on another processor or version, where rounding
makes them drift apart. Tasks and evaluation are the same on both sides, so that a task's difficulty cancels in the
difference, and its error comes from the trainings alone: the variance of the seeds' means, over all tasks. Under the
hypothesis that nothing has changed it is the same on both sides, so that both estimate it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import digamma, polygamma, stdtrit

from metarl.comparison import share_of_the_gap
from metarl.intervals import Interval, Spread
from metarl.types import Floats

FALSE_ALARM = 0.05
"""Probability at most that a number of an honest repetition's table is not met, over the whole table."""
FEWEST_ROWS = 5
"""Fewest rows from which a typical variance of the seeds is estimated."""
ROUNDING = 1e-5
"""Relative difference of scores that counts as none; tables store six digits."""
LARGEST = 1e4
"""Degrees of freedom of a typical variance that count as infinite."""


@dataclass(frozen=True)
class Twice:
    """Scores of a row in two tables, on the same tasks.

    Args:
        docs: In the docs, `[seed, task]`.
        fresh: Now, `[seed, task]`; without seeds for a row that is only in the docs.
        equal: Number of fresh seeds that have the same scores in the docs.
    """

    docs: Floats
    fresh: Floats
    equal: int = 0

    @property
    def repeated(self) -> bool:
        """Whether all fresh scores are those of the docs."""
        return 0 < self.equal == len(self.fresh)

    @property
    def means(self) -> tuple[float, float]:
        """The mean of the docs, and the fresh one."""
        return float(self.docs.mean()), float(self.fresh.mean())

    @property
    def pooled(self) -> float:
        """The mean over the trainings of both sides."""
        return float(np.concatenate([self.docs, self.fresh]).mean())

    @property
    def trainings(self) -> float:
        """Variance of the difference of the means, per variance of a training."""
        return 1.0 / len(self.docs) + 1.0 / len(self.fresh)

    @property
    def degrees(self) -> int:
        """Degrees of freedom of the variance of a training: 0 for a single training on each side."""
        return sum(max(len(side) - 1, 0) for side in (self.docs, self.fresh))

    def variance(self) -> float:
        """Variance of a training's mean, pooled over both sides; 0 without degrees of freedom."""
        squares = sum(len(side) * float(side.mean(axis=1).var()) for side in (self.docs, self.fresh) if len(side))
        return squares / max(self.degrees, 1)

    def least(self) -> float:
        """A lower bound of this variance: that of single cells by the number of tasks, and rounding.

        The mean of a training varies at least as much as that of independent cells. Unlike the variance between
        trainings, it is known from many cells, and it is not zero if only some cells differ.
        """
        both = np.concatenate([self.docs, self.fresh])
        seeds, tasks = both.shape
        rounding = (ROUNDING * float(np.abs(both).max())) ** 2
        if min(seeds, tasks) < 2:
            return rounding
        rest = both - both.mean(axis=1, keepdims=True) - both.mean(axis=0) + both.mean()
        return max(float((rest**2).sum()) / ((seeds - 1) * (tasks - 1)) / tasks, rounding)


def typical(variances: Floats, degrees: Floats) -> tuple[float, float]:
    """The typical variance of some rows, and how many degrees of freedom it is worth for each of them.

    Variances are taken as drawn from a scaled inverse chi-squared distribution, fitted to the moments of their
    logarithms (Smyth 2004, doi:10.2202/1544-6115.1027, section 6.2). The more they differ, the fewer degrees.

    Args:
        variances: One per row, positive.
        degrees: Their degrees of freedom, positive.

    Returns:
        The variance, and its degrees of freedom; both 0 for fewer than `FEWEST_ROWS` rows.
    """
    if len(variances) < FEWEST_ROWS:
        return 0.0, 0.0
    logs = np.log(variances) - digamma(degrees / 2.0) + np.log(degrees / 2.0)
    excess = float(logs.var(ddof=1) - polygamma(1, degrees / 2.0).mean())

    def beyond(log_degrees: float) -> float:
        return float(polygamma(1, np.exp(log_degrees) / 2.0)) - excess

    if beyond(np.log(LARGEST)) >= 0.0:
        return float(np.exp(logs.mean())), LARGEST
    worth = float(np.exp(brentq(beyond, np.log(1e-3), np.log(LARGEST)))) if beyond(np.log(1e-3)) > 0.0 else 1e-3
    return float(np.exp(logs.mean() + digamma(worth / 2.0) - np.log(worth / 2.0))), worth


def training_errors(rows: Mapping[str, Twice]) -> dict[str, Spread]:
    """Variance of a training's mean for each row of a table, with its degrees of freedom.

    With few trainings a row's own variance is often far too small by accident. It is raised to its average with the
    typical variance of all rows, weighted by degrees of freedom, and to `Twice.least`. It is never lowered.

    Args:
        rows: The rows by name, all of the same quantity.

    Returns:
        By name; without degrees of freedom for a row with a single training on each side.
    """
    own, degrees = np.array([row.variance() for row in rows.values()]), [row.degrees for row in rows.values()]
    known = (own > 0.0) & (np.array(degrees, dtype=np.int64) > 0)
    usual, worth = typical(own[known], np.array(degrees, dtype=np.float64)[known])
    together = float(np.sum(degrees))
    found = {}
    for (name, row), variance, free in zip(rows.items(), own, degrees, strict=True):
        averaged = (worth * usual + free * variance) / (worth + free) if free else 0.0
        wide = max(float(variance), averaged, row.least())
        found[name] = Spread(np.array(wide), np.array(min(free + worth, together) if free else 0.0))
    return found


def difference(
    weights: Mapping[str, float], rows: Mapping[str, Twice], errors: Mapping[str, Spread], numbers: int
) -> Interval:
    """A weighted sum of rows, fresh minus docs, with an interval that holds zero for an honest repetition.

    All such intervals of a table together hold zero with a probability of at least 1 - `FALSE_ALARM` (Bonferroni).

    Args:
        weights: Weights of the rows, by their names.
        rows: The rows.
        errors: Those of `training_errors`.
        numbers: Numbers that are compared in the table.

    Returns:
        The interval. Every row needs degrees of freedom.
    """
    change = 0.0
    for name, weight in weights.items():
        docs, fresh = rows[name].means
        change += weight * (fresh - docs)
    parts = [
        Spread(weight**2 * rows[name].trainings * errors[name].variance, errors[name].degrees)
        for name, weight in weights.items()
    ]
    total = Spread.total(parts)
    half = float(stdtrit(total.degrees, 1.0 - FALSE_ALARM / (2.0 * numbers)) * np.sqrt(total.variance))
    return Interval(change, change - half, change + half)


def share_weights(
    agent: str, low: str, high: str, rows: Mapping[str, Twice], errors: Mapping[str, Spread]
) -> dict[str, float] | None:
    """Weights of an agent and its references in the share of the gap, by the delta method.

    The share and the gap are those of all trainings of both sides.

    Args:
        agent: The agent's row.
        low: The row that has the share 0.
        high: The row that has the share 1.
        rows: The rows.
        errors: Those of `training_errors`; every row needs degrees of freedom.

    Returns:
        By name; None if the gap may be zero.
    """
    gap = rows[high].pooled - rows[low].pooled
    trainings = {end: len(rows[end].docs) + len(rows[end].fresh) for end in (low, high)}
    of_gap = Spread.total([Spread(errors[end].variance / n, errors[end].degrees) for end, n in trainings.items()])
    if gap**2 <= float(of_gap.half_width) ** 2:
        return None
    share = share_of_the_gap(*(rows[name].pooled for name in (agent, low, high)))
    return {agent: 1.0 / gap, low: (share - 1.0) / gap, high: -share / gap}
