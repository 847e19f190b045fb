"""Statistics of an evaluation: curves over adaptation steps, differences, success rates, classes of tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from metarl.intervals import Interval, mean_intervals, rate_intervals
from metarl.results import EvalResult
from metarl.types import Task


def with_known_successes(results: Sequence[EvalResult]) -> list[EvalResult]:
    """The same evaluations of one family. If any of them reports success, unknown successes become 0."""
    if all(r.success is None for r in results):
        return list(results)
    return [
        replace(r, success=np.zeros_like(r.returns), last_step_success=np.zeros_like(r.returns))
        if r.success is None
        else r
        for r in results
    ]


def adaptation_curve(result: EvalResult) -> list[Interval]:
    """Mean return of each `k`, over tasks and repeats."""
    return mean_intervals(result.returns.mean(axis=2))


def adaptation_differences(result: EvalResult) -> list[Interval]:
    """Mean return of each `k >= 1` minus that of `k = 0`, paired by task."""
    means = result.returns.mean(axis=2)
    return mean_intervals(means[:, 1:] - means[:, :1]) if means.shape[1] > 1 else []


def difference_between(result: EvalResult, other: EvalResult) -> Interval:
    """Mean return at the last point of the curve minus that of another agent on the same tasks, paired by task."""
    last, theirs = (one.returns[:, -1].mean(axis=1) for one in (result, other))
    return mean_intervals((last - theirs)[:, None])[0]


def success_rates(result: EvalResult, at: Literal["any", "last"] = "any") -> list[float | None]:
    """Success rate of each `k`, with equal weight for every task; None if the family does not report success.

    Args:
        result: The evaluation.
        at: Count an episode with a success at `any` step, or at its `last` step.
    """
    success = result.success if at == "any" else result.last_step_success
    if success is None:
        return [None] * result.returns.shape[1]
    return [float(s) for s in success.mean(axis=(0, 2))]


def success_intervals(result: EvalResult, at: Literal["any", "last"] = "any") -> list[Interval]:
    """`success_rates` with intervals over tasks; empty if the family does not report success."""
    success = result.success if at == "any" else result.last_step_success
    return [] if success is None else rate_intervals(success.mean(axis=2))


def by_class(result: EvalResult, class_of: Callable[[Task], str]) -> dict[str, EvalResult]:
    """The evaluation of each class of tasks, in order of first occurrence."""
    members: dict[str, list[int]] = {}
    for i, task in enumerate(result.tasks):
        members.setdefault(class_of(task), []).append(i)
    return {name: result.of_tasks(rows) for name, rows in members.items()}
