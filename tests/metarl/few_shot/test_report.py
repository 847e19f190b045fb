"""Intervals of few-shot scores: how often they hold the true mean over tasks, by simulation."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest

from metarl.few_shot.evaluation import ShotResult
from metarl.few_shot.report import Contender, difference, score_intervals
from metarl.types import Floats, Task

ROUNDS, QUERIES = 1000, 75


def result(scores: Floats, score: Literal["error", "accuracy"]) -> ShotResult:
    """An evaluation with these scores, `[task, point]`."""
    tasks = tuple(Task("f") for _ in scores)
    return ShotResult("f", "test", tasks, score, scores, tuple(range(scores.shape[1])))


@pytest.mark.parametrize(("a", "b", "most"), [(2.0, 1.0, 0.98), (8.0, 2.0, 0.98), (30.0, 1.0, 1.0)])
@pytest.mark.parametrize("tasks", [20, 100])
def test_the_interval_of_an_accuracy_holds_the_true_one(tasks: int, a: float, b: float, most: float) -> None:
    """Accuracies of tasks are Beta(a, b), and each is seen through 75 queries.

    Near 1 the score interval is wider than it has to be (0.991 with 20 tasks): few tasks determine the variance there.
    """
    rng = np.random.default_rng(0)
    rates = rng.binomial(QUERIES, rng.beta(a, b, (tasks, ROUNDS))) / QUERIES
    intervals = score_intervals(result(rates, "accuracy"))
    held = np.mean([i.low <= a / (a + b) <= i.high for i in intervals])
    assert 0.90 <= held <= most


@pytest.mark.parametrize("tasks", [20, 100])
def test_the_interval_of_an_error_and_of_a_difference_hold_the_true_ones(tasks: int) -> None:
    """Errors of tasks are gamma distributed; those of two learners share the difficulty of the task."""
    rng, held = np.random.default_rng(1), [0, 0]
    for _ in range(ROUNDS // 4):
        difficulty = rng.gamma(4.0, 0.25, tasks)
        one, other = (factor * difficulty * rng.gamma(50.0, 0.02, tasks) for factor in (0.5, 0.6))
        (error,) = score_intervals(result(one[:, None], "error"))
        contender = Contender("a", "a", result(one[:, None], "error"), None, 0)
        paired = difference(contender, other)
        held[0] += error.low <= 0.5 <= error.high
        held[1] += paired.low <= -0.1 <= paired.high
    assert 0.90 <= held[0] / (ROUNDS // 4) <= 0.98
    assert 0.90 <= held[1] / (ROUNDS // 4) <= 0.98
