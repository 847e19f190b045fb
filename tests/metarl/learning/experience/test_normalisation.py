from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from metarl.learning.experience.normalisation import DEVIATION_FLOOR, Normaliser, ReturnScale, RunningMoments
from metarl.registry import FAMILIES, make_family, names
from metarl.types import Floats

LIVE = np.ones(4, dtype=bool)


def normaliser(std: list[float], floor: float = 0.01, units: tuple[str, ...] = (), expected: float = 0.0) -> Normaliser:
    """A normaliser updated with rows of mean 5 and the given deviations."""
    made = Normaliser(len(std), floor, units, expected=expected)
    made.update(5.0 + np.outer([1.0, -1.0, 1.0, -1.0], std), LIVE)
    return made


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
    moments = Normaliser(1, 0.01)
    moments.update(np.zeros((1, 1)), np.array([False]))
    assert moments.normalise(np.array([[0.5]])).tolist() == [[0.5]]
    moments.update(np.array([[1.0], [3.0]]), np.array([True, True]))
    assert moments.normalise(np.array([[3.0], [1e9]])).tolist() == [[1.0], [10.0]]


def test_statistics_survive_saving_and_what_follows_from_them_follows_again() -> None:
    one, two = normaliser([1.0, 1e-4]), normaliser([7.0, 7.0])
    assert two.deviation.tolist() == [7.0, 7.0]
    assert one.tensors("x").keys() == {"x.count", "x.mean", "x.variance"}
    two.restore("x", one.tensors("x"))
    assert (two.count, two.mean.tolist(), two.variance.tolist(), two.deviation.tolist()) == (
        one.count,
        one.mean.tolist(),
        one.variance.tolist(),
        one.deviation.tolist(),
    )


# Divisors of channels ------------------------------------------------------------------------------------------


def test_jitter_is_divided_by_a_share_of_the_largest_deviation_in_its_unit() -> None:
    moments = normaliser([10.0, 0.02, 1e-4, 0.05, 1e-4], units=("m/s", "m/s", "m/s", "m", "m"))
    assert moments.deviation == pytest.approx([10.0, 0.1, 0.1, 0.05, 5e-4])
    shown = moments.normalise(np.array([5.0, 5.0, 5.0 + 1e-4, 5.05, 5.0 + 1e-4]))
    assert shown == pytest.approx([0.0, 0.0, 1e-3, 1.0, 0.2], rel=1e-6)


def test_without_units_the_median_of_what_varies_says_what_is_small() -> None:
    """A contact force of 300 N does not suppress positions of 0.05 m; noise of 1e-4 and constants are suppressed."""
    moments = normaliser([300.0, 0.05, 1e-4, 0.07, 0.4, 0.0, 1e-9])
    assert moments.deviation == pytest.approx([300.0, 0.05, 7e-4, 0.07, 0.4, 7e-4, 7e-4])
    mixed = normaliser([300.0, 0.05, 1e-4, 0.07, 0.4], units=("N", "", "", "", ""))
    assert mixed.deviation == pytest.approx([300.0, 0.05, 6e-4, 0.07, 0.4])


def test_where_nothing_varies_nothing_is_blown_up() -> None:
    moments = normaliser([1e-9, 2.0], units=("m", "s"))
    assert moments.deviation.tolist() == [1.0, 2.0]
    assert normaliser([1e-9, 0.0]).deviation.tolist() == [1.0, 1.0]


def test_a_floor_of_zero_divides_by_each_channels_own_deviation() -> None:
    assert normaliser([10.0, 1e-4, 1e-9], floor=0.0).deviation == pytest.approx([10.0, 1e-4, 1e-6])


def test_a_deviation_known_beforehand_is_the_least_reference() -> None:
    assert normaliser([1e-4, 3e-3], units=("x", "x"), expected=1.0).deviation.tolist() == pytest.approx([0.01, 0.01])
    assert normaliser([1e-4, 3.0], units=("x", "x"), expected=1.0).deviation.tolist() == pytest.approx([0.03, 3.0])


