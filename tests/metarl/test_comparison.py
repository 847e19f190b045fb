from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from metarl.comparison import Over, Statistic, aggregate, contributions, intervals, paired_difference, share_of_the_gap


def test_the_interquartile_mean_leaves_out_the_outer_quarters_over_seeds_and_tasks_together() -> None:
    scores = np.array([[0.0, 1.0, 2.0, 3.0], [4.0, 5.0, 6.0, 1000.0]])[..., None]  # [seed, task, k]
    assert aggregate(scores, "mean").tolist() == [1021 / 8]
    assert aggregate(scores, "iqm").tolist() == [(2 + 3 + 4 + 5) / 4]


def test_an_interval_over_tasks_sees_tasks_and_one_over_seeds_sees_whole_seeds() -> None:
    rng = np.random.default_rng(0)
    tasks_differ = 10 * rng.standard_normal((1, 30, 1)) + 0.1 * rng.standard_normal((5, 30, 1))
    (over_tasks,) = intervals(tasks_differ, "tasks", "mean")
    (over_seeds,) = intervals(tasks_differ, "seeds", "mean")
    assert over_tasks.mean == over_seeds.mean == pytest.approx(tasks_differ.mean())
    half = 1.96 * tasks_differ.mean(axis=0).std() / math.sqrt(30)
    assert over_tasks.high - over_tasks.low == pytest.approx(2 * half, rel=0.15)
    assert over_seeds.high - over_seeds.low < 0.1
    runs_differ = 2 * rng.standard_normal((5, 1, 1)) + 0.1 * rng.standard_normal((5, 40, 1))
    (over_seeds,) = intervals(runs_differ, "seeds", "mean")
    means = runs_differ.mean(axis=(1, 2))
    half = stats.t.ppf(0.975, 4) * means.std(ddof=1) / math.sqrt(5)
    assert over_seeds.high - over_seeds.low == pytest.approx(2 * half), "one training plays all tasks"


@pytest.mark.parametrize("statistic", ["mean", "iqm"])
def test_contributions_average_to_the_statistic_and_spread_as_its_error(statistic: Statistic) -> None:
    rng = np.random.default_rng(2)
    scores = rng.standard_t(6, size=(1, 50, 2000))
    parts = contributions(scores, statistic)
    assert np.allclose(parts.mean(axis=(0, 1)), aggregate(scores, statistic))
    error = np.sqrt((parts.var(axis=1, ddof=1) / 50).mean())
    assert error == pytest.approx(aggregate(scores, statistic).std(), rel=0.06)


def test_one_seed_has_no_interval_over_seeds() -> None:
    (interval,) = intervals(np.ones((1, 3, 1)), "seeds", "mean")
    assert interval.mean == 1.0
    assert math.isnan(interval.low)


def test_the_share_of_the_gap_is_zero_at_multitask_and_one_at_the_oracle() -> None:
    assert share_of_the_gap(-40.0, -40.0, -10.0) == 0.0
    assert share_of_the_gap(-10.0, -40.0, -10.0) == 1.0
    assert share_of_the_gap(-25.0, -40.0, -10.0) == 0.5


def test_a_difference_of_two_agents_is_paired_by_task() -> None:
    """Tasks differ by far more than the agents do."""
    rng = np.random.default_rng(0)
    tasks = 100.0 * rng.standard_normal((1, 12))
    one, other = tasks + rng.standard_normal((1, 12)), tasks + rng.standard_normal((1, 12)) - 3.0
    found, apart = paired_difference(one, other, "tasks", "mean"), (one - other)[0]
    half = stats.t.ppf(0.975, 11) * apart.std(ddof=1) / math.sqrt(12)
    assert (found.mean, found.low, found.high) == pytest.approx(
        (apart.mean(), apart.mean() - half, apart.mean() + half)
    )
    back = paired_difference(other, one, "tasks", "mean")
    assert (back.mean, back.low, back.high) == pytest.approx((-found.mean, -found.high, -found.low))


def test_seeds_of_two_agents_are_independent_and_a_single_one_tells_nothing() -> None:
    one, other = np.array([[1.0, 3.0], [3.0, 5.0], [2.0, 4.0]]), np.array([[0.0, 2.0], [2.0, 0.0]])
    found = paired_difference(one, other, "seeds", "mean")
    assert found.mean == pytest.approx(3.0 - 1.0)
    half = float(found.high - found.mean)
    assert half == pytest.approx(stats.t.ppf(0.975, 2) * math.sqrt(1.0 / 3.0), rel=1e-6), "all seeds of the other agree"
    untold: list[tuple[np.ndarray, np.ndarray, Over]] = [
        (one[:1], other, "seeds"),
        (one, other[:1], "both"),
        (one[:, :1], other[:, :1], "tasks"),
    ]
    assert all(math.isnan(paired_difference(*parts, "mean").low) for parts in untold)
