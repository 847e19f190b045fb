"""A table from its finished trainings, and its page: of a family of environments, or of a few-shot family."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from metarl.scripts.recipes import Recipe
from metarl.scripts.reproducing.page import page
from metarl.scripts.reproducing.plan import Plan, Training
from metarl.scripts.reproducing.returns import evaluated, table_value
from metarl.scripts.reproducing.shot_page import shot_page
from metarl.scripts.reproducing.shots import evaluated_shots, shot_table_value


def make(plan: Plan, failed: Mapping[Training, str]) -> tuple[dict[str, Any], bytes]:
    """Evaluates all finished trainings of a plan.

    Args:
        plan: The plan.
        failed: Last lines of failed trainings.

    Returns:
        The table as a JSON value, and its picture as a PNG.

    Raises:
        ValueError: The trainings of a row differ in more than the seed, or a checkpoint is damaged.
    """
    if plan.recipe.few_shot:
        shots = evaluated_shots(plan)
        return shot_table_value(plan, shots, failed), shots.picture()
    comparison = evaluated(plan)
    return table_value(plan, comparison, failed), comparison.picture(comparison.value()["rows"])


def page_of(recipe: Recipe, table: Mapping[str, Any], picture: str) -> str:
    """The page of a table, in Markdown.

    Args:
        recipe: The recipe.
        table: The JSON value of the table.
        picture: Path of the picture from the page.
    """
    return (shot_page if recipe.few_shot else page)(recipe, table, picture)
