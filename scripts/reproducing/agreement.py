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
from metarl.scripts.recipes import Recipe
from metarl.scripts.reproducing.table import scores_of

WORDS = {"return": "last return", "share": "share of the gap", "success": "success at the last step"}
"""Names of the compared numbers."""
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
    """Last return, share of the gap and success rate of a row over some of its seeds.

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
    row = rows[label]
    scores = scores_of(row, "scores", seeds)
    found = {"return": intervals(scores[..., None], over, statistic)[0]}
    if label not in REFERENCES and set(REFERENCES) <= set(rows):
        ends = [rows[name] for name in REFERENCES]
        low, high = (scores_of(end, "scores", [s for s in seeds if s in end["seed_list"]]) for end in ends)
        if len(low) and len(high):
            found["share"] = share_interval(scores, low, high, over, statistic)
    if row["successes"] is not None:
        found["success"] = success_interval(scores_of(row, "successes", seeds)[..., None], over)
    return found


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
            compared.append(Agreement(label, "return", None, None, f"no such row {side}"))
            continue
        same = set(mine["seed_list"]) <= set(theirs["seed_list"])
        now = numbers(fresh, label, mine["seed_list"])
        then = numbers(docs, label, mine["seed_list"] if same else theirs["seed_list"])
        note = "" if same else "other seeds"
        compared += [
            Agreement(label, name, then.get(name), now.get(name), note) for name in WORDS if name in now or name in then
        ]
    return compared


def check_same_measure(recipe: Recipe, docs: Mapping[str, Any]) -> None:
    """Raises ValueError if a table of the docs was measured in another way than a recipe does now."""
    evaluation = recipe.evaluation
    wanted = {"tasks": evaluation.tasks, "episodes": evaluation.episodes, "actions": evaluation.actions}
    there = {key: docs["evaluation"].get(key) for key in wanted}
    if docs["family"] != recipe.family or there != wanted:
        raise ValueError(
            f"--check: got a table of {docs['family']} with {there}, but the recipe has {recipe.family} with {wanted}; "
            f"make it again with metarl reproduce {recipe.name} --write"
        )


def agreement_table(compared: Sequence[Agreement], title: str) -> Table:
    """The table of met and not met numbers."""
    table = Table("agent", "number", "docs", "fresh", "", title=title, title_justify="left")
    for one in compared:
        digits = 1 if one.quantity == "return" else 2
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
