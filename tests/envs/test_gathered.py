"""Numbers of many simulations as one array."""

from __future__ import annotations

import numpy as np

from metarl.envs.mujoco_batch import Gathered


def test_rows_copied_one_by_one_or_together_are_the_same() -> None:
    """What threads copy row by row is what one call copies for all of them; other rows keep what they had."""
    numbers = np.arange(12.0).reshape(3, 4).copy()
    views = [[row[:1], row[1:3]] for row in numbers]
    one_by_one, together = Gathered(views), Gathered(views)
    together.refresh(np.arange(3))
    for row in (2, 0, 1):
        one_by_one.refresh_row(row)
    np.testing.assert_array_equal(one_by_one.array, [[0.0, 1.0, 2.0], [4.0, 5.0, 6.0], [8.0, 9.0, 10.0]])
    np.testing.assert_array_equal(one_by_one.array, together.array)
    numbers += 100.0
    one_by_one.refresh_row(1)
    together.refresh(np.array([1]))
    np.testing.assert_array_equal(one_by_one.array, [[0.0, 1.0, 2.0], [104.0, 105.0, 106.0], [8.0, 9.0, 10.0]])
    np.testing.assert_array_equal(one_by_one.array, together.array)
