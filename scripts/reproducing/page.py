"""The page of a table of environments, in Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from metarl.comparison import OVERS
from metarl.report import REFERENCES, counted, millions
from metarl.scripts.bench.tables import markdown
from metarl.scripts.compare_tables import interval_text
from metarl.scripts.recipes import Recipe
from metarl.scripts.reproducing.agreement import WORDS
from metarl.scripts.reproducing.page_parts import (
    Errors,
    errors_table,
    head,
    over_words,
    range_text,
    several_seeds,
    tail,
    tasks_words,
)


def page(recipe: Recipe, table: Mapping[str, Any], picture: str) -> str:
    """The page: where the numbers come from, the tables, the picture, published figures, the commands of the rows.

    Args:
        recipe: The recipe.
        table: The JSON value of the table.
        picture: Path of the picture from the page.
    """
    parts = [
        *head(recipe, table, _evaluation(table)),
        _main_table(table),
        *([_curve_table(table)] if any(len(row["episodes"]) > 2 for row in table["rows"]) else []),
        f"![{recipe.name}: return against adaptation episodes]({picture})",
    ]
    if any(row["minus"] for row in table["rows"]):
        parts += ["## Differences", _differences_table(table)]
    if several_seeds(table):
        parts += ["## By source of error", errors_table(_errors(table))]
    if any(row["bounds"] for row in table["rows"]):
        parts += ["## Promises", _bounds_table(table)]
    return "\n\n".join([*parts, *tail(recipe, table)]) + "\n"


def _evaluation(table: Mapping[str, Any]) -> str:
    said = table["evaluation"]
    return (
        f"{tasks_words(said)}, {counted(said['episodes'], 'episodes')} a point; actions: {said['actions']}. "
        f"Mean returns with 95 % intervals {over_words(said['over'])} ([evaluation](../evaluation.md)). "
        "*Share*: of the gap between `multitask`, which is told nothing, and `oracle`, which observes the task. "
        "*First*: before adaptation; for agents with a memory the first episode, during which they adapt. *Episodes*: "
        "of adaptation, before the last point. *Minutes*: of sampling and updates, per seed on one core."
    )


def _main_table(table: Mapping[str, Any]) -> str:
    over = table["evaluation"]["over"]
    columns = {
        "agent": "agent",
        "share": "share of the gap",
        "first": "first",
        "last": "last",
        "difference": "last - first",
    }
    if any(row["success_last"] for row in table["rows"]):
        columns |= {"success": "success, last step", "any": "any step"}
    columns |= {"episodes": "episodes", "seeds": "seeds", "steps": "env steps", "minutes": "minutes"}
    return markdown(columns, [_main_row(row, over) for row in table["rows"]])


def _main_row(row: Mapping[str, Any], over: str) -> dict[str, str]:
    steps, minutes = row["env_steps"], row["minutes"]
    return {
        "agent": f"`{row['agent']}`",
        "share": _share(row, over),
        "first": interval_text(row["curve"][0]),
        "last": "" if row["agent"] in REFERENCES and len(row["curve"]) == 1 else interval_text(row["curve"][-1]),
        "difference": interval_text(row["difference"]),
        "success": interval_text(row["success_last"], 2),
        "any": interval_text(row["success"], 2),
        "episodes": str(row["episodes"][-1]),
        "seeds": str(len(row["seed_list"])),
        "steps": range_text([millions(n) for n in (min(steps), max(steps))]),
        "minutes": range_text([f"{m:.1f}" for m in (min(minutes), max(minutes))]),
    }


def _share(row: Mapping[str, Any], over: str) -> str:
    if row["agent"] in REFERENCES:
        return str(list(REFERENCES).index(row["agent"]))
    return interval_text(row["share_of_gap"] and row["share_of_gap"][over], 2)


def _curve_table(table: Mapping[str, Any]) -> str:
    """Returns after every number of adaptation episodes, for agents that have more than two points."""
    most = max(len(row["curve"]) for row in table["rows"])
    columns = {"agent": "agent"} | {str(k): f"point {k + 1}" for k in range(most)}
    rows = []
    for row in table["rows"]:
        if len(row["curve"]) > 2:
            cells = [f"{interval_text(point)} ({n})" for point, n in zip(row["curve"], row["episodes"], strict=True)]
            padded = [*cells, *[""] * (most - len(cells))]
            rows.append({"agent": f"`{row['agent']}`"} | {str(k): cell for k, cell in enumerate(padded)})
    head = "Returns of agents with more than two points, with the adaptation episodes before each in brackets:"
    return f"{head}\n\n{markdown(columns, rows)}"


def _errors(table: Mapping[str, Any]) -> Iterator[Errors]:
    """Last returns and shares of rows with several seeds."""
    for row in table["rows"]:
        if len(row["seed_list"]) > 1:
            single = ", ".join(f"{value:.1f}" for value in row["end_of_each_seed"])
            yield Errors(row["agent"], "last return", row["end"], 1, single)
            if row["share_of_gap"]:
                yield Errors("", "share", row["share_of_gap"], 2)


def _differences_table(table: Mapping[str, Any]) -> str:
    """Each row minus the one that is subtracted from it."""
    overs = OVERS if several_seeds(table) else OVERS[:1]
    columns = {"agent": "agent", "minus": "minus", **{str(over): f"over {over}" for over in overs}}
    rows = [
        {
            "agent": f"`{row['agent']}`",
            "minus": f"`{row['minus']['row']}`",
            **{str(over): interval_text(row["minus"]["difference"][over]) for over in overs},
        }
        for row in table["rows"]
        if row["minus"]
    ]
    about = "Last return of a row minus that of another one, paired by task, with 95 % intervals:"
    return f"{about}\n\n{markdown(columns, rows)}"


def _bounds_table(table: Mapping[str, Any]) -> str:
    rows = [
        {
            "agent": f"`{row['agent']}`",
            "what": WORDS[bound["quantity"]],
            "at_least": f"{bound['at_least']:g}",
            "here": "-" if bound["mean"] is None else f"{bound['mean']:.2f}",
            "met": "yes" if bound["met"] else "**no**",
        }
        for row in table["rows"]
        for bound in row["bounds"]
    ]
    return markdown({"agent": "agent", "what": "number", "at_least": "at least", "here": "here", "met": "met"}, rows)
