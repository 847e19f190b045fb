"""`metarl reproduce` for few-shot tables: a small one from its trainings to the check."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metarl.intervals import Interval
from metarl.scripts.recipes import RECIPES, Bound, Recipe, Row
from metarl.scripts.reproducing.agreement import measure
from metarl.scripts.reproducing.shots import score_interval

SIZES = ("--iterations", "3", "--tasks", "4", "--eval-every", "0", "--agent.hidden", "8")
STEPS = (*SIZES, "--agent.inner-steps", "2")
FAMILY = "sinusoid:shots=3"
TINY = Recipe(
    name="tiny-shots",
    title="A tiny few-shot table",
    family=FAMILY,
    references=(
        Row("pooled", "pooled", 0.02, STEPS),
        Row("pooled, 3 steps", "pooled", 0.02, (*SIZES, "--agent.inner-steps", "3")),
    ),
    rows=(
        Row("maml", "maml", 0.02, STEPS),
        Row("wild", "fomaml", 0.02, (*SIZES, "--agent.inner-lr", "1000"), minus="maml"),
        Row("versa", "versa", 0.02, SIZES, minus="pooled, 3 steps"),
    ),
    seeds=2,
    about="Trained hardly at all.",
    score="error",
    minus="pooled",
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the results of the tiny table, and with docs that hold it."""
    from metarl.scripts.cli import main

    folder = tmp_path_factory.mktemp("made")
    (folder / "docs" / "results").mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(RECIPES, TINY.name, TINY)
        words = ["reproduce", TINY.name, "--out", str(folder / "out"), "--write", "--docs", str(folder / "docs")]
        assert main(words) == 0
    return folder


@pytest.fixture
def tiny_table(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Such a folder of the test's own."""
    monkeypatch.setitem(RECIPES, TINY.name, TINY)
    return Path(shutil.copytree(made, tmp_path / "made"))


@pytest.fixture
def offer(monkeypatch: pytest.MonkeyPatch) -> Callable[[Recipe], None]:
    """Registers a recipe for the test."""
    return lambda recipe: monkeypatch.setitem(RECIPES, recipe.name, recipe)


def table(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "docs" / "results" / "tiny-shots.json").read_text())


def rows(folder: Path) -> dict[str, dict[str, Any]]:
    return {row["agent"]: row for row in table(folder)["rows"]}


def mean(value: dict[str, Any], over: str = "both") -> float:
    return value["difference"][over]["mean"]


def test_one_seed_has_the_numbers_of_metarl_evaluate(run_metarl, tiny_table: Path) -> None:
    out = tiny_table / "out"
    code, printed, err = run_metarl("reproduce", TINY.name, "--out", out, "--resume", "--seeds", "1", "--json")
    assert code == 0, err
    mine = {row["agent"]: row for row in json.loads(printed.splitlines()[-1])["rows"]}
    words = ("evaluate", out / "maml-seed-0", "--reference", out / "pooled-seed-0", "--no-oracle", "--json")
    code, printed, err = run_metarl(*words)
    assert code == 0, err
    theirs = json.loads(printed.splitlines()[-1])
    assert (theirs["tasks"], theirs["queries"]) == (100, 100)
    for one in theirs["learners"]:
        row = mine[one["label"]]
        assert [point["shots"] for point in row["curve"]] == [0, 1, 2, 3]
        steps = {point["steps"]: point for point in row["over_steps"]}
        pairs = [*zip(row["curve"], one["over_shots"], strict=True)]
        pairs += [(steps[point["steps"]], point) for point in one["over_steps"]]
        for point, expected in pairs:
            for key in ("mean", "ci_low", "ci_high"):
                assert point[key] == pytest.approx(expected[key], rel=1e-12)
    own = theirs["learners"][0]["over_steps"][2]["mean"]
    assert mine["maml"]["own_steps"] == 2
    assert mine["maml"]["end"]["tasks"]["mean"] == pytest.approx(own, rel=1e-12)
    assert np.mean(mine["maml"]["scores"]) == pytest.approx(own, rel=1e-5)
    for name, key in (("pooled, not adapting", "minus"), ("pooled", "minus_adapted")):
        assert mean(mine["maml"][key], "tasks") == pytest.approx(theirs["differences"][name]["mean"], rel=1e-9)
    before = theirs["differences"]["before adaptation"]
    assert mine["maml"]["difference"]["mean"] == pytest.approx(before["mean"], rel=1e-9)


