"""The check of a table in the docs against a fresh one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from metarl.comparison import Over, intervals, share_interval
from metarl.intervals import Interval
from metarl.report import REFERENCES, interval_json
from metarl.scripts.compare import success_interval
from metarl.scripts.compare_tables import interval_text
from metarl.scripts.recipes import Recipe, Score
from metarl.scripts.reproducing.shots import score_interval, shot_measure
from metarl.scripts.reproducing.table import difference, scores_of
from metarl.types import Floats

WORDS = {"return": "last return", "share": "share of the gap", "success": "success at the last step"}
WORDS |= {"error": "last error", "accuracy": "last accuracy", "minus": "minus another row"}
"""Names of the compared numbers."""
DIGITS = {"return": 1, "error": 3, "accuracy": 3}
"""Digits of scores after the point; shares and rates have two."""
RULE = (
    "A number is met if the fresh mean is in the 95 % interval of the docs and the mean of the docs in the fresh one. "
    "Both are over the same seeds if the docs have them; intervals are over tasks and seeds, with one seed over tasks."
)


@dataclass(frozen=True)
class Agreement:
    """A compared number.

    Args:
        label: The row.
        quantity: Name of the number.
        docs: In the docs; None if it is missing there.
        fresh: Now; None if it is missing.
        note: A further remark.
    """

    label: str
    quantity: str
    docs: Interval | None
    fresh: Interval | None
    note: str = ""

    @property
    def met(self) -> bool:
        """Whether each mean is in the interval of the other; without an interval, whether they are equal."""
        if self.docs is None or self.fresh is None:
            return False
        return _within(self.fresh.mean, self.docs) and _within(self.docs.mean, self.fresh)


def _within(mean: float, interval: Interval) -> bool:
    if math.isnan(interval.low):
        return mean == interval.mean
    return interval.low <= mean <= interval.high


def numbers(table: Mapping[str, Any], label: str, seeds: Sequence[int]) -> dict[str, Interval]:
    """The numbers of a row over some of its seeds.

    Last return, share of the gap and success rate; in a few-shot table the last error or accuracy; in both the
    difference from the row that is subtracted.

    Args:
        table: The table.
        label: The row.
        seeds: The seeds.

    Returns:
        By name as in `WORDS`; without numbers that the table does not determine.
    """
    rows = {row["agent"]: row for row in table["rows"]}
    over: Over = "both" if len(seeds) > 1 else "tasks"
    statistic = table["evaluation"]["statistic"]
    row, score = rows[label], score_of(table)
    scores = scores_of(row, "scores", seeds)
    found: dict[str, Interval] = {}
    if score != "return":
        found[score] = score_interval(scores, over, score)
    else:
        found["return"] = intervals(scores[..., None], over, statistic)[0]
        if label not in REFERENCES and set(REFERENCES) <= set(rows):
            low, high = (_common(rows[name], "scores", seeds) for name in REFERENCES)
            if len(low) and len(high):
                found["share"] = share_interval(scores, low, high, over, statistic)
        if row["successes"] is not None:
            found["success"] = success_interval(scores_of(row, "successes", seeds)[..., None], over)
    if row["minus"]:
        subtracted = _common(rows[row["minus"]["row"]], row["minus"]["scores"], seeds)
        if len(subtracted):
            found["minus"] = difference(scores, subtracted, over, statistic)
    return {name: one for name, one in found.items() if not math.isnan(one.mean)}


def _common(row: Mapping[str, Any], name: str, seeds: Sequence[int]) -> Floats:
    """Scores of a row with those of the seeds that it has."""
    return scores_of(row, name, [seed for seed in seeds if seed in row["seed_list"]])


def score_of(table: Mapping[str, Any]) -> Score:
    """Name of the score of a table."""
    score: Score = table["evaluation"].get("score", "return")
    return score


def agreements(fresh: Mapping[str, Any], docs: Mapping[str, Any], labels: Sequence[str]) -> list[Agreement]:
    """Compares all numbers of some rows of two tables.

    Args:
        fresh: The fresh table.
        docs: The table of the docs.
        labels: The rows.
    """
    compared: list[Agreement] = []
    for label in labels:
        mine, theirs = ({row["agent"]: row for row in table["rows"]}.get(label) for table in (fresh, docs))
        if mine is None or theirs is None:
            side = "in the docs" if theirs is None else "in the fresh table"
            compared.append(Agreement(label, score_of(docs), None, None, f"no such row {side}"))
            continue
        same = set(mine["seed_list"]) <= set(theirs["seed_list"])
        now = numbers(fresh, label, mine["seed_list"])
        then = numbers(docs, label, mine["seed_list"] if same else theirs["seed_list"])
        note = "" if same else "other seeds"
        compared += [
            Agreement(label, name, then.get(name), now.get(name), note) for name in WORDS if name in now or name in then
        ]
    return compared


def measure(recipe: Recipe) -> dict[str, Any]:
    """The measure of a recipe, as in the entry `evaluation` of its table."""
    if recipe.few_shot:
        return shot_measure(recipe)
    evaluation = recipe.evaluation
    return {"tasks": evaluation.tasks, "episodes": evaluation.episodes, "actions": evaluation.actions}


def check_same_measure(recipe: Recipe, docs: Mapping[str, Any]) -> None:
    """Raises ValueError if a table of the docs was measured in another way than a recipe does now."""
    wanted = measure(recipe)
    there = {key: docs["evaluation"].get(key) for key in wanted}
    if docs["family"] != recipe.family or there != wanted:
        raise ValueError(
            f"--check: got a table of {docs['family']} with {there}, but the recipe has {recipe.family} with {wanted}; "
            f"make it again with metarl reproduce {recipe.name} --write"
        )


def agreement_table(compared: Sequence[Agreement], title: str) -> Table:
    """The table of met and not met numbers."""
    table = Table("agent", "number", "docs", "fresh", "", title=title, title_justify="left")
    digits_of = {**DIGITS, "minus": next((DIGITS[one.quantity] for one in compared if one.quantity in DIGITS), 2)}
    for one in compared:
        digits = digits_of.get(one.quantity, 2)
        docs, fresh = (interval_text(interval_json(side) if side else None, digits) for side in (one.docs, one.fresh))
        said = "met" if one.met else "NOT MET"
        table.add_row(one.label, WORDS[one.quantity], docs, fresh, f"{said}, {one.note}" if one.note else said)
    return table


def agreement_json(compared: Sequence[Agreement]) -> list[dict[str, Any]]:
    """The compared numbers as a JSON value."""
    return [
        {
            "agent": one.label,
            "number": one.quantity,
            "docs": interval_json(one.docs) if one.docs else None,
            "fresh": interval_json(one.fresh) if one.fresh else None,
            "met": one.met,
        }
        for one in compared
    ]


def broken_promises(fresh: Mapping[str, Any], docs: Mapping[str, Any]) -> list[str]:
    """Promises of rows that the docs say are met, and that the fresh table does not meet, in words."""
    kept = {
        (row["agent"], bound["quantity"], bound["at_least"])
        for row in docs["rows"]
        for bound in row["bounds"]
        if bound["met"]
    }
    return [
        f"{row['agent']}: {WORDS[bound['quantity']]} {bound['mean']}, promised at least {bound['at_least']:g}"
        for row in fresh["rows"]
        for bound in row["bounds"]
        if not bound["met"] and (row["agent"], bound["quantity"], bound["at_least"]) in kept
    ]
