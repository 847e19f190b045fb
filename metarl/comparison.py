"""Comparing agents: curves over several seeds, robust means, and the share of what knowing the task would bring."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from metarl.evaluation import RESAMPLES, Interval
from metarl.types import EvalResult, Floats

Statistic = Literal["mean", "iqm"]


@dataclass(frozen=True)
class Contender:
    """One agent with its evaluations, one per training seed, all on the same tasks.

    Args:
        label: How pictures and tables call it.
        results: One per seed.
    """

    label: str
    results: tuple[EvalResult, ...]

    @property
    def scores(self) -> Floats:
        """Mean return over repeats, `[seed, task, k]`."""
        return np.stack([result.returns.mean(axis=2) for result in self.results])


def aggregate(scores: Floats, statistic: Statistic) -> Floats:
    """One number per `k` from `[seed, task, k]`: the mean, or the mean of the middle half (interquartile mean).

    The interquartile mean is over seeds and tasks together (Agarwal et al. 2021, arXiv:2108.13264).
    """
    flat = scores.reshape(-1, scores.shape[-1])
    return flat.mean(axis=0) if statistic == "mean" else np.asarray(stats.trim_mean(flat, 0.25, axis=0))


def intervals(scores: Floats, over: Literal["tasks", "seeds"], statistic: Statistic, seed: int = 0) -> list[Interval]:
    """The aggregate of each `k`, with a 95 % percentile bootstrap interval.

    Over `tasks`: tasks are drawn again, each with all its seeds; it tells what other tasks would give. Over `seeds`:
    for each task, its seeds are drawn again (the stratified bootstrap of Agarwal et al. 2021); it tells what other
    trainings would give. NaN bounds where there is only one to draw from.

    Args:
        scores: `[seed, task, k]`.
        over: What is drawn again.
        statistic: What is computed from each draw.
        seed: Of the bootstrap.
    """
    seeds, tasks, _ = scores.shape
    means = aggregate(scores, statistic)
    if (tasks if over == "tasks" else seeds) < 2:
        return [Interval(float(m), float("nan"), float("nan")) for m in means]
    rng = np.random.default_rng(seed)
    draws = []
    for _ in range(RESAMPLES // 5):
        if over == "tasks":
            drawn = scores[:, rng.integers(tasks, size=tasks)]
        else:
            drawn = scores[rng.integers(seeds, size=(seeds, tasks)), np.arange(tasks)]
        draws.append(aggregate(drawn, statistic))
    low, high = np.percentile(draws, [2.5, 97.5], axis=0)
    return [Interval(*map(float, row)) for row in zip(means, low, high, strict=True)]


def share_of_the_gap(after: float, told_nothing: float, told_the_task: float) -> float:
    """How much of the distance between `multitask` and `oracle` an agent closes: 0 at the one, 1 at the other."""
    return (after - told_nothing) / (told_the_task - told_nothing)