def test_differences_and_shares_are_those_of_the_row_that_is_subtracted(tiny_table: Path) -> None:
    found = rows(tiny_table)
    scores = {label: np.array(row["scores"], dtype=float) for label, row in found.items()}
    first = {label: np.array(row["first_scores"], dtype=float) for label, row in found.items()}
    assert scores["maml"].shape == (2, 100)
    assert mean(found["maml"]["minus"]) == pytest.approx((scores["maml"] - first["pooled"]).mean(), rel=1e-4)
    assert mean(found["maml"]["minus_adapted"]) == pytest.approx((scores["maml"] - scores["pooled"]).mean(), rel=1e-4)
    assert found["versa"]["minus"]["row"] == "pooled, 3 steps"
    expected = (scores["versa"] - first["pooled, 3 steps"]).mean()
    assert mean(found["versa"]["minus"]) == pytest.approx(expected, rel=1e-4)
    assert found["versa"]["minus_adapted"] is found["versa"]["shares"] is found["versa"]["over_steps"] is None
    assert found["wild"]["minus"]["scores"] == "scores", "maml adapts, so its end is subtracted"
    assert found["pooled"]["minus"] is found["pooled"]["shares"] is None
    steps = {
        label: {point["steps"]: point["mean"] for point in found[label]["over_steps"]} for label in ("maml", "pooled")
    }
    assert [share["steps"] for share in found["maml"]["shares"]] == [1, 2, 10]
    for share in found["maml"]["shares"]:
        n = share["steps"]
        assert share["mean"] == pytest.approx(steps["maml"][n] / steps["pooled"][n])
        assert share["ci_low"] < share["mean"] < share["ci_high"]
    assert found["pooled, 3 steps"]["own_steps"] == 3


def test_a_diverging_adaptation_is_said_in_its_cell_and_ends_nothing(tiny_table: Path) -> None:
    found, page = rows(tiny_table), (tiny_table / "docs" / "results" / "tiny-shots.md").read_text()
    by_steps = {point["steps"]: point for point in found["wild"]["over_steps"]}
    assert by_steps[0]["mean"] is not None
    assert (by_steps[10]["mean"], by_steps[10]["diverged"]) == (None, 2)
    (line,) = [line for line in page.splitlines() if line.startswith("| `wild` |") and line.count("diverges")]
    assert "| diverges |" in line
    assert found["maml"]["over_steps"][-1]["diverged"] == 0
    assert table(tiny_table)["best"]["row"] != "wild"


def test_the_page_tells_which_learner_to_take(tiny_table: Path) -> None:
    page = (tiny_table / "docs" / "results" / "tiny-shots.md").read_text()
    found, text = table(tiny_table), " ".join(page.split())
    start = json.loads((tiny_table / "out" / "maml-seed-1" / "versions.json").read_text())["starts"][0]
    ends = {row["agent"]: np.mean(row["scores"]) for row in found["rows"] if row["scores"][0][0] is not None}
    assert found["best"]["row"] == min(ends, key=lambda label: ends[label])
    for said in (
        "Written by `metarl reproduce tiny-shots`",
        f"Family: `{FAMILY}`. Seeds: 0, 1.",
        f"Commit: {(start['commit'] or 'not recorded')[:12]}",
        start["machine"]["processor"],
        "100 held-out tasks, 100 queries in each. Mean squared errors (less is better) with 95 % intervals over tasks",
        "Trained hardly at all.",
        f"Least error after 3 shots: `{found['best']['row']}`; ",
        "| learner | 0 shots | 1 shot | 2 shots | 3 shots |",
        "| share after 1 | own | 10 | minus adapted |",
        "| `pooled, 3 steps`, not adapting |",
        "| `maml` | last error |",
        "metarl train maml sinusoid:shots=3 --seed 0 --device cpu --track none --iterations 3 --tasks 4",
        "](../images/table-tiny-shots.png)",
    ):
        assert said in text, said
    end = rows(tiny_table)["maml"]["end"]["both"]
    assert f"| {end['mean']:.3f} [{end['ci_low']:.3f}, {end['ci_high']:.3f}] |" in text
    assert (tiny_table / "docs" / "images" / "table-tiny-shots.png").read_bytes().startswith(b"\x89PNG")


