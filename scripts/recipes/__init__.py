"""Recipes of the tables of `docs/results`, as data: `metarl reproduce NAME` makes each by one command.

A recipe is added by an entry of `RECIPES`; `docs/reproduce.md` says how its numbers are chosen.
"""

from __future__ import annotations

from metarl.scripts.recipes.few_shot import ROBOT_DYNAMICS, SINUSOID, SKILLS
from metarl.scripts.recipes.kinds import Bound, Evaluation, Published, Quantity, Recipe, Row, Score
from metarl.scripts.recipes.locomotion import DYNAMICS, HALF_CHEETAH_VEL_3, POINT_ROBOT
from metarl.scripts.recipes.meta_world import META_WORLD
from metarl.scripts.recipes.robots import ROBOTS

TABLES = (POINT_ROBOT, HALF_CHEETAH_VEL_3, *DYNAMICS, *ROBOTS, *META_WORLD, SINUSOID, SKILLS, ROBOT_DYNAMICS)
RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in TABLES}
"""The recipes by name."""

__all__ = ["RECIPES", "Bound", "Evaluation", "Published", "Quantity", "Recipe", "Row", "Score"]
