"""Rows of a replay and the arrays they were packed from."""

from __future__ import annotations

import numpy as np
import torch

from metarl.learning.experience.columns import Columns


def test_rows_hold_the_columns_in_order_and_give_them_back_as_views() -> None:
    columns = Columns(observations=2, rewards=0, terminated=0, next_observations=2)
    seen, after = np.arange(12.0).reshape(2, 3, 2), np.arange(12.0, 24.0).reshape(2, 3, 2)
    rewards, ended = np.arange(6.0).reshape(2, 3) / 8, np.eye(2, 3, dtype=np.bool_)
    rows = columns.pack(observations=seen, next_observations=after, rewards=rewards, terminated=ended)
    assert (rows.shape, rows.dtype, columns.width) == ((2, 3, 6), np.float32, 6)
    assert rows[1, 1].tolist() == [8.0, 9.0, 0.5, 1.0, 20.0, 21.0]
    for array in (rows, torch.tensor(rows)):
        views = columns.unpack(array)
        assert [name for name in views] == ["observations", "rewards", "terminated", "next_observations"]
        assert np.array_equal(views["rewards"], rewards)
        assert np.array_equal(views["next_observations"], after)
    columns.unpack(rows)["rewards"][:] = 7.0
    assert (rows[..., 2] == 7.0).all()