def checked(run_metarl, folder: Path, *more: str) -> tuple[int, str, str]:
    words = ("--out", folder / "out", "--resume", "--check", "--docs", folder / "docs", *more)
    return run_metarl("reproduce", TINY.name, *words)


def test_check_meets_the_docs_of_examples_that_the_same_command_wrote(run_metarl, tiny_table: Path) -> None:
    code, out, err = checked(run_metarl, tiny_table, "--json")
    assert code == 0, out + err
    compared = json.loads(out.splitlines()[-1])["compared"]
    assert {(one["agent"], one["number"]) for one in compared} >= {
        *((row.label, "error") for row in TINY.references),
        ("maml", "error"),
        ("maml", "minus"),
        ("versa", "minus"),
    }
    assert all(one["met"] for one in compared)
    assert "NOT MET" not in out


def test_check_names_what_is_not_met(run_metarl, tiny_table: Path) -> None:
    docs = table(tiny_table)
    for row in docs["rows"]:
        if row["agent"] == "maml":
            row["scores"] = [[score + 500.0 for score in scores] for scores in row["scores"]]
        if row["agent"] == "pooled, 3 steps":
            row["first_scores"] = [[score + 500.0 for score in scores] for scores in row["first_scores"]]
    docs["rows"] = [row for row in docs["rows"] if row["agent"] != "wild"]
    (tiny_table / "docs" / "results" / "tiny-shots.json").write_text(json.dumps(docs))
    code, out, err = checked(run_metarl, tiny_table, "--json")
    assert code == 1, err
    compared = json.loads(out.splitlines()[-1])["compared"]
    unmet = {(one["agent"], one["number"]) for one in compared if not one["met"]}
    assert unmet == {("maml", "error"), ("maml", "minus"), ("versa", "minus"), ("wild", "error")}
    assert "no such row in the docs" in out


def test_check_is_refused_before_training_if_the_docs_measured_something_else(run_metarl, tiny_table, offer) -> None:
    assert measure(TINY) == {"tasks": 100, "shots": [0, 1, 2, 3], "queries": 100, "score": "error"}
    docs = table(tiny_table)
    docs["evaluation"]["shots"] = [0, 3]
    (tiny_table / "docs" / "results" / "tiny-shots.json").write_text(json.dumps(docs))
    code, _, err = checked(run_metarl, tiny_table)
    assert code == 2
    assert "'shots': [0, 3]" in err
    offer(replace(TINY, family="sinusoid:shots=4"))
    code, _, err = checked(run_metarl, tiny_table)
    assert code == 2
    assert "got a table of sinusoid:shots=3 with" in err


def test_some_rows_alone_have_no_difference_from_a_missing_one(run_metarl, tiny_table: Path) -> None:
    words = ("--out", tiny_table / "out", "--resume", "--rows", "versa", "--json")
    code, out, err = run_metarl("reproduce", TINY.name, *words)
    assert code == 0, err
    value = json.loads(out.splitlines()[-1])
    (row,) = value["rows"]
    assert row["minus"] is None
    assert value["best"] == {"row": "versa", "level": []}
    assert "| learner | first | last | last - first | steps |" in (tiny_table / "out" / "tiny-shots.md").read_text()


def test_seeds_of_different_settings_are_refused_and_promises_too(run_metarl, tiny_table: Path) -> None:
    path = tiny_table / "out" / "maml-seed-1" / "config.json"
    changed = json.loads(path.read_text())
    changed["agent_config"]["inner_lr"] *= 2.0
    path.write_text(json.dumps(changed))
    code, _, err = run_metarl("reproduce", TINY.name, "--out", tiny_table / "out", "--resume")
    assert code == 2
    assert "in agent_config.inner_lr" in err
    with pytest.raises(ValueError, match="few-shot tables have no promises"):
        replace(TINY, rows=(Row("maml", "maml", 1.0, bounds=(Bound("return", 0.0),)),))


def test_intervals_of_accuracies_have_a_width_and_stay_between_0_and_1() -> None:
    right = np.ones((3, 20))
    for over in ("tasks", "seeds", "both"):
        found = score_interval(right, over, "accuracy")
        assert (found.mean, found.high) == (1.0, 1.0)
        assert 0.0 < found.low < 1.0
    right[0, 3] = np.nan
    assert all(math.isnan(value) for value in vars(score_interval(right, "both", "error")).values())
    assert isinstance(found, Interval)