def test_units_of_another_number_than_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="got 2 units, expected one for each of 3 channels"):
        Normaliser(3, 0.01, ("m", "m"))


# Returns --------------------------------------------------------------------------------------------------------


def scale(returns: list[float], floor: float = DEVIATION_FLOOR) -> float:
    moments = ReturnScale(floor)
    moments.update(np.array(returns)[:, None], np.ones(len(returns), dtype=bool))
    return moments.scale


def test_returns_are_divided_by_their_deviation_or_a_share_of_their_size() -> None:
    assert ReturnScale(0.01).scale == 1.0
    assert (np.ones(1, dtype=np.float32) / ReturnScale(0.01).scale).dtype == np.float64
    assert scale([1.0, 3.0]) == pytest.approx(1.0)
    for constant in (7.0, -7.0, 1e-3):
        assert constant / scale([constant] * 4) == pytest.approx(np.sign(constant) * 100)
    assert scale([100.0, 100.2]) == pytest.approx(0.01 * np.sqrt((100.0**2 + 100.2**2) / 2))
    assert 0.0 / scale([0.0, 0.0]) == 0.0
    assert scale([0.0, 0.0]) == 1.0
    assert scale([7.0, 7.0], floor=0.0) == pytest.approx(1e-6)


# Real environments ----------------------------------------------------------------------------------------------


PAGE = Path(__file__).resolve().parents[4] / "docs" / "normalisation.md"
MEASURED = re.findall(r"```python\n(.*?)\n\n\nfor name in", PAGE.read_text(encoding="utf-8"), re.DOTALL)[0]


def normalised(name: str) -> tuple[Floats, Floats, tuple[str, ...]]:
    """Deviations of observations under random actions, raw and normalised, `[O]` each; and the units."""
    page: dict[str, Any] = {}
    exec(MEASURED, page)
    rows, units = page["seen"](name)
    moments = Normaliser(rows.shape[1], DEVIATION_FLOOR, units)
    moments.update(rows, np.ones(len(rows), dtype=bool))
    return rows.std(axis=0), moments.normalise(rows).std(axis=0), units


def test_meta_worlds_objects_that_are_only_brushed_stay_small() -> None:
    own, shown, _ = normalised("ml1:reach-v3")
    hand, placed, trembling = [0, 1, 2, 3], [4, 5], [6, 7, 8, 9, 10]  # objects' place, height and orientation
    assert np.all((own[trembling] > 1e-9) & (own[trembling] < 2e-3)), "they do move"
    assert shown[trembling].max() < 0.7
    assert shown[hand + placed] == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("name", ["humanoid-dir-2d", "walker2d-vel", "reacher-goal", "half-cheetah-vel"])
def test_what_is_small_beside_velocities_keeps_its_size(name: str) -> None:
    own, shown, _ = normalised(name)
    assert own.min() < 0.015 * own.max()
    assert shown == pytest.approx(1.0, abs=0.02)


def test_a_body_that_cannot_move_stays_still() -> None:
    own, shown, units = normalised("pusher-goal")
    assert units[19] == "m"
    assert own[19] < 1e-12
    assert shown[19] < 1e-9
    assert np.delete(shown, 19) == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("name", [n for n in names(FAMILIES) if n not in ("ml10", "ml25", "ml45", "ml")])
def test_units_are_declared_for_every_number_of_an_observation_or_for_none(name: str) -> None:
    envs = make_family(name).make_envs(1, 1, 5)
    units = envs.spaces.observation_units
    envs.close()
    assert len(units) in (0, envs.spaces.observation_size)
    assert bool(units) == (name not in ("bandit", "tabular-mdp", "delayed-recall", "point-robot", "sparse-point-robot"))


def test_a_known_deviation_is_exported_as_it_is_divided_by() -> None:
    moments = normaliser([1.0, 1e-4], units=("m", "m"))
    exported = moments.exported("observation")
    assert torch.equal(exported["observation.mean"], torch.full((2,), 5.0, dtype=torch.float64))
    assert exported["observation.deviation"].tolist() == pytest.approx([1.0, 0.01])
