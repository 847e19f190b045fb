"""The check of a table in the docs against a fresh one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from rich.table import Table

from metarl.comparison import Over, contributions, intervals, share_interval
from metarl.intervals import UNTOLD, Interval, Spread
from metarl.report import REFERENCES, interval_json
from metarl.scripts.compare import success_interval
from metarl.scripts.compare_tables import interval_text
from metarl.scripts.recipes import Recipe
from metarl.scripts.reproducing.repetition import (
    FALSE_ALARM,
    ROUNDING,
    Twice,
    difference,
    share_weights,
    training_errors,
)
from metarl.scripts.reproducing.table import scores_of

WORDS = {"return": "last return", "share": "share of the gap", "success": "success at the last step"}
"""Names of the compared numbers."""
SCORES = {"return": "scores", "share": "scores", "success": "successes"}
"""Entry of a row from which each number is computed."""
RULE = (
    "A number is met if the interval of fresh - docs holds 0. Its error is that of trainings, since the tasks are the "
    "same. Docs: over all their seeds, or over the fresh ones if their scores are equal. Without a fault all intervals "
    f"of the table hold 0 at once in about {100 * (1.0 - FALSE_ALARM):.0f} % of repetitions."
)
Verdict = Literal["met", "NOT MET", "cannot be told"]


@dataclass(frozen=True)
class Agreement:
    """A compared number.

    Args:
        label: The row.
        quantity: Name of the number.
        docs: In the docs; None if it is missing there.
        fresh: Now; None if it is missing.
        difference: Fresh minus docs; None if either is missing. Its bounds are NaN if they cannot be told.
        note: A further remark.
    """

    label: str
    quantity: str
    docs: Interval | None
    fresh: Interval | None
    difference: Interval | None = None
    note: str = ""

    @property
    def verdict(self) -> Verdict:
        """Whether the interval of the difference holds zero. A number that is missing on one side is not met."""
        if self.docs is None or self.fresh is None or self.difference is None:
            return "NOT MET"
        if math.isnan(self.difference.low):
            return "cannot be told"
        return "met" if self.difference.low <= 0.0 <= self.difference.high else "NOT MET"


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


def twice(fresh: Mapping[str, Any], docs: Mapping[str, Any], scores: str) -> dict[str, Twice]:
    """The rows of the docs with their scores in both tables.

    Args:
        fresh: The fresh table.
        docs: The table of the docs.
        scores: The entry with the scores, `[seed, task]`.

    Returns:
        By name, without rows that lack this entry.
    """
    now, found = {row["agent"]: row for row in fresh["rows"]}, dict[str, Twice]()
    for then in docs["rows"]:
        row = now.get(then["agent"])
        if then[scores] is None:
            continue
        theirs = scores_of(then, scores, then["seed_list"])
        if row is None or row[scores] is None:
            found[then["agent"]] = Twice(theirs, theirs[:0])
            continue
        mine, size = scores_of(row, scores, row["seed_list"]), float(np.abs(theirs).max())
        common = [seed for seed in row["seed_list"] if seed in then["seed_list"]]
        apart = np.abs(scores_of(row, scores, common) - scores_of(then, scores, common))  # [seed, task]
        equal = sum(bool((one <= ROUNDING * size).all()) for one in apart)
        statistics = (fresh["evaluation"]["statistic"], docs["evaluation"]["statistic"])
        sides = zip((mine, theirs), statistics, strict=True)
        mine, theirs = (contributions(side[..., None], statistic)[..., 0] for side, statistic in sides)
        found[then["agent"]] = Twice(theirs, mine, equal)
    return found


def parts_of(quantity: str, label: str) -> tuple[str, ...]:
    """The rows from which a number of a row is computed."""
    return (label, *REFERENCES) if quantity == "share" else (label,)


def agreements(fresh: Mapping[str, Any], docs: Mapping[str, Any], labels: Sequence[str]) -> list[Agreement]:
    """Compares all numbers of some rows of two tables.

    The share of the gap is compared if both references are among the rows.

    Args:
        fresh: The fresh table.
        docs: The table of the docs.
        labels: The rows.
    """
    rows = {name: twice(fresh, docs, name) for name in SCORES.values()}
    errors = {name: training_errors(of_scores) for name, of_scores in rows.items()}
    compared = list[Agreement]()
    for label in labels:
        names = [name for name in WORDS if set(parts_of(name, label)) <= set(labels)]
        compared += _both_sides(fresh, docs, label, names, rows)
    known = sum(one.docs is not None and one.fresh is not None for one in compared)
    return [_decided(one, rows[SCORES[one.quantity]], errors[SCORES[one.quantity]], known) for one in compared]


def _both_sides(
    fresh: Mapping[str, Any],
    docs: Mapping[str, Any],
    label: str,
    names: Sequence[str],
    rows: Mapping[str, Mapping[str, Twice]],
) -> list[Agreement]:
    """Some numbers of a row in both tables, not decided yet; those of the docs over the fresh seeds if repeated."""
    mine, theirs = ({row["agent"]: row for row in table["rows"]}.get(label) for table in (fresh, docs))
    if mine is None or theirs is None:
        side = "in the docs" if theirs is None else "in the fresh table"
        return [Agreement(label, "return", None, None, note=f"no such row {side}")]
    now, found = numbers(fresh, label, mine["seed_list"]), list[Agreement]()
    for name in names:
        parts = parts_of(name, label)
        repeated = all(part in rows[SCORES[name]] and rows[SCORES[name]][part].repeated for part in parts)
        then = numbers(docs, label, mine["seed_list"] if repeated else theirs["seed_list"])
        if name in now and name in then:
            found.append(Agreement(label, name, then[name], now[name]))
        elif name in now or name in then:
            side = "in the docs" if name in now else "in the fresh table"
            found.append(Agreement(label, name, then.get(name), now.get(name), note=f"missing {side}"))
    return found


def _decided(one: Agreement, rows: Mapping[str, Twice], errors: Mapping[str, Spread], count: int) -> Agreement:
    """The same number with its difference; `count` numbers of the table are compared."""
    if one.docs is None or one.fresh is None:
        return one
    parts = parts_of(one.quantity, one.label)
    if all(rows[part].repeated for part in parts):
        return replace(one, difference=Interval(0.0, 0.0, 0.0), note="equal scores")
    if any(errors[part].degrees == 0 for part in parts):
        change = Interval(one.fresh.mean - one.docs.mean, UNTOLD, UNTOLD)
        return replace(one, difference=change, note="one training on each side")
    weights = {one.label: 1.0}
    if one.quantity == "share":
        agent, low, high = parts
        of_share = share_weights(agent, low, high, rows, errors)
        if of_share is None:
            change = Interval(one.fresh.mean - one.docs.mean, UNTOLD, UNTOLD)
            return replace(one, difference=change, note="the gap may be zero")
        weights = of_share
    mine = rows[one.label]
    note = f"{mine.equal} of {len(mine.fresh)} trainings equal" if mine.equal else ""
    return replace(one, difference=difference(weights, rows, errors, count), note=note)


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
    table = Table("agent", "number", "docs", "fresh", "fresh - docs", "", title=title, title_justify="left")
    for one in compared:
        digits = 1 if one.quantity == "return" else 2
        sides = (one.docs, one.fresh, one.difference)
        cells = (interval_text(interval_json(side) if side else None, digits) for side in sides)
        said = f"{one.verdict}, {one.note}" if one.note else one.verdict
        table.add_row(one.label, WORDS[one.quantity], *cells, said)
    return table


def agreement_title(name: str, compared: Sequence[Agreement]) -> str:
    """How many numbers of a table are met, and how many cannot be told."""
    met, untold = (sum(one.verdict == said for one in compared) for said in ("met", "cannot be told"))
    more = f", {untold} cannot be told" if untold else ""
    return f"{name}: {met} of {len(compared)} numbers of the docs are met{more}"


def agreement_json(compared: Sequence[Agreement]) -> list[dict[str, Any]]:
    """The compared numbers as a JSON value; `met` is null if it cannot be told."""
    return [
        {
            "agent": one.label,
            "number": one.quantity,
            "docs": interval_json(one.docs) if one.docs else None,
            "fresh": interval_json(one.fresh) if one.fresh else None,
            "difference": interval_json(one.difference) if one.difference else None,
            "met": {"met": True, "NOT MET": False}.get(one.verdict),
            "note": one.note,
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
