"""Statistics of agents over several seeds: curves, robust means, and the share of the gap between two references."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar, get_args

import numpy as np
from scipy import stats

from metarl.curves import with_known_successes
from metarl.intervals import (
    FEWEST_TO_RESAMPLE,
    UNTOLD,
    Interval,
    Spread,
    crossed_intervals,
    crossed_spread,
    mean_intervals,
    ratio_interval,
)
from metarl.results import EvalResult
from metarl.types import Floats

Statistic = Literal["mean", "iqm"]
Over = Literal["tasks", "seeds", "both"]
"""Source of the error that an interval covers: other tasks, other trainings (seeds), or both."""
OVERS: tuple[Over, ...] = get_args(Over)
WithResults = TypeVar("WithResults", bound=Any)
"""A dataclass with `results: tuple[EvalResult, ...]`, such as `Contender`."""
RESAMPLES = 1_999
TRIMMED = 0.25
"""Fraction that the interquartile mean discards at each end."""


@dataclass(frozen=True)
class Contender:
    """One agent with its evaluations, one per training seed, all on the same tasks.

    Args:
        label: Name in figures and tables.
        results: One per seed.
        seeds: The seeds.
        iterations: Meta-updates of each training.
        env_steps: Environment steps of each training.
    """

    label: str
    results: tuple[EvalResult, ...]
    seeds: tuple[int, ...] = ()
    iterations: int = 0
    env_steps: tuple[int, ...] = ()

    @property
    def scores(self) -> Floats:
        """Mean return over repeats, `[seed, task, k]`."""
        return np.stack([result.returns.mean(axis=2) for result in self.results])


def aggregate(scores: Floats, statistic: Statistic) -> Floats:
    """One number per `k` from `[seed, task, k]`: the mean, or the interquartile mean (the mean of the middle half).

    The interquartile mean is over seeds and tasks together (Agarwal et al. 2021, arXiv:2108.13264).
    """
    flat = scores.reshape(-1, scores.shape[-1])
    return flat.mean(axis=0) if statistic == "mean" else np.asarray(stats.trim_mean(flat, TRIMMED, axis=0))


def contributions(scores: Floats, statistic: Statistic) -> Floats:
    """Numbers `[seed, task, k]` with the aggregate as their mean and its error as their spread.

    For the mean these are the scores. For the interquartile mean they are the winsorised scores, divided by the
    fraction that is kept (Tukey and McLaughlin 1963): the influence of each score on a trimmed mean.
    """
    if statistic == "mean":
        return scores
    flat = scores.reshape(-1, scores.shape[-1])
    ordered, cut = np.sort(flat, axis=0), int(TRIMMED * len(flat))
    winsorised = np.clip(scores, ordered[cut], ordered[len(flat) - 1 - cut])
    influence = (winsorised - winsorised.mean(axis=(0, 1))) / (1.0 - 2.0 * TRIMMED)
    return aggregate(scores, statistic) + influence


def intervals(scores: Floats, over: Over, statistic: Statistic, seed: int = 0) -> list[Interval]:
    """The aggregate of each `k`, with a 95 % interval.

    The interval over `tasks` is for the same trained agents on new tasks; over `seeds`, for new trainings on the same
    tasks (whole seeds are resampled); over `both`, for new trainings on new tasks. Bootstrap or Student's t as in
    `metarl.intervals.mean_intervals`; for both, `crossed_intervals`.

    Args:
        scores: `[seed, task, k]`.
        over: Source of the error.
        statistic: The aggregate.
        seed: Seed of the bootstrap.

    Returns:
        One interval per `k`; the bounds are NaN for a single task or seed.
    """
    parts = contributions(scores, statistic)
    if over == "both":
        return crossed_intervals(parts)
    axis = 1 if over == "tasks" else 0
    rows = parts.mean(axis=1 - axis)
    if statistic == "mean" or len(rows) < FEWEST_TO_RESAMPLE:
        return mean_intervals(rows, resamples=RESAMPLES, seed=seed)

    def estimate(drawn: Floats) -> Floats:
        return aggregate(np.take(scores, drawn, axis=axis), statistic)

    return mean_intervals(rows, estimate=estimate, resamples=RESAMPLES, seed=seed)


def share_of_the_gap(after: float, told_nothing: float, told_the_task: float) -> float:
    """Fraction of the distance from `multitask` (0) to `oracle` (1) that an agent covers."""
    return (after - told_nothing) / (told_the_task - told_nothing)


def share_interval(
    after: Floats, told_nothing: Floats, told_the_task: Floats, over: Over, statistic: Statistic
) -> Interval | None:
    """The share of the gap with its 95 % interval, by Fieller's method.

    A share s is not rejected if `after - s * told_the_task - (1 - s) * told_nothing` may be zero. The three agents
    share the tasks, so the difference is paired by task; their seeds are independent.

    Args:
        after: Scores of the agent, `[seed, task]`.
        told_nothing: Scores of `multitask`, `[seed, task]`.
        told_the_task: Scores of `oracle`, `[seed, task]`.
        over: As in `intervals`.
        statistic: As in `intervals`.

    Returns:
        The interval; None if there is no gap: the two references have the same score. Its bounds are NaN if the gap is
        not significantly different from zero, for a single task, or, over seeds, for a single seed.
    """
    parts = [contributions(s[..., None], statistic) for s in (after, told_nothing, told_the_task)]
    if parts[2].mean() == parts[1].mean():
        return None
    share = share_of_the_gap(*(float(p.mean()) for p in parts))
    if (over != "seeds" and after.shape[1] < 2) or (over != "tasks" and min(len(p) for p in parts) < 2):
        return Interval(share, UNTOLD, UNTOLD)

    def excess(value: float) -> float:
        weighted = [w * p for w, p in zip((1.0, value - 1.0, -value), parts, strict=True)]
        difference = sum(float(w.mean()) for w in weighted)
        return difference**2 - float(_spread_of_sum(weighted, over).half_width[0]) ** 2

    gap = float(parts[2].mean() - parts[1].mean())
    if gap**2 <= float(_spread_of_sum([-parts[1], parts[2]], over).half_width[0]) ** 2:
        return Interval(share, UNTOLD, UNTOLD)
    return ratio_interval(share, excess)


def alike_in_success(agents: Sequence[WithResults]) -> list[WithResults]:
    """The same agents. If any of their results reports success, unknown successes of the others count as failures."""
    known = iter(with_known_successes([result for one in agents for result in one.results]))
    return [replace(one, results=tuple(next(known) for _ in one.results)) for one in agents]


def paired_difference(one: Floats, other: Floats, over: Over, statistic: Statistic) -> Interval:
    """The aggregate of one agent minus that of another one, with a 95 % interval.

    The agents share the tasks, so the difference is paired by task; their seeds are independent.

    Args:
        one: Scores, `[seed, task]`.
        other: Scores on the same tasks, `[seed, task]`.
        over: As in `intervals`.
        statistic: As in `intervals`.

    Returns:
        The interval. Its bounds are NaN for a single task or, over seeds, for a single seed.
    """
    parts = [contributions(one[..., None], statistic), -contributions(other[..., None], statistic)]
    mean = sum(float(part.mean()) for part in parts)
    if (over != "seeds" and one.shape[1] < 2) or (over != "tasks" and min(len(part) for part in parts) < 2):
        return Interval(mean, UNTOLD, UNTOLD)
    half = float(_spread_of_sum(parts, over).half_width[0])
    return Interval(mean, mean - half, mean + half)


def _spread_of_sum(parts: Sequence[Floats], over: Over) -> Spread:
    """The spread of the sum of the means of tables `[seed, task, 1]` with shared tasks and independent seeds."""
    by_task = Spread.of_rows(np.sum([p.mean(axis=0) for p in parts], axis=0)) if over != "seeds" else None
    if over == "tasks":
        assert by_task is not None
        return by_task
    by_seed = [Spread.of_rows(p.mean(axis=1)) for p in parts]
    if by_task is None:
        return Spread.total(by_seed)
    both = [crossed_spread(p) for p in parts]
    alone = [Spread.of_rows(p.mean(axis=0)) for p in parts]
    # The variances of the seeds' means and of the tasks' means both contain that of the single cells.
    cells = sum(s.variance + t.variance - b.variance for s, t, b in zip(by_seed, alone, both, strict=True))
    return Spread.total([*by_seed, by_task], cells)
