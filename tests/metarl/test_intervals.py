"""Every interval that metarl prints, tried on worlds whose truth is known: how often does it hold the truth?"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

from metarl.comparison import Over, intervals, paired_difference, share_interval
from metarl.curves import adaptation_curve, adaptation_differences, success_intervals
from metarl.intervals import (
    Interval,
    crossed_intervals,
    mean_intervals,
    rate_intervals,
    ratio_interval,
    resampling_level,
)
from metarl.results import EvalResult
from metarl.types import Floats, Task

WORLDS = 1000
"""Simulated experiments; the share of intervals that hold the truth is then known to about 0.007."""
AT_LEAST, AT_MOST = 0.90, 0.98


def coverage(found: Sequence[Interval], truth: Floats | float) -> float:
    truths = np.broadcast_to(truth, len(found))
    return float(np.mean([i.low <= t <= i.high for i, t in zip(found, truths, strict=True)]))


def scores(seeds: int, run_sd: float, tasks: int = 40, seed: int = 0) -> tuple[Floats, Floats]:
    """Returns of runs whose level differs by `run_sd`, `[seed, task, world]`, and each task's true mean."""
    rng = np.random.default_rng([seed, seeds, int(run_sd)])
    difficulty = rng.normal(size=(1, tasks, WORLDS))
    level, noise = run_sd * rng.normal(size=(seeds, 1, WORLDS)), rng.normal(size=(seeds, tasks, WORLDS))
    return difficulty + level + noise, difficulty


