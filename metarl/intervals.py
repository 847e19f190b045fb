"""95 % confidence intervals of means over tasks, over seeds or over both, of success rates, and of ratios.

Simulations in `tests/metarl/test_intervals.py` check that each of them covers between 0.90 and 0.98.

Every interval is computed from *contributions*: numbers with the estimate as their mean and its error as their spread.
For a mean they are the values themselves; for other statistics, the estimate plus each value's influence on it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, stdtrit

from metarl.types import Floats

RESAMPLES = 9_999
FEWEST_TO_RESAMPLE = 10
"""Fewest tasks or seeds for the bootstrap; with fewer its intervals are too short (coverage 0.83 with 5)."""
TAIL = 0.025
"""Probability beyond each bound of a 95 % interval."""
UNTOLD = float("nan")


@dataclass(frozen=True)
class Interval:
    """An estimate and its 95 % confidence interval; the bounds are NaN if the data do not determine them."""

    mean: float
    low: float
    high: float

    def clipped(self, low: float, high: float) -> Interval:
        """The same interval with its bounds clipped to a range."""
        return Interval(self.mean, *(float(np.clip(bound, low, high)) for bound in (self.low, self.high)))


def _together(means: Floats, low: Floats, high: Floats) -> list[Interval]:
    return [Interval(*map(float, row)) for row in zip(means, low, high, strict=True)]


def _untold(means: Floats) -> list[Interval]:
    return [Interval(float(mean), UNTOLD, UNTOLD) for mean in means]


def quantile_of_t(degrees: Floats | float) -> Floats:
    """The 97.5 % quantile of Student's t distribution."""
    return np.asarray(stdtrit(degrees, 1.0 - TAIL))


def resampling_level(units: int) -> float:
    """Nominal level at which a percentile bootstrap over few units has the width of a 95 % interval.

    A bootstrap distribution is narrower than the error by `sqrt((n - 1) / n)`, and its quantiles are normal, not
    Student's t. More extreme quantiles correct both (Hesterberg 2015, arXiv:1411.5279, section 3.3).
    """
    return float(1.0 - 2.0 * ndtr(-np.sqrt(units / (units - 1.0)) * quantile_of_t(units - 1.0)))


