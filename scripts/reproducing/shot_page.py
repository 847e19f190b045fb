"""The page of a few-shot table, in Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from metarl.report import counted, millions
from metarl.scripts.bench.tables import markdown, paragraph
from metarl.scripts.compare_tables import interval_text
from metarl.scripts.evaluate_shots import MOST_STEPS
from metarl.scripts.recipes import Recipe
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

DIGITS = 3
"""Digits of errors and accuracies after the point."""
LARGE = 1000.0
"""Error from which on it is shown as a power of ten, without an interval."""
Row = Mapping[str, Any]


def shot_page(recipe: Recipe, table: Mapping[str, Any], picture: str) -> str:
    """The page: where the numbers come from, scores after adaptation, against shots and against steps, the commands.

    Args:
        recipe: The recipe.
        table: The JSON value of the table.
        picture: Path of the picture from the page.
    """
    score = table["evaluation"]["score"]
    parts = [
        *head(recipe, table, _evaluation(table)),
        *_best(table),
        _main_table(table),
        f"![{recipe.name}: {score} against shots]({picture})",
        f"## {score.capitalize()} against shots",
        _shots_table(table),
    ]
    if any(row["over_steps"] for row in table["rows"]):
        parts += [f"## {score.capitalize()} against steps", paragraph(_about_steps(table)), _steps_table(table)]
    if several_seeds(table):
        parts += ["## By source of error", errors_table(_errors(table))]
    return "\n\n".join([*parts, *tail(recipe, table)]) + "\n"


def _last(table: Mapping[str, Any]) -> dict[str, Any]:
    """The point of a curve over shots with all shots."""
    last: dict[str, Any] = table["rows"][0]["curve"][-1]
    return last


def _shots(table: Mapping[str, Any], number: int) -> str:
    return counted(number, "shots") + (" of each class" if table["evaluation"]["per_class"] else "")


def _evaluation(table: Mapping[str, Any]) -> str:
    said = table["evaluation"]
    queries = counted(said["queries"], "queries").replace("querie ", "query ")
    queries += " of each class" if said["per_class"] else ""
    measure = {"error": "Mean squared errors (less is better)", "accuracy": "Accuracies (more is better)"}
    shots = _shots(table, _last(table)["shots"])
    return (
        f"{tasks_words(said)}, {queries} in each. {measure[said['score']]} with 95 % intervals "
        f"{over_words(said['over'])} ([evaluation](../evaluation.md)). *First*: without adaptation. *Last*: after "
        f"adaptation to {shots}, by as many steps as in training (*steps*, for learners that adapt in steps). *Minus*: "
        "the last minus that of another row, paired by task; `pooled`, which has learned one network for all tasks, is "
        "subtracted as it was trained, not adapting. *Minutes*: of training, per seed on one core."
    )


def _best(table: Mapping[str, Any]) -> list[str]:
    """The best row in words."""
    if not table["best"]:
        return []
    row, level = table["best"]["row"], table["best"]["level"]
    least = {"error": "Least error", "accuracy": "Highest accuracy"}[table["evaluation"]["score"]]
    others = ", ".join(f"`{label}`" for label in level)
    over = "tasks and seeds" if table["evaluation"]["over"] == "both" else "tasks"
    beside = f"not significantly different from it: {others}" if level else "every other row differs significantly"
    shots = _shots(table, _last(table)["shots"])
    return [paragraph(f"{least} after {shots}: `{row}`; {beside} (95 % intervals over {over}, paired by task).")]


def _main_table(table: Mapping[str, Any]) -> str:
    over = table["evaluation"]["over"]
    columns = {"agent": "learner", "first": "first", "last": "last", "difference": "last - first"}
    subtracted = {subtracted_name(table, row) for row in table["rows"] if row["minus"]}
    if subtracted:
        columns["minus"] = f"minus {subtracted.pop()}" if len(subtracted) == 1 else "minus"
    if "minus" in columns and columns["minus"] == "minus":
        columns["other"] = "another row"
    columns |= {"steps": "steps", "seeds": "seeds", "iterations": "iterations", "examples": "examples"}
    columns |= {"minutes": "minutes"}
    return markdown(columns, [_main_row(table, row, over) for row in table["rows"]])


def subtracted_name(table: Mapping[str, Any], row: Row) -> str:
    """The row that is subtracted from another one, in words."""
    name = row["minus"]["row"]
    return f"`{name}`, not adapting" if row["minus"]["scores"] == "first_scores" else f"`{name}`"


def _main_row(table: Mapping[str, Any], row: Row, over: str) -> dict[str, str]:
    examples, minutes = row["examples"], row["minutes"]
    return {
        "agent": f"`{row['agent']}`",
        "first": _point(row, row["curve"][0]),
        "last": _point(row, row["curve"][-1]),
        "difference": interval_text(row["difference"], DIGITS),
        "minus": _minus(row["minus"], over),
        "other": subtracted_name(table, row) if row["minus"] else "",
        "steps": str(row["own_steps"] or ""),
        "seeds": str(len(row["seed_list"])),
        "iterations": f"{row['iterations']:,}",
        "examples": range_text([millions(n) for n in (min(examples), max(examples))]),
        "minutes": range_text([f"{m:.{1 if m >= 0.1 else 2}f}" for m in (min(minutes), max(minutes))]),
    }


def _minus(value: Mapping[str, Any] | None, over: str) -> str:
    if not value or value["difference"][over]["mean"] is None:
        return ""
    return interval_text(value["difference"][over], DIGITS)


def _point(row: Row, point: Mapping[str, Any] | None) -> str:
    """A point of a curve; if the adaptation of a seed diverges there, that."""
    if point is None:
        return ""
    if point["diverged"]:
        seeds = len(row["seed_list"])
        return "diverges" + (f" ({point['diverged']} of {seeds} seeds)" if point["diverged"] < seeds else "")
    if point["mean"] >= LARGE:
        return f"{point['mean']:.0e}"
    return interval_text(point, DIGITS)


def _shots_table(table: Mapping[str, Any]) -> str:
    shots = [point["shots"] for point in table["rows"][0]["curve"]]
    per = " of each class" if table["evaluation"]["per_class"] else ""
    columns = {"agent": "learner"} | {str(n): counted(n, "shots") for n in shots}
    rows = [
        {"agent": f"`{row['agent']}`", **{str(point["shots"]): _point(row, point) for point in row["curve"]}}
        for row in table["rows"]
    ]
    return f"After adaptation to a number of shots{per}:\n\n{markdown(columns, rows)}"


def _about_steps(table: Mapping[str, Any]) -> str:
    words = [
        f"Learners that adapt in steps, after adaptation to {_shots(table, _last(table)['shots'])}.",
        "*Own*: after as many steps as in training, in parentheses. Beyond them a learned step may diverge.",
    ]
    if any(row["shares"] for row in table["rows"]):
        words.append(
            "*Share*: of the error of the row that is subtracted, after the same number of gradient steps; above 1 the "
            "learner has the larger error."
        )
    if any(row["minus_adapted"] for row in table["rows"]):
        words.append("*Minus adapted*: minus `pooled` after its own steps, paired by task.")
    return " ".join(words)


def _steps_table(table: Mapping[str, Any]) -> str:
    over = table["evaluation"]["over"]
    columns: dict[str, Callable[[Row], str]] = {
        "learner": lambda row: f"`{row['agent']}`",
        "no step": lambda row: _point(row, _after(row, 0)),
        "1 step": lambda row: _point(row, _after(row, 1)),
        "own": lambda row: f"{_point(row, _after(row, row['own_steps']))} ({row['own_steps']})",
        f"{MOST_STEPS} steps": lambda row: _point(row, _after(row, MOST_STEPS)),
    }
    rows = [row for row in table["rows"] if row["over_steps"]]
    if any(row["shares"] for row in rows):
        columns |= {
            "share after 1": lambda row: _share(row, 1),
            "own ": lambda row: _share(row, row["own_steps"]),
            f"{MOST_STEPS}": lambda row: _share(row, MOST_STEPS),
        }
    if any(row["minus_adapted"] for row in rows):
        columns["minus adapted"] = lambda row: _minus(row["minus_adapted"], over)
    titles = {title: title.strip() for title in columns}
    return markdown(titles, [{title: text(row) for title, text in columns.items()} for row in rows])


def _after(row: Row, steps: int) -> Mapping[str, Any] | None:
    return next((point for point in row["over_steps"] if point["steps"] == steps), None)


def _share(row: Row, steps: int) -> str:
    """The share after a number of steps; empty for a row without shares."""
    if not row["shares"]:
        return ""
    share = next(one for one in row["shares"] if one["steps"] == steps)
    return "diverges" if share["mean"] is None else interval_text(share, 2)


def _errors(table: Mapping[str, Any]) -> Iterator[Errors]:
    """Scores after adaptation, and differences, of rows with several seeds."""
    for row in table["rows"]:
        if len(row["seed_list"]) > 1 and row["end"]["tasks"]["mean"] is not None:
            single = ", ".join(f"{value:.{DIGITS}f}" for value in row["end_of_each_seed"])
            yield Errors(row["agent"], f"last {table['evaluation']['score']}", row["end"], DIGITS, single)
            if row["minus"] and row["minus"]["difference"]["tasks"]["mean"] is not None:
                yield Errors("", f"minus {subtracted_name(table, row)}", row["minus"]["difference"], DIGITS)
