"""The numbers of a table of environments: its trained agents, evaluated as `metarl compare` does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from metarl.config import check
from metarl.runs import RunConfig
from metarl.scripts.compare import CompareCommand, Comparison, compared, success_at_end
from metarl.scripts.families import family_of_run
from metarl.scripts.recipes import Evaluation
from metarl.scripts.reproducing.plan import Plan, Training
from metarl.scripts.reproducing.table import (
    finished_rows,
    groups_of,
    minus_value,
    of_trainings,
    over_of,
    rounded,
    table_head,
)

ROW_KEYS: tuple[str, ...] = (
    "agent",
    "seed_list",
    "iterations",
    "env_steps",
    "episodes",
    "first_point",
    "curve",
    "difference",
    "end",
)
ROW_KEYS += ("end_of_each_seed", "share_of_gap", "success_last", "success", "diverged_episodes")
"""Entries of a row that are those of `metarl compare`."""


def compare_command(evaluation: Evaluation, seeds: int) -> CompareCommand:
    """The options of the comparison."""
    options: dict[str, Any] = {
        "tasks": evaluation.tasks,
        "episodes": evaluation.episodes,
        "actions": evaluation.actions,
    }
    command = CompareCommand(run_dirs=(), over=over_of(seeds), **options)
    check(command)
    return command


def evaluated(plan: Plan) -> Comparison:
    """Evaluates all finished trainings on the same held-out tasks.

    Raises:
        ValueError: The seeds of a row differ in a setting, or rows in their spaces.
    """
    groups = groups_of(plan, RunConfig)
    family = family_of_run(groups[0].config, None)
    return compared(groups, family, compare_command(plan.recipe.evaluation, len(plan.seeds)), plan.recipe.family)


def table_value(plan: Plan, comparison: Comparison, failed: Mapping[Training, str]) -> dict[str, Any]:
    """The table as a JSON value, with what a check of it needs.

    Args:
        plan: The plan.
        comparison: Its evaluated rows.
        failed: Last lines of failed trainings.
    """
    value, kept = comparison.value(), list[dict[str, Any]]()
    scores = {one.label: one.scores[..., -1] for one in comparison.contenders}
    rows = zip(value["rows"], comparison.contenders, finished_rows(plan), strict=True)
    for row, contender, (of_plan, trainings) in rows:
        success = success_at_end(contender, "last_step_success")
        other = plan.recipe.subtracted(of_plan)
        minus = None
        if other in scores:
            minus = minus_value(other, "scores", scores[contender.label], scores[other], comparison.command.statistic)
        kept.append(
            {
                **{key: row[key] for key in ROW_KEYS},
                **of_trainings(plan, of_plan, trainings),
                "minus": minus,
                "bounds": [bound_value(bound.quantity, bound.at_least, row, value["over"]) for bound in of_plan.bounds],
                "scores": rounded(scores[contender.label]),
                "successes": None if success is None else rounded(success[..., 0]),
            }
        )
    evaluation = {key: value[key] for key in ("split", "tasks", "actions", "statistic", "over")}
    evaluation["episodes"] = comparison.command.episodes
    return {**table_head(plan, evaluation, failed, reward_version=value["reward_version"]), "rows": kept}


def bound_value(quantity: str, at_least: float, row: Mapping[str, Any], over: str) -> dict[str, Any]:
    """A promise, its number, and whether it is met; a number that is missing does not meet it."""
    last = {"return": row["end"][over], "success": row["success_last"]}
    last["share"] = row["share_of_gap"] and row["share_of_gap"][over]
    mean = last[quantity] and last[quantity]["mean"]
    return {"quantity": quantity, "at_least": at_least, "mean": mean, "met": mean is not None and mean >= at_least}
