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
from metarl.scripts.recipes import Recipe, Score
from metarl.scripts.reproducing.repetition import (
    FALSE_ALARM,
    ROUNDING,
    Twice,
    difference,
    share_weights,
    training_errors,
)
from metarl.scripts.reproducing.shots import score_interval, shot_measure
from metarl.scripts.reproducing.table import difference as row_difference
from metarl.scripts.reproducing.table import scores_of
from metarl.types import Floats

WORDS = {"return": "last return", "share": "share of the gap", "success": "success at the last step"}
WORDS |= {"error": "last error", "accuracy": "last accuracy", "minus": "minus another row"}
"""Names of the compared numbers."""
DIGITS = {"return": 1, "error": 3, "accuracy": 3}
"""Digits of scores after the point; shares and rates have two."""
Part = tuple[str, str]
"""Scores `[seed, task]` of which a number is made: their entry, and the row."""
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
                share = share_interval(scores, low, high, over, statistic)
                found |= {"share": share} if share else {}
        if row["successes"] is not None:
            found["success"] = success_interval(scores_of(row, "successes", seeds)[..., None], over)
    if (minus := row.get("minus")) and minus["row"] in rows:
        subtracted = _common(rows[minus["row"]], minus["scores"], seeds)
        if len(subtracted):
            found["minus"] = row_difference(scores, subtracted, over, statistic)
    return {name: one for name, one in found.items() if not math.isnan(one.mean)}


def _common(row: Mapping[str, Any], name: str, seeds: Sequence[int]) -> Floats:
    """Scores of a row with those of the seeds that it has."""
    return scores_of(row, name, [seed for seed in seeds if seed in row["seed_list"]])


def score_of(table: Mapping[str, Any]) -> Score:
    """Name of the score of a table."""
    score: Score = table["evaluation"].get("score", "return")
    return score


def parts_of(quantity: str, label: str, minus: Mapping[str, Any] | None) -> tuple[Part, ...]:
    """The scores of which a number of a row is made; its own are the first.

    Args:
        quantity: Name of the number.
        label: The row.
        minus: Its entry `minus`.

    Returns:
        The parts; none for a difference of a row from which nothing is subtracted.
    """
    if quantity == "share":
        return tuple(("scores", row) for row in (label, *REFERENCES))
    if quantity == "minus":
        return (("scores", label), (minus["scores"], minus["row"])) if minus else ()
    return (("successes" if quantity == "success" else "scores", label),)


def weights_of(
    quantity: str, parts: Sequence[Part], rows: Mapping[Part, Twice], errors: Mapping[Part, Spread]
) -> dict[Part, float] | None:
    """Weights of the parts of a number in its difference; None for a share whose gap may be zero."""
    if quantity == "share":
        agent, low, high = parts
        return share_weights(agent, low, high, rows, errors)
    return dict(zip(parts, (1.0, -1.0), strict=False))


def twice(fresh: Mapping[str, Any], docs: Mapping[str, Any], entry: str) -> dict[Part, Twice]:
    """The rows of the docs with their scores in both tables.

    Args:
        fresh: The fresh table.
        docs: The table of the docs.
        entry: The entry with the scores, `[seed, task]`.

    Returns:
        By part, without rows that lack this entry in the docs or whose scores there are not finite.
    """
    now, found = {row["agent"]: row for row in fresh["rows"]}, dict[Part, Twice]()
    statistics = (fresh["evaluation"]["statistic"], docs["evaluation"]["statistic"])
    for then in docs["rows"]:
        row, part = now.get(then["agent"]), (entry, then["agent"])
        if then.get(entry) is None:
            continue
        theirs = scores_of(then, entry, then["seed_list"])
        if not np.isfinite(theirs).all():
            continue
        mine = theirs[:0] if row is None or row.get(entry) is None else scores_of(row, entry, row["seed_list"])
        if row is None or not len(mine) or not np.isfinite(mine).all():
            found[part] = Twice(theirs, theirs[:0])
            continue
        size = float(np.abs(theirs).max())
        common = [seed for seed in row["seed_list"] if seed in then["seed_list"]]
        apart = np.abs(scores_of(row, entry, common) - scores_of(then, entry, common))  # [seed, task]
        equal = sum(bool((one <= ROUNDING * size).all()) for one in apart)
        sides = zip((mine, theirs), statistics, strict=True)
        mine, theirs = (contributions(side[..., None], statistic)[..., 0] for side, statistic in sides)
        found[part] = Twice(theirs, mine, equal)
    return found


