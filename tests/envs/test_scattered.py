"""Gather and scatter of numbers at many memory addresses."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest

from metarl.envs.scattered import Scattered


def test_rows_are_what_copying_view_by_view_gives() -> None:
    """For all rows and for some, with strided views; other rows stay unchanged."""
    rng = np.random.default_rng(0)
    owned = [rng.normal(size=(4, 3)) for _ in range(5)]
    rows = [[block[1], block[:2, ::2], block[3, 2:]] for block in owned]
    plain = np.stack([np.concatenate([view.reshape(-1) for view in views]) for views in rows])
    scattered = Scattered(rows)
    scattered.read(np.arange(5))
    np.testing.assert_array_equal(scattered.array, plain)
    for block in owned:
        block += 1.0
    scattered.read(np.array([3, 1]))
    np.testing.assert_array_equal(scattered.array, plain + np.array([0.0, 1.0, 0.0, 1.0, 0.0])[:, None])


def test_only_the_numbers_of_the_views_are_written() -> None:
    """Writing some rows, in 32 bits, changes only their numbers and no memory between them."""
    owned = [np.zeros((2, 3)) for _ in range(4)]
    scattered = Scattered([[block[:, 1]] for block in owned])
    scattered.write(np.array([2, 0]), np.array([[1.5, 2.5], [3.5, 4.5]], dtype=np.float32))
    np.testing.assert_array_equal(owned[2], [[0.0, 1.5, 0.0], [0.0, 2.5, 0.0]])
    np.testing.assert_array_equal(owned[0], [[0.0, 3.5, 0.0], [0.0, 4.5, 0.0]])
    assert not owned[1].any()
    assert not owned[3].any()


def test_simulations_are_reached_with_their_warnings_and_without_controls() -> None:
    """MuJoCo's warning counters are strided; a model without actuators has no controls to write."""
    model = mujoco.MjModel.from_xml_string(
        "<mujoco><worldbody><body><freejoint/><geom size='1'/></body></worldbody></mujoco>"
    )
    data = [mujoco.MjData(model) for _ in range(3)]
    warnings, controls = Scattered([[d.warning.number] for d in data]), Scattered([[d.ctrl] for d in data])
    data[1].warning.number[:] = np.arange(len(data[1].warning.number))
    warnings.read(np.arange(3))
    np.testing.assert_array_equal(warnings.array, np.stack([d.warning.number for d in data]))
    assert warnings.array[1].sum() > 0
    controls.write(np.arange(3), np.zeros((3, 0)))
    controls.read(np.array([0]))
    assert controls.array.shape == (3, 0)


def test_unequal_rows_are_refused() -> None:
    """Different sizes, different dtypes."""
    for rows in ([[np.zeros(2)], [np.zeros(3)]], [[np.zeros(2)], [np.zeros(2, dtype=np.float32)]]):
        with pytest.raises(ValueError, match="expected rows of one size and one type"):
            Scattered(rows)
