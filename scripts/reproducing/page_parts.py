"""The parts that pages of all tables have in common, in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from metarl.comparison import OVERS
from metarl.scripts.bench.tables import markdown, paragraph
from metarl.scripts.compare_tables import interval_text
from metarl.scripts.recipes import Recipe
from metarl.scripts.reproducing.plan import in_words

MISSING = "not recorded"


def head(recipe: Recipe, table: Mapping[str, Any], evaluation: str) -> list[str]:
    """Title, origin of the numbers, the evaluation, and what the recipe says about the table.

    Args:
        recipe: The recipe.
        table: The JSON value of the table.
        evaluation: Sentences on the evaluation and the columns.
    """
    return [
        f"# {recipe.title}",
        paragraph(f"Written by `{table['command']}`. {_origin(table)}"),
        paragraph(evaluation),
        *([paragraph(recipe.about)] if recipe.about else []),
    ]


def tail(recipe: Recipe, table: Mapping[str, Any]) -> list[str]:
    """Published figures, failed trainings, and the commands of the rows."""
    parts = ["## Published figures", _published(recipe)]
    if table["failed"]:
        lines = "\n".join(f"- {name}: {line}" for name, line in table["failed"].items())
        parts += ["## Trainings that failed", lines]
    return [*parts, "## Commands", _commands(table)]


def over_words(over: str) -> str:
    """The source of error of the intervals in words."""
    return "over tasks and seeds" if over == "both" else "over tasks; a single seed says nothing about others"


def tasks_words(evaluation: Mapping[str, Any]) -> str:
    """Number and kind of the tasks."""
    kind = {"test": "held-out", "tune": "tuning", "train": "training"}[evaluation["split"]]
    return f"{evaluation['tasks']} {kind} tasks"


def several_seeds(table: Mapping[str, Any]) -> bool:
    """Whether a row has more than one seed."""
    return any(len(row["seed_list"]) > 1 for row in table["rows"])


@dataclass(frozen=True)
class Errors:
    """A number with an interval for each source of error.

    Args:
        agent: The row; empty for a further number of the row above.
        what: The number in words.
        found: By source of error.
        digits: Digits after the point.
        single: The numbers of single seeds, in words.
    """

    agent: str
    what: str
    found: Mapping[str, Any]
    digits: int
    single: str = ""


def errors_table(lines: Iterable[Errors]) -> str:
    """A table of numbers by source of error."""
    columns = {"agent": "agent", "what": "", **{str(over): f"over {over}" for over in OVERS}, "single": "single seeds"}
    rows = [
        {
            "agent": one.agent and f"`{one.agent}`",
            "what": one.what,
            **{str(over): interval_text(one.found[over], one.digits) for over in OVERS},
            "single": one.single,
        }
        for one in lines
    ]
    return markdown(columns, rows)


def _origin(table: Mapping[str, Any]) -> str:
    """Seeds, commits, versions, machines, reward and date, in sentences."""
    trained, evaluated = table["trained"], table["evaluated"]
    commits = ", ".join(map(_short, trained["commits"]))
    machines = "; ".join(f"{one['processor']}, {one['cores']} cores, {one['system']}" for one in trained["machines"])
    versions = "; ".join(", ".join(f"{name} {one[name]}" for name in one) for one in trained["packages"])
    words = [
        f"Family: `{table['family']}`.",
        *(
            [f"Reward: {table['reward_version'] or 'the only version of this family'}."]
            if "reward_version" in table
            else []
        ),
        f"Seeds: {', '.join(map(str, table['seeds']))}.",
        f"Commit: {commits}, evaluated at {_short(evaluated['commit'])} on {table['date']}.",
        f"Machine: {machines}; each training on one core.",
        f"Python {', '.join(trained['python'])}, {versions}.",
    ]
    return " ".join(words)


def _short(commit: str | None) -> str:
    """The first digits of a commit, and whether the checkout had changes."""
    if commit is None:
        return MISSING
    return commit[:12] + (" with uncommitted changes" if commit.endswith("+") else "")


def range_text(ends: Sequence[str]) -> str:
    """Two ends in words; one if they are the same."""
    return ends[0] if ends[0] == ends[1] else f"{ends[0]} to {ends[1]}"


def _published(recipe: Recipe) -> str:
    if not recipe.published:
        return "None are recorded for this family with this protocol."
    columns = {name: name for name in ("agent", "figure", "budget", "protocol", "source")}
    return markdown(columns, [vars(one) for one in recipe.published])


def _commands(table: Mapping[str, Any]) -> str:
    """The command of the first seed of each row."""
    lines = "\n".join(f"    {row['command']}" for row in table["rows"])
    minutes = sum(sum(row["minutes"]) for row in table["rows"])
    head = f"The first seed of each row; all trainings together took {in_words(minutes)} of one core:"
    return f"{head}\n\n{lines}"
