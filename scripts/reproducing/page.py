"""The page of a table, in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from metarl.comparison import OVERS
from metarl.report import REFERENCES, counted, millions
from metarl.scripts.bench.tables import markdown, paragraph
from metarl.scripts.compare_tables import interval_text
from metarl.scripts.recipes import Recipe
from metarl.scripts.reproducing.agreement import WORDS
from metarl.scripts.reproducing.plan import in_words

MISSING = "not recorded"


def page(recipe: Recipe, table: Mapping[str, Any], picture: str) -> str:
    """The page: where the numbers come from, the tables, the picture, published figures, the commands of the rows.

    Args:
        recipe: The recipe.
        table: The JSON value of the table.
        picture: Path of the picture from the page.
    """
    parts = [
        f"# {recipe.title}",
        paragraph(f"Written by `{table['command']}`. {_origin(table)}"),
        paragraph(_evaluation(table)),
        *([paragraph(recipe.about)] if recipe.about else []),
        _main_table(table),
        *([_curve_table(table)] if any(len(row["episodes"]) > 2 for row in table["rows"]) else []),
        f"![{recipe.name}: return against adaptation episodes]({picture})",
    ]
    if any(len(row["seed_list"]) > 1 for row in table["rows"]):
        parts += ["## By source of error", _seeds_table(table)]
    if any(row["bounds"] for row in table["rows"]):
        parts += ["## Promises", _bounds_table(table)]
    parts += ["## Published figures", _published(recipe)]
    if table["failed"]:
        lines = "\n".join(f"- {name}: {line}" for name, line in table["failed"].items())
        parts += ["## Trainings that failed", lines]
    return "\n\n".join([*parts, "## Commands", _commands(table)]) + "\n"


def _origin(table: Mapping[str, Any]) -> str:
    """Seeds, commits, versions, machines, reward and date, in sentences."""
    trained, evaluated = table["trained"], table["evaluated"]
    commits = ", ".join(map(_short, trained["commits"]))
    machines = "; ".join(f"{one['processor']}, {one['cores']} cores, {one['system']}" for one in trained["machines"])
    versions = "; ".join(", ".join(f"{name} {one[name]}" for name in one) for one in trained["packages"])
    words = [
        f"Family: `{table['family']}`.",
        f"Reward: {table['reward_version'] or 'the only version of this family'}.",
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


def _evaluation(table: Mapping[str, Any]) -> str:
    said = table["evaluation"]
    tasks = {"test": "held-out", "tune": "tuning", "train": "training"}[said["split"]]
    over = "over tasks and seeds" if said["over"] == "both" else "over tasks; a single seed says nothing about others"
    return (
        f"{said['tasks']} {tasks} tasks, {counted(said['episodes'], 'episodes')} a point; actions: {said['actions']}. "
        f"Mean returns with 95 % intervals {over} ([evaluation](../evaluation.md)). *Share*: of the gap between "
        "`multitask`, which is told nothing, and `oracle`, which observes the task. *First*: before adaptation; for "
        "agents with a memory the first episode, during which they adapt. *Episodes*: of adaptation, before the last "
        "point. *Minutes*: of sampling and updates, per seed on one core."
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
        "steps": _range([millions(n) for n in (min(steps), max(steps))]),
        "minutes": _range([f"{m:.1f}" for m in (min(minutes), max(minutes))]),
    }


def _share(row: Mapping[str, Any], over: str) -> str:
    if row["agent"] in REFERENCES:
        return str(list(REFERENCES).index(row["agent"]))
    return interval_text(row["share_of_gap"] and row["share_of_gap"][over], 2)


def _range(ends: Sequence[str]) -> str:
    return ends[0] if ends[0] == ends[1] else f"{ends[0]} to {ends[1]}"


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


def _seeds_table(table: Mapping[str, Any]) -> str:
    columns: dict[str, str] = {"agent": "agent", "what": "", **{over: f"over {over}" for over in OVERS}}
    columns["single"] = "single seeds"
    rows = list[dict[str, str]]()
    for row in table["rows"]:
        if len(row["seed_list"]) > 1:
            single = ", ".join(f"{value:.1f}" for value in row["end_of_each_seed"])
            ends = {str(over): interval_text(row["end"][over]) for over in OVERS}
            rows.append({"agent": f"`{row['agent']}`", "what": "last return", **ends, "single": single})
            if row["share_of_gap"]:
                shares = {str(over): interval_text(row["share_of_gap"][over], 2) for over in OVERS}
                rows.append({"agent": "", "what": "share", **shares, "single": ""})
    return markdown(columns, rows)


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