def agreements(fresh: Mapping[str, Any], docs: Mapping[str, Any], labels: Sequence[str]) -> list[Agreement]:
    """Compares all numbers of some rows of two tables.

    A number that is made of several rows is compared if all of them are among the rows.

    Args:
        fresh: The fresh table.
        docs: The table of the docs.
        labels: The rows.
    """
    score = score_of(docs)
    names = ("return", "share", "success", "minus") if score == "return" else (score, "minus")
    minus = {row["agent"]: row["minus"] for table in (fresh, docs) for row in table["rows"] if row.get("minus")}
    made = {(label, name): parts_of(name, label, minus.get(label)) for label in labels for name in names}
    made = {key: parts for key, parts in made.items() if parts}
    rows, errors = dict[Part, Twice](), dict[Part, Spread]()
    for entry in sorted({entry for parts in made.values() for entry, _ in parts}):
        of_entry = twice(fresh, docs, entry)
        rows, errors = rows | of_entry, errors | training_errors(of_entry)
    compared = list[Agreement]()
    for label in labels:
        of_row = {name: made[label, name] for name in names if (label, name) in made}
        parts = {name: one for name, one in of_row.items() if {row for _, row in one} <= set(labels)}
        compared += _both_sides(fresh, docs, label, parts, rows)
    count = sum(one.docs is not None and one.fresh is not None for one in compared)
    return [_decided(one, made[one.label, one.quantity], rows, errors, count) for one in compared]


def _both_sides(
    fresh: Mapping[str, Any],
    docs: Mapping[str, Any],
    label: str,
    made: Mapping[str, Sequence[Part]],
    rows: Mapping[Part, Twice],
) -> list[Agreement]:
    """The numbers of a row in both tables, not decided yet; those of the docs over the fresh seeds if repeated."""
    mine, theirs = ({row["agent"]: row for row in table["rows"]}.get(label) for table in (fresh, docs))
    if mine is None or theirs is None:
        side = "in the docs" if theirs is None else "in the fresh table"
        return [Agreement(label, next(iter(made)), None, None, note=f"no such row {side}")]
    now, found = numbers(fresh, label, mine["seed_list"]), list[Agreement]()
    for name, parts in made.items():
        repeated = all(part in rows and rows[part].repeated for part in parts)
        then = numbers(docs, label, mine["seed_list"] if repeated else theirs["seed_list"])
        if name in now and name in then:
            found.append(Agreement(label, name, then[name], now[name]))
        elif name in now or name in then:
            side = "in the docs" if name in now else "in the fresh table"
            found.append(Agreement(label, name, then.get(name), now.get(name), note=f"missing {side}"))
    return found


def _decided(
    one: Agreement,
    parts: Sequence[Part],
    rows: Mapping[Part, Twice],
    errors: Mapping[Part, Spread],
    count: int,
) -> Agreement:
    """The same number with its difference; `count` numbers of the table are compared."""
    if one.docs is None or one.fresh is None:
        return one
    if all(rows[part].repeated for part in parts):
        return replace(one, difference=Interval(0.0, 0.0, 0.0), note="equal scores")
    untold = Interval(one.fresh.mean - one.docs.mean, UNTOLD, UNTOLD)
    if any(errors[part].degrees == 0 for part in parts):
        return replace(one, difference=untold, note="one training on each side")
    weights = weights_of(one.quantity, parts, rows, errors)
    if weights is None:
        return replace(one, difference=untold, note="the gap may be zero")
    mine = rows[parts[0]]
    note = f"{mine.equal} of {len(mine.fresh)} trainings equal" if mine.equal else ""
    return replace(one, difference=difference(weights, rows, errors, count), note=note)


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
    table = Table("agent", "number", "docs", "fresh", "fresh - docs", "", title=title, title_justify="left")
    digits_of = {**DIGITS, "minus": next((DIGITS[one.quantity] for one in compared if one.quantity in DIGITS), 2)}
    for one in compared:
        digits = digits_of.get(one.quantity, 2)
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
