"""The check of a repeated table: simulated without a fault and with one, and by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from metarl.intervals import Interval
from metarl.scripts.reproducing.agreement import RULE, Agreement, agreement_json, agreement_title, agreements
from metarl.scripts.reproducing.repetition import (
    LARGEST,
    Twice,
    difference,
    share_weights,
    training_errors,
    typical,
)
from metarl.scripts.reproducing.simulation import LINES, OTHERS, SHIFTS, TABLES, World, not_met, rates

TRIED = 60
"""Simulated tables of each test."""
PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "reproduce.md"


def close(rate: float, said: float, tables: int = TRIED) -> bool:
    """Whether a rate of some tables fits one of `TABLES`: within 3.5 standard deviations of both, and their digits."""
    both = (rate * tables + said * TABLES + 1.0) / (tables + TABLES + 2.0)
    return abs(rate - said) <= 3.5 * math.sqrt(both * (1.0 - both) * (1.0 / tables + 1.0 / TABLES)) + 0.005


def rows_of_the_page(columns: int) -> list[list[str]]:
    """Cells of all lines of the page's tables with rates and so many columns."""
    lines = [line.strip("| ").split(" | ") for line in PAGE.read_text(encoding="utf-8").splitlines() if "%" in line]
    return [cells for cells in lines if len(cells) == columns]


def rate_in(cell: str) -> float:
    return float(cell.removesuffix(" %")) / 100.0


# Simulated --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("index", range(len(LINES)))
def test_the_page_states_the_rates_without_a_fault_and_with_one(index: int) -> None:
    world, cells = LINES[index], rows_of_the_page(5 + len(SHIFTS) + 1)[index]
    found = rates(world, TRIED, seed=1)
    assert cells[:2] == [f"{world.fresh} and {world.docs}", str(found.numbers)]
    assert rate_in(cells[3]) <= 0.10
    said = [rate_in(cell) for cell in cells[3:]]
    assert all(close(*both) for both in zip((found.table, found.overlap, *found.found), said, strict=True)), found


@pytest.mark.parametrize("name", OTHERS)
def test_the_page_states_the_rates_where_the_assumptions_do_not_hold(name: str) -> None:
    (cells,) = [cells for cells in rows_of_the_page(4) if cells[0] == name]
    for (fresh, docs), cell in zip(((1, 3), (3, 3), (5, 5)), cells[1:], strict=True):
        world = replace(OTHERS[name], fresh=fresh, docs=docs)
        assert close(rates(world, TRIED, seed=2, faults=False, overlap=False).table, rate_in(cell)), (fresh, docs)


def test_rates_of_success_near_0_and_1_do_not_fail_without_a_fault() -> None:
    """Trainings that hardly differ, with a few successes or failures in 40 tasks of 20 episodes."""
    rng, failed = np.random.default_rng(0), []
    for _ in range(300):
        rows = {}
        for row, p in enumerate((0.0, 0.001, 0.02, 0.3, 0.7, 0.98, 0.999, 1.0)):
            sides = [rng.binomial(20, p, size=(n, 40)) / 20 for n in (3, 1)]
            rows[str(row)] = Twice(*sides)
        errors = training_errors(rows)
        found = [difference({name: 1.0}, rows, errors, len(rows)) for name in rows]
        failed.append(any(not one.low <= 0.0 <= one.high for one in found))
    assert np.mean(failed) <= 0.10


# By hand ----------------------------------------------------------------------------------------------------


def test_the_difference_of_few_rows_is_students_test_of_two_groups() -> None:
    rng = np.random.default_rng(3)
    levels = np.array([[0.0], [3.0], [5.0], [1.0], [8.0]])
    both = levels + rng.normal(size=(5, 40))
    rows = {"a": Twice(both[:3], both[3:])}
    found = difference({"a": 1.0}, rows, training_errors(rows), 4)
    docs, fresh = rows["a"].docs.mean(axis=1), rows["a"].fresh.mean(axis=1)
    said = stats.ttest_ind(fresh, docs).confidence_interval(1.0 - 0.05 / 4)
    assert (found.mean, found.low, found.high) == pytest.approx((fresh.mean() - docs.mean(), said.low, said.high))


def test_a_variance_that_is_small_by_accident_is_raised_and_a_large_one_stays() -> None:
    rng = np.random.default_rng(4)
    levels = {str(i): rng.normal(size=(4, 1)) for i in range(10)}
    levels |= {"small": 0.001 * levels["0"], "large": 30.0 * levels["0"]}
    rows = {name: Twice(level[:3] + np.zeros((3, 5)), level[3:] + np.zeros((1, 5))) for name, level in levels.items()}
    errors = training_errors(rows)
    assert errors["small"].variance > 1000.0 * rows["small"].variance()
    assert errors["large"].variance == pytest.approx(rows["large"].variance())
    assert all(2.0 < errors[name].degrees <= 24.0 for name in rows)


