"""The tables of docs/results that `metarl reproduce` made fit their recipes, and short ones are made again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from metarl.scripts.compare_tables import interval_text
from metarl.scripts.recipes import RECIPES, Recipe
from metarl.scripts.reproducing.agreement import DIGITS, check_same_measure, score_of
from metarl.scripts.reproducing.plan import makespan
from metarl.scripts.reproducing.table import read_table

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"
TABLES = sorted(path.stem for path in (DOCS / "results").glob("*.json"))
MINUTES, CORES = 15.0, 2


def seeds_in_time(recipe: Recipe) -> int:
    """The most seeds with which all trainings of a table end in `MINUTES` on `CORES`; 0 if one takes longer."""
    minutes = [row.minutes for row in recipe.every]
    fits = (n for n in range(recipe.seeds, 0, -1) if makespan(minutes * n, CORES) <= MINUTES)
    return next(fits, 0)


SHORT = [name for name in TABLES if name in RECIPES and seeds_in_time(RECIPES[name])]


def test_every_table_of_the_docs_fits_its_recipe_and_its_page() -> None:
    for name in TABLES:
        table = read_table(DOCS / "results" / f"{name}.json")
        check_same_measure(RECIPES[name], table)
        assert [row["agent"] for row in table["rows"]] == [row.label for row in RECIPES[name].every]
        assert not table["failed"]
        page = (DOCS / "results" / f"{name}.md").read_text(encoding="utf-8")
        assert f"`{table['command']}`" in page.replace("\n", " ")
        for row in table["rows"]:
            end = row["end"][table["evaluation"]["over"]]
            assert interval_text(end, DIGITS[score_of(table)]) in page, row["agent"]
        assert (DOCS / "images" / f"table-{name}.png").is_file()


def test_at_least_one_table_is_short_enough_to_be_made_again() -> None:
    assert seeds_in_time(RECIPES["sinusoid"]) >= 1
    assert seeds_in_time(RECIPES["half-cheetah-vel-3"]) == 0


@pytest.mark.bench_check
@pytest.mark.parametrize("name", SHORT)
def test_a_table_made_again_has_the_numbers_of_the_docs(tmp_path: Path, name: str) -> None:
    words = ["reproduce", name, "--seeds", str(seeds_in_time(RECIPES[name])), "--check", "--out", str(tmp_path / name)]
    done = subprocess.run(
        [sys.executable, "-m", "metarl.scripts.reproduce", *words[1:]],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
