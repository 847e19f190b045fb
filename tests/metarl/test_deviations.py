"""Normalisation by the statistics of fixed rows."""

from __future__ import annotations

import numpy as np

from metarl.deviations import CLIP, Scaling


def test_rows_have_zero_mean_and_unit_deviation() -> None:
    rows = np.array([[1.0, 10.0], [3.0, 30.0]])
    scale = Scaling(rows)
    np.testing.assert_allclose(scale.mean, [2.0, 20.0])
    np.testing.assert_allclose(scale.deviation, [1.0, 10.0])
    np.testing.assert_allclose(scale(rows), [[-1.0, -1.0], [1.0, 1.0]])
    assert scale(rows).dtype == np.float32


def test_a_channel_that_hardly_varies_is_divided_by_a_share_of_its_units_largest_deviation() -> None:
    rows = np.array([[0.0, 0.0, 5.0], [2.0, 1e-5, 5.0]])
    np.testing.assert_allclose(Scaling(rows, ("m", "m", "m")).deviation, [1.0, 0.01, 0.01])
    np.testing.assert_allclose(Scaling(rows, ("m", "s", "kg")).deviation, [1.0, 5e-6, 1.0])


def test_without_units_the_median_is_the_reference() -> None:
    rows = np.array([[0.0, 0.0, 0.0, 5.0], [2.0, 1e-4, 8.0, 5.0]])
    np.testing.assert_allclose(Scaling(rows).deviation, [1.0, 0.01, 4.0, 0.01])


def test_values_are_clipped() -> None:
    scale = Scaling(np.array([[-1.0], [1.0]]))
    np.testing.assert_array_equal(scale(np.array([[1e9], [-1e9]])), [[CLIP], [-CLIP]])