def test_the_typical_variance_is_worth_less_the_more_rows_differ() -> None:
    rng = np.random.default_rng(5)
    degrees = np.full(4000, 4.0)
    alike, worth = typical(9.0 * rng.chisquare(4, 4000) / 4.0, degrees)
    assert alike == pytest.approx(9.0, rel=0.05)
    assert worth > 50.0
    unlike = 9.0 * 6.0 / rng.chisquare(6, 4000)
    usual, worth = typical(unlike * rng.chisquare(4, 4000) / 4.0, degrees)
    assert (usual, worth) == (pytest.approx(9.0, rel=0.1), pytest.approx(6.0, rel=0.2))
    assert typical(np.full(9, 2.0), np.full(9, 4.0))[1] == LARGEST
    assert typical(np.full(4, 2.0), np.full(4, 4.0)) == (0.0, 0.0), "four rows are too few"


def test_scores_without_any_spread_agree_only_if_they_are_equal() -> None:
    def held(docs: float, fresh: float) -> bool:
        rows = {"a": Twice(np.full((3, 40), docs), np.full((1, 40), fresh))}
        found = difference({"a": 1.0}, rows, training_errors(rows), 1)
        return found.low <= 0.0 <= found.high

    assert held(5.0, 5.0)
    assert held(0.0, 0.0)
    assert held(5.0, 5.00001)
    assert not held(5.0, 6.0)
    assert not held(0.0, 1.0)


def test_one_success_among_failures_is_no_fault_but_success_in_half_of_the_tasks_is() -> None:
    few, many = np.zeros((3, 40)), np.zeros((3, 40))
    few[0, 0], many[:, :20] = 0.05, 1.0
    for fresh, fails in ((few, False), (many, True)):
        rows = {"a": Twice(np.zeros((3, 40)), fresh)}
        found = difference({"a": 1.0}, rows, training_errors(rows), 10)
        assert (found.low > 0.0) == fails


def test_the_share_has_weights_by_the_delta_method() -> None:
    rng = np.random.default_rng(6)
    levels = {"multitask": -40.0, "oracle": -10.0, "rl2": -16.0}
    rows = {name: Twice(*(level + rng.normal(size=(2, 3, 40)))) for name, level in levels.items()}
    errors = training_errors(rows)
    weights = share_weights("rl2", "multitask", "oracle", rows, errors)
    assert weights is not None
    pooled = {name: row.pooled for name, row in rows.items()}

    def share(values: dict[str, float]) -> float:
        return (values["rl2"] - values["multitask"]) / (values["oracle"] - values["multitask"])

    for name in rows:
        step = (share(pooled | {name: pooled[name] + 1e-6}) - share(pooled | {name: pooled[name] - 1e-6})) / 2e-6
        assert weights[name] == pytest.approx(step, rel=1e-6)
    assert share_weights("rl2", "oracle", "oracle", rows, errors) is None, "there is no gap"


# Tables -----------------------------------------------------------------------------------------------------


def table(scores: dict[str, np.ndarray], first_seed: int = 0) -> dict:
    rows = [
        {
            "agent": name,
            "seed_list": list(range(first_seed, first_seed + len(of_row))),
            "scores": of_row.tolist(),
            "successes": None,
            "minus": None,
        }
        for name, of_row in scores.items()
    ]
    return {"evaluation": {"statistic": "mean"}, "rows": rows}


@pytest.fixture
def scores() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(7)
    task = 3.0 * rng.normal(size=40)
    levels = {"multitask": -40.0, "oracle": 0.0, "rl2": -10.0, "varibad": -8.0, "pearl": -9.0}
    return {name: level + task + rng.normal(size=(6, 1)) + rng.normal(size=(6, 40)) for name, level in levels.items()}


def test_tables_decide_as_the_simulated_check_does(scores: dict[str, np.ndarray]) -> None:
    fresh, docs = ({name: one[part] for name, one in scores.items()} for part in (slice(3, 6), slice(0, 3)))
    fresh["rl2"] = fresh["rl2"] - 8.0
    found = {(one.label, one.quantity): one.verdict for one in agreements(table(fresh, 3), table(docs), [*scores])}
    expected = not_met({name: Twice(docs[name], fresh[name]) for name in scores})
    assert found == {key: "NOT MET" if failed else "met" for key, failed in expected.items()}
    assert [key for key, failed in expected.items() if failed] == [("rl2", "return"), ("rl2", "share")]


