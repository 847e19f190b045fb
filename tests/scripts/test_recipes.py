"""Recipes fit the agents and families that they name; nothing is trained."""

from __future__ import annotations

import re

import pytest

from metarl.registry import find_family
from metarl.report import REFERENCES
from metarl.scripts.recipes import RECIPES, Recipe
from metarl.scripts.reproducing.plan import train_words
from metarl.scripts.train import _read_command

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


@pytest.mark.parametrize(("recipe", "row"), ROWS)
def test_the_options_of_every_row_are_those_of_its_agent(recipe, row, family_of) -> None:
    family = family_of(recipe)
    words = train_words(recipe, row, 3)
    assert words[:3] == ("train", row.agent, recipe.family)
    command = _read_command(row.agent, recipe.family, family, words[3:])
    training = command.settings.training
    assert (training.seed, training.blocks, training.device, command.door.workers) == (3, 1, "cpu", "0")
    assert not {"--seed", "--seeds", "--out", "--resume", "--workers", "--blocks", "--device"} & set(row.options)
    assert row.minutes > 0


@pytest.mark.parametrize("name", RECIPES)
def test_all_rows_of_a_table_play_the_same_episodes(name: str, family_of) -> None:
    recipe = RECIPES[name]
    family = family_of(recipe)
    horizons = {
        row.label: _read_command(row.agent, recipe.family, family, row.options).settings.training.horizon
        or family.horizon
        for row in recipe.every
    }
    assert len(set(horizons.values())) == 1, horizons


@pytest.mark.parametrize("name", RECIPES)
def test_a_table_has_both_references_and_names_that_are_unique(name: str) -> None:
    recipe = RECIPES[name]
    assert recipe.name == name == re.sub(r"[^a-z0-9-]", "", name)
    assert [(row.label, row.agent) for row in recipe.references] == [(one, one) for one in REFERENCES]
    for names in ([row.label for row in recipe.every], [row.slug for row in recipe.every]):
        assert len(set(names)) == len(names)
    assert recipe.seeds >= 3