@pytest.mark.parametrize("run_sd", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("over", ["seeds", "both"])
def test_intervals_over_seeds_hold_what_other_trainings_give(over: Over, seeds: int, run_sd: float) -> None:
    table, difficulty = scores(seeds, run_sd)
    truth = difficulty.mean(axis=(0, 1)) if over == "seeds" else 0.0  # these tasks, or all tasks
    assert AT_LEAST <= coverage(intervals(table, over, "mean"), truth) <= AT_MOST


@pytest.mark.parametrize("seeds", [3, 10])
@pytest.mark.parametrize("over", ["tasks", "both"])
def test_intervals_of_the_interquartile_mean_hold_it(over: Over, seeds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metarl.comparison.RESAMPLES", 999)
    table, _ = scores(seeds, 0.0 if over == "tasks" else 1.0)
    some = table[..., :300]  # known to 0.013
    assert AT_LEAST <= coverage(intervals(some, over, "iqm"), 0.0) <= AT_MOST


@pytest.mark.parametrize("tasks", [3, 5, 9, 10, 40])
def test_intervals_over_tasks_hold_what_other_tasks_give_however_few(tasks: int) -> None:
    table, _ = scores(1, 0.0, tasks=tasks)
    assert AT_LEAST <= coverage(mean_intervals(table[0], resamples=999), 0.0) <= AT_MOST


def test_a_curve_over_repeats_holds_the_mean_over_tasks_and_a_paired_difference_the_gain() -> None:
    rng = np.random.default_rng(1)
    tasks, repeats = 20, 4
    returns = 10 * rng.normal(size=(tasks, WORLDS, 1)) + 5 * rng.normal(size=(tasks, WORLDS, repeats))
    names = tuple(Task.of("f", i=i) for i in range(tasks))
    one = EvalResult("f", "test", names, returns, None, tuple(range(WORLDS)))
    assert AT_LEAST <= coverage(adaptation_curve(one), 0.0) <= AT_MOST
    # The differences of one evaluation share k = 0, so that each world has to be an evaluation of its own.
    held = []
    for _ in range(400):
        gain = np.stack([np.zeros(tasks), 1.0 + rng.normal(size=tasks)], axis=1)[..., None]
        noisy = 10 * rng.normal(size=(tasks, 1, 1)) + gain + rng.normal(size=(tasks, 2, repeats))
        held += adaptation_differences(EvalResult("f", "test", names, noisy, None, (0, 1)))
    assert AT_LEAST <= coverage(held, 1.0) <= AT_MOST


@pytest.mark.parametrize("kind", ["alike", "unlike"])
@pytest.mark.parametrize(("tasks", "episodes", "p"), [(40, 3, 0.1), (40, 20, 0.5), (20, 3, 0.9), (100, 1, 0.3)])
def test_success_rates_hold_the_true_rate(tasks: int, episodes: int, p: float, kind: str) -> None:
    rng = np.random.default_rng(tasks)
    rates = rng.beta(2 * p, 2 * (1 - p), size=(tasks, WORLDS)) if kind == "unlike" else np.full((tasks, WORLDS), p)
    found = (rng.random((episodes, tasks, WORLDS)) < rates).astype(float)
    names = tuple(Task.of("f", i=i) for i in range(tasks))
    success = np.moveaxis(found, 0, 2)  # [task, k, repeat]
    one = EvalResult("f", "test", names, success, success, tuple(range(WORLDS)))
    assert AT_LEAST <= coverage(success_intervals(one), p) <= AT_MOST


@pytest.mark.parametrize("seeds", [(3, 3), (2, 5), (10, 10)])
@pytest.mark.parametrize("over", ["tasks", "seeds", "both"])
def test_differences_of_two_agents_hold_the_true_one(over: Over, seeds: tuple[int, int]) -> None:
    """Tasks are shared, and each agent has its own gain on each; the levels of all trainings differ."""
    rng, tasks, found, truths = np.random.default_rng(seeds), 20, list[Interval](), list[float]()
    for _ in range(WORLDS):
        difficulty, gains = 10 * rng.normal(size=tasks), rng.normal(size=(2, tasks))
        levels = [rng.normal(size=(n, 1)) for n in seeds]
        one, other = (
            difficulty + gain + level + rng.normal(size=(len(level), tasks))
            for gain, level in zip(gains, levels, strict=True)
        )
        found.append(paired_difference(one, other, over, "mean"))
        these_seeds, these_tasks = float(levels[0].mean() - levels[1].mean()), float((gains[0] - gains[1]).mean())
        truths.append({"tasks": these_seeds, "seeds": these_tasks, "both": 0.0}[over])
    assert AT_LEAST <= coverage(found, np.array(truths)) <= AT_MOST


def test_few_tasks_that_differ_are_no_evidence_of_many_episodes() -> None:
    """One success of 160 episodes in 40 tasks bounds the rate hardly better than none."""
    rates = np.zeros((40, 2))
    rates[0, 1] = 0.25
    none, one = rate_intervals(rates)
    assert none.high < one.high


def test_where_all_fail_a_rate_has_a_width() -> None:
    (none,), (everyone,) = rate_intervals(np.zeros((40, 1))), rate_intervals(np.ones((40, 1)))
    t = stats.t.ppf(0.975, 39)
    assert (none.mean, none.low, none.high) == (0.0, 0.0, pytest.approx(t**2 / (40 + t**2)))
    assert (everyone.mean, everyone.low, everyone.high) == (1.0, pytest.approx(40 / (40 + t**2)), 1.0)


@pytest.mark.parametrize("seeds", [3, 10])
@pytest.mark.parametrize("over", ["tasks", "seeds", "both"])
def test_the_share_of_a_gap_holds_the_true_share(over: Over, seeds: int) -> None:
    """Multitask at -40, oracle at 0, the agent at -10: a share of 0.75."""
    rng, held = np.random.default_rng([seeds, len(over)]), []
    run_sd, tasks = (0.0 if over == "tasks" else 3.0), 30
    for _ in range(400):
        difficulty = rng.normal(scale=0.0 if over == "seeds" else 5.0, size=tasks)
        agent, multitask, oracle = (
            level + weight * difficulty + run_sd * rng.normal(size=(seeds, 1)) + 2.0 * rng.normal(size=(seeds, tasks))
            for level, weight in ((-10.0, 0.5), (-40.0, 1.0), (0.0, 0.0))
        )
        share = share_interval(agent, multitask, oracle, over, "mean")
        assert share
        held.append(share)
    assert AT_LEAST <= coverage(held, 0.75) <= AT_MOST


def test_a_gap_that_may_be_zero_has_no_share_with_bounds() -> None:
    rng = np.random.default_rng(0)
    agent, multitask, oracle = (rng.normal(size=(3, 30)) for _ in range(3))
    share = share_interval(agent, multitask, oracle, "tasks", "mean")
    assert share
    assert math.isnan(share.low)
    assert math.isnan(share.high)
    single = share_interval(agent[:1], multitask - 50, oracle, "seeds", "mean")
    assert single
    assert math.isnan(single.low)


@pytest.mark.parametrize("over", ["tasks", "seeds", "both"])
def test_references_with_the_same_score_leave_no_gap_to_share(over: Over) -> None:
    """As on a sparse reward that neither finds."""
    nothing = np.zeros((3, 4))
    assert share_interval(np.ones((3, 4)), nothing, nothing, over, "mean") is None


def test_without_noise_in_the_gap_a_share_has_the_interval_of_the_mean() -> None:
    agent = np.array([[0.2, 0.4, 0.3, 0.5]])
    share = share_interval(agent, np.zeros((1, 4)), np.ones((1, 4)), "tasks", "mean")
    assert share
    (mean,) = mean_intervals(agent.T)
    assert (share.mean, share.low, share.high) == pytest.approx((mean.mean, mean.low, mean.high))


def test_few_rows_have_students_interval_and_many_one_of_the_same_width() -> None:
    few = np.array([[1.0], [2.0], [6.0]])
    (interval,) = mean_intervals(few)
    half = stats.t.ppf(0.975, 2) * few.std(ddof=1) / math.sqrt(3)
    assert (interval.low, interval.high) == pytest.approx((3 - half, 3 + half))
    many = np.random.default_rng(0).normal(size=(12, 1))
    (interval,) = mean_intervals(many)
    half = stats.t.ppf(0.975, 11) * many.std(ddof=1) / math.sqrt(12)
    assert interval.high - interval.low == pytest.approx(2 * half, rel=0.1)
    assert resampling_level(10) == pytest.approx(0.982899, abs=1e-6), "2 Phi(sqrt(10 / 9) * 2.262157) - 1"


def test_seeds_and_tasks_at_once_by_hand() -> None:
    """Rows 1, 3 and 5, 7: variances of the seeds' means (8 / 2) and the tasks' means (2 / 2), no interaction."""
    (interval,) = crossed_intervals(np.array([[1.0, 3.0], [5.0, 7.0]])[..., None])
    variance, degrees = 4.0 + 1.0, 5.0**2 / (4.0**2 + 1.0**2)
    half = stats.t.ppf(0.975, degrees) * math.sqrt(variance)
    assert (interval.mean, interval.low, interval.high) == pytest.approx((4.0, 4.0 - half, 4.0 + half))
    assert math.isnan(crossed_intervals(np.ones((1, 4, 1)))[0].low)


def test_a_ratio_is_bounded_by_the_values_that_are_ruled_out() -> None:
    assert ratio_interval(0.5, lambda value: (value - 0.5) ** 2 - 0.04) == Interval(
        0.5, pytest.approx(0.3), pytest.approx(0.7)
    )
    assert math.isnan(ratio_interval(0.5, lambda value: -1.0).high)