def test_a_repetition_of_some_seeds_score_by_score_is_met_whatever_the_other_seeds_are(
    scores: dict[str, np.ndarray],
) -> None:
    docs = {name: np.concatenate([one[:1], one[1:] - 1000.0]) for name, one in scores.items()}
    found = agreements(table({name: one[:1] for name, one in scores.items()}), table(docs), [*scores])
    assert len(found) == 8
    for one in found:
        assert (one.verdict, one.difference, one.note) == ("met", Interval(0.0, 0.0, 0.0), "equal scores")
        assert one.docs == one.fresh


def test_a_gap_that_may_be_zero_gives_shares_that_cannot_be_told(scores: dict[str, np.ndarray]) -> None:
    both = scores | {"oracle": scores["oracle"] - 40.0}
    fresh, docs = ({name: one[part] for name, one in both.items()} for part in (slice(3, 6), slice(0, 3)))
    found = agreements(table(fresh, 3), table(docs), [*both])
    assert {one.verdict for one in found if one.quantity == "return"} == {"met"}
    assert {(one.verdict, one.note) for one in found if one.quantity == "share"} == {
        ("cannot be told", "the gap may be zero")
    }
    assert agreement_title("x", found) == "x: 5 of 8 numbers of the docs are met, 3 cannot be told"


def test_one_training_on_each_side_tells_nothing_about_others(scores: dict[str, np.ndarray]) -> None:
    docs, fresh = ({name: one[seed : seed + 1] for name, one in scores.items()} for seed in (0, 1))
    found = agreements(table(fresh, 1), table(docs), [*scores])
    assert {(one.verdict, one.note) for one in found} == {("cannot be told", "one training on each side")}
    assert agreement_title("x", found) == "x: 0 of 8 numbers of the docs are met, 8 cannot be told"
    for one, value in zip(found, agreement_json(found), strict=True):
        assert one.docs is not None
        assert one.fresh is not None
        difference = {"mean": pytest.approx(one.fresh.mean - one.docs.mean), "ci_low": None, "ci_high": None}
        assert (value["met"], value["difference"]) == (None, difference)


def test_shares_are_compared_if_both_references_are_among_the_rows(scores: dict[str, np.ndarray]) -> None:
    fresh, docs = ({name: one[part] for name, one in scores.items()} for part in (slice(3, 6), slice(0, 3)))
    without = {name: one for name, one in fresh.items() if name != "oracle"}
    (only,) = agreements(table(without, 3), table(docs), ["rl2"])
    assert (only.quantity, only.verdict) == ("return", "met")
    found = {(one.label, one.quantity): one for one in agreements(table(without, 3), table(docs), [*scores])}
    assert found["oracle", "return"].note == "no such row in the fresh table"
    assert found["rl2", "share"].note == "missing in the fresh table"
    failed = [key for key, one in found.items() if one.verdict == "NOT MET"]
    assert failed == [("oracle", "return"), ("rl2", "share"), ("varibad", "share"), ("pearl", "share")]


def test_success_is_compared_if_a_side_has_it(scores: dict[str, np.ndarray]) -> None:
    docs, fresh = (table({name: one[:3] for name, one in scores.items()}) for _ in range(2))
    fresh["rows"][2]["successes"] = np.ones((3, 40)).tolist()
    found = agreements(fresh, docs, [*scores])
    assert [(one.label, one.note) for one in found if one.quantity == "success"] == [("rl2", "missing in the docs")]
    docs["rows"][2]["successes"] = np.zeros((3, 40)).tolist()
    (one,) = [one for one in agreements(fresh, docs, ["rl2"]) if one.quantity == "success"]
    assert one.verdict == "NOT MET"
    assert one.difference is not None
    assert (one.difference.mean, one.difference.low) == (1.0, pytest.approx(1.0, abs=1e-3))


def test_missing_sides_are_not_met_and_the_rule_states_its_level() -> None:
    here = Interval(1.0, 0.0, 2.0)
    assert Agreement("a", "return", here, None).verdict == "NOT MET"
    assert Agreement("a", "return", None, here).verdict == "NOT MET"
    assert "95 %" in RULE


def test_a_world_has_the_deviations_that_it_declares() -> None:
    world = World(rows=3, fresh=4000, docs=4000, training=2.0, unlike=0.0, tasks=5, drift=0.5)
    row, deviation = world.draw(np.random.default_rng(8))["agent 1"]
    assert deviation == 2.0
    assert row.docs.mean(axis=1).std() == pytest.approx(math.sqrt(4.0 + 0.2), rel=0.05)
    assert np.corrcoef(row.docs[:, 0], row.fresh[:, 0])[0, 1] == pytest.approx(0.5, abs=0.06)
