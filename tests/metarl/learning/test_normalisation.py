from __future__ import annotations

import numpy as np

from metarl.learning.normalisation import RunningMoments


def test_batches_merge_to_the_moments_of_all_rows() -> None:
    rng, moments, seen = np.random.default_rng(0), RunningMoments(3), []
    for n in (5, 1, 40):
        values, mask = 100 + 3 * rng.standard_normal((2, n, 3)), rng.random((2, n)) < 0.7
        moments.update(values, mask)
        seen.append(values[mask])
    rows = np.concatenate(seen)
    assert moments.count == len(rows)
    assert np.allclose(moments.mean, rows.mean(axis=0))
    assert np.allclose(moments.variance, rows.var(axis=0))


def test_nothing_seen_leaves_values_as_they_are_and_outliers_are_clipped() -> None:
    moments = RunningMoments(1)
    moments.update(np.zeros((1, 1)), np.array([False]))
    assert moments.normalise(np.array([[0.5]])).tolist() == [[0.5]]
    moments.update(np.array([[1.0], [3.0]]), np.array([True, True]))
    assert moments.normalise(np.array([[3.0], [1e9]])).tolist() == [[1.0], [10.0]]


def test_statistics_survive_saving() -> None:
    one, two = RunningMoments(2), RunningMoments(2)
    one.update(np.random.default_rng(0).standard_normal((9, 2)), np.ones(9, dtype=bool))
    two.restore("x", one.tensors("x"))
    assert (two.count, two.mean.tolist(), two.variance.tolist()) == (
        one.count,
        one.mean.tolist(),
        one.variance.tolist(),
    )
