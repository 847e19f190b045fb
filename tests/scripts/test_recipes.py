"""Recipes fit the agents and families that they name; nothing is trained."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pytest

from metarl.registry import find_family
from metarl.report import REFERENCES
from metarl.scripts.recipes import RECIPES, Recipe, Row
from metarl.scripts.reproducing.plan import train_words
from metarl.scripts.train import _read_command
from metarl.scripts.train_shots import read_few_shot

ROWS = [
    pytest.param(recipe, row, id=f"{name}: {row.label}") for name, recipe in RECIPES.items() for row in recipe.every
]


@pytest.fixture
def family_of():
    def family(recipe: Recipe):
        try:
            return find_family(recipe.family)
        except ValueError as error:
            if "menagerie" not in recipe.family.partition(":")[0]:
                raise
            pytest.skip(f"the robot is not here: {error}")

    return family


def settings_of(recipe: Recipe, row: Row, family: Any, options: Sequence[str]) -> Any:
    """The settings that `metarl train` reads from some options."""
    if recipe.few_shot:
        _, runs, _ = read_few_shot(row.agent, recipe.family, family, options)
        return runs[0][1]
    return _read_command(row.agent, recipe.family, family, options).settings


@pytest.mark.parametrize(("recipe", "row"), ROWS)
def test_the_options_of_every_row_are_those_of_its_agent(recipe, row, family_of) -> None:
    family = family_of(recipe)
    words = train_words(recipe, row, 3)
    assert words[:3] == ("train", row.agent, recipe.family)
    training = settings_of(recipe, row, family, words[3:]).training
    assert (training.seed, training.device) == (3, "cpu")
    if not recipe.few_shot:
        assert training.blocks == 1
        assert _read_command(row.agent, recipe.family, family, words[3:]).door.workers == "0"
    assert not {"--seed", "--seeds", "--out", "--resume", "--workers", "--blocks", "--device"} & set(row.options)
    assert row.minutes > 0


@pytest.mark.parametrize("name", RECIPES)
def test_all_rows_of_a_table_play_the_same_episodes(name: str, family_of) -> None:
    recipe = RECIPES[name]
    family = family_of(recipe)
    if recipe.few_shot:
        return
    horizons = {
        row.label: settings_of(recipe, row, family, row.options).training.horizon or family.horizon
        for row in recipe.every
    }
    assert len(set(horizons.values())) == 1, horizons


@pytest.mark.parametrize("name", RECIPES)
def test_a_table_has_both_references_and_names_that_are_unique(name: str) -> None:
    recipe = RECIPES[name]
    assert recipe.name == name == re.sub(r"[^a-z0-9-]", "", name)
    if recipe.few_shot:
        assert {row.agent for row in recipe.references} == {"pooled"}
    else:
        assert [(row.label, row.agent) for row in recipe.references] == [(one, one) for one in REFERENCES]
    for names in ([row.label for row in recipe.every], [row.slug for row in recipe.every]):
        assert len(set(names)) == len(names)
    assert recipe.seeds >= 3
    assert {recipe.subtracted(row) for row in recipe.rows} <= {"", *(row.label for row in recipe.every)}
