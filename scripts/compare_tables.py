"""The tables of `metarl compare`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.table import Table

from metarl.comparison import OVERS, Over, Statistic
from metarl.intervals import FEWEST_TO_RESAMPLE
from metarl.report import REFERENCES, millions

FIRST_NOTE = "* first: before adaptation; for agents with a memory, the first episode, during which they already adapt"


def interval_text(point: Mapping[str, float | None] | None, digits: int = 1) -> str:
    """A mean with its interval in brackets; empty for None."""
    if point is None:
        return ""
    mean, low, high = point["mean"], point["ci_low"], point["ci_high"]
    return f"{mean:.{digits}f}" + ("" if low is None else f" [{low:.{digits}f}, {high:.{digits}f}]")


def returns_table(rows: Sequence[dict[str, Any]], title: str, over: Over) -> Table:
    """The main table: returns, success rates and share of the gap, one row per contender.

    Args:
        rows: One row of the JSON value per contender.
        title: Title of the table.
        over: Source of error of the intervals.
    """
    shown: dict[str, Callable[[dict[str, Any]], str]] = {
        "agent": lambda row: REFERENCES.get(row["agent"], row["agent"]),
        "share of gap": lambda row: interval_text(row["share_of_gap"] and row["share_of_gap"][over], 2),
        "first*": lambda row: interval_text(row["curve"][0]),
        "last": lambda row: interval_text(row["curve"][-1]),
        "last - first": lambda row: interval_text(row["difference"]),
        "success, last step": lambda row: interval_text(row["success_last"], 2),
        "any step": lambda row: interval_text(row["success"], 2),
    }
    if not any(row["success_last"] for row in rows):
        del shown["success, last step"], shown["any step"]
    table = Table(*shown, title=title, title_justify="left")
    for row in rows:
        table.add_row(*(text(row) for text in shown.values()))
    return table


def differences_table(rows: Sequence[dict[str, Any]], differences: Sequence[dict[str, Any]], over: Over) -> Table:
    """Last returns of all contenders, row minus column, paired by task.

    Args:
        rows: One row of the JSON value per contender.
        differences: The JSON value of each pair.
        over: Source of error of the intervals.
    """
    found = {(pair["agent"], pair["minus"]): pair["difference"][over] for pair in differences}
    labels = [row["agent"] for row in rows]
    title = f"last return, row minus column, paired by task, 95 % intervals over {over}"
    table = Table("row minus column", *labels[1:], title=title, title_justify="left")
    for one in labels[:-1]:
        table.add_row(one, *(interval_text(found.get((one, other))) for other in labels[1:]))
    return table


def runs_table(rows: Sequence[dict[str, Any]]) -> Table:
    """The sizes of training and evaluation, one row per contender."""
    columns = ("agent", "seeds", "iterations", "env steps", "adaptation episodes", "diverged episodes")
    table = Table(*columns, title="trained and evaluated", title_justify="left")
    for row in rows:
        numbers = (row["seeds"], row["iterations"], _steps(row["env_steps"]), row["episodes"][-1])
        table.add_row(row["agent"], *map(str, (*numbers, row["diverged_episodes"])))
    return table


def _steps(env_steps: Sequence[int]) -> str:
    """Environment steps of training in millions; a range if seeds differ."""
    ends = [millions(n) for n in (min(env_steps), max(env_steps))]
    return ends[0] if ends[0] == ends[1] else " to ".join(ends)


def seeds_table(rows: Sequence[dict[str, Any]], statistic: Statistic) -> Table:
    """Intervals over each source of error, and the result of each seed, for contenders with several seeds."""
    title = f"last point, {statistic}, 95 % intervals by source of error"
    table = Table("agent", "", *(f"over {o}" for o in OVERS), "single seeds", title=title, title_justify="left")
    for row in (row for row in rows if row["seeds"] > 1):
        seeds = ", ".join(f"{value:.1f}" for value in row["end_of_each_seed"][:FEWEST_TO_RESAMPLE])
        more = "" if row["seeds"] <= FEWEST_TO_RESAMPLE else ", ..."
        table.add_row(row["agent"], "return", *(interval_text(row["end"][o]) for o in OVERS), seeds + more)
        if row["share_of_gap"]:
            table.add_row("", "share of gap", *(interval_text(row["share_of_gap"][o], 2) for o in OVERS), "")
    return table