def mean_intervals(
    contributions: Floats,
    *,
    estimate: Callable[[Floats], Floats] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[Interval]:
    """Means of the columns of `[n, k]`, with intervals that treat the `n` rows as independent.

    Uses Student's t below `FEWEST_TO_RESAMPLE` rows, else a percentile bootstrap over whole rows. For a paired
    comparison pass differences, in which a task's difficulty cancels. A single row has no interval.

    Args:
        contributions: `[n, k]`, one row per task or seed.
        estimate: Computes the statistic `[k]` of the rows with given indices; by default the mean of the contributions.
        resamples: Resamples of the bootstrap.
        seed: Seed of the bootstrap.
    """
    n, means = len(contributions), contributions.mean(axis=0)
    if n < 2:
        return _untold(means)
    if n < FEWEST_TO_RESAMPLE:
        half = quantile_of_t(n - 1.0) * contributions.std(axis=0, ddof=1) / np.sqrt(n)
        return _together(means, means - half, means + half)
    from scipy import stats  # imported here, since it would delay the start of every training

    drawn = (np.arange(n),) if estimate else (contributions,)
    interval = stats.bootstrap(
        drawn,
        estimate or np.mean,
        axis=0,
        vectorized=estimate is None,
        n_resamples=resamples,
        batch=None if estimate else 500,
        confidence_level=resampling_level(n),
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return _together(means, interval.low, interval.high)


def rate_intervals(rates: Floats) -> list[Interval]:
    """Means of success rates `[n, k]`, one row per task, with intervals over tasks.

    The score interval of Wilson (1927), with two changes for rates that are means of several episodes (Korn and
    Graubard 1998): the sample size is the effective one, `p (1 - p) / Var(mean)`, and the quantile is Student's t.
    Unlike a bootstrap it has a width if all tasks fail or all succeed: every task then counts as one trial. If only d
    tasks differ from the rest, every task counts as at most d trials.

    Args:
        rates: `[n, k]` in [0, 1].
    """
    n, p = len(rates), rates.mean(axis=0)
    if n < 2:
        return _untold(p)
    variance, t = rates.var(axis=0, ddof=1) / n, quantile_of_t(n - 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        effective = np.where(variance > 1e-12, p * (1.0 - p) / variance, n)
    differing = np.minimum((rates > 0).sum(axis=0), (rates < 1).sum(axis=0))  # the tasks that determine the variance
    effective = np.minimum(effective, n * np.maximum(differing, 1))
    share = t**2 / effective
    centre = (p + share / 2.0) / (1.0 + share)
    half = np.sqrt(share * (p * (1.0 - p) + share / 4.0)) / (1.0 + share)
    return [i.clipped(0.0, 1.0) for i in _together(p, np.minimum(centre - half, p), np.maximum(centre + half, p))]


@dataclass(frozen=True)
class Spread:
    """Estimated variance of the mean of a table of contributions.

    Attributes:
        variance: Variance of the mean, `[k]`.
        degrees: Degrees of freedom of this estimate, `[k]`.
    """

    variance: Floats
    degrees: Floats

    @classmethod
    def of_rows(cls, values: Floats) -> Spread:
        """The spread of the mean of independent rows `[n, k]`, at least two."""
        n = len(values)
        return cls(values.var(axis=0, ddof=1) / n, np.full(values.shape[1:], n - 1.0))

    @classmethod
    def total(cls, parts: Sequence[Spread], shared: Floats | float = 0.0) -> Spread:
        """The spread of a sum of independent errors (Welch 1947, Satterthwaite 1946).

        Args:
            parts: The spread of each error.
            shared: Variance that the parts contain twice, `[k]`. It is subtracted, but the total is at least the
                largest part.
        """
        variances = np.array([part.variance for part in parts])
        total = np.maximum(variances.sum(axis=0) - shared, variances.max(axis=0))
        known = sum(part.variance**2 / part.degrees for part in parts)
        with np.errstate(divide="ignore", invalid="ignore"):
            degrees = np.where(known > 0, total**2 / known, min(part.degrees.min() for part in parts))
        return cls(total, degrees)

    @property
    def half_width(self) -> Floats:
        """Half of the 95 % interval, `[k]`."""
        return quantile_of_t(self.degrees) * np.sqrt(self.variance)


def crossed_spread(contributions: Floats) -> Spread:
    """The spread of the mean of `[seed, task, k]` over new seeds and new tasks.

    Seeds and tasks are crossed random effects. The variance is that of the seeds' means plus that of the tasks' means,
    minus that of the single cells, since both contain it (Cornfield and Tukey 1956).
    """
    seeds, tasks = contributions.shape[:2]
    by_seed, by_task = contributions.mean(axis=1), contributions.mean(axis=0)
    rest = contributions - by_seed[:, None] - by_task[None] + by_task.mean(axis=0)
    of_cells = (rest**2).sum(axis=(0, 1)) / ((seeds - 1) * (tasks - 1)) / (seeds * tasks)
    return Spread.total([Spread.of_rows(by_seed), Spread.of_rows(by_task)], of_cells)


def crossed_intervals(contributions: Floats) -> list[Interval]:
    """Means of `[seed, task, k]` with intervals over new seeds and new tasks; see `crossed_spread`.

    The bounds are NaN for a single seed or a single task.
    """
    means = contributions.mean(axis=(0, 1))
    if min(contributions.shape[:2]) < 2:
        return _untold(means)
    half = crossed_spread(contributions).half_width
    return _together(means, means - half, means + half)


def ratio_interval(ratio: float, excess: Callable[[float], float], farthest: float = 1e3) -> Interval:
    """The interval of a ratio by Fieller's method (1954): the values that the data do not reject.

    Args:
        ratio: The estimate.
        excess: Test of a value r, positive if r is rejected: the squared mean of numerator - r * denominator, minus the
            square of its 95 % half width. Negative at the estimate.
        farthest: Distance from the estimate at which a bound counts as infinite (the denominator may be zero).

    Returns:
        The interval; both bounds are NaN if it is unbounded.
    """
    from scipy.optimize import brentq

    bounds = []
    for sign in (-1.0, 1.0):
        step = 1e-3
        while excess(ratio + sign * step) < 0.0:
            step *= 2.0
            if step > farthest:
                return Interval(ratio, UNTOLD, UNTOLD)
        bounds.append(float(brentq(excess, ratio, ratio + sign * step)) if excess(ratio) < 0.0 else ratio)
    return Interval(ratio, *bounds)
