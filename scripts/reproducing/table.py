"""The common part of all tables: runs of each row, where the numbers come from, and the file."""

from __future__ import annotations

import json
import math
import shlex
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from metarl.comparison import OVERS, Over, Statistic, paired_difference
from metarl.files import read_json, write_bytes
from metarl.intervals import UNTOLD, Interval
from metarl.metrics_log import read_log
from metarl.report import interval_json
from metarl.run_config import BaseRun
from metarl.runs import versions
from metarl.scripts.groups import INERT_FIELDS, Group, check_alike, iterations_done
from metarl.scripts.recipes import Row
from metarl.scripts.reproducing.plan import Plan, Training, train_words
from metarl.types import Floats

RunT = TypeVar("RunT", bound=BaseRun)
FORMAT = 1
"""Version of the file of a table."""
DIGITS = 6
"""Significant digits of the scores in it."""


def finished_rows(plan: Plan) -> list[tuple[Row, list[Training]]]:
    """The rows with their finished trainings, without rows that have none."""
    rows = [(row, [one for one in plan.of_row(row) if one.state() == "finished"]) for row in plan.rows]
    return [(row, trainings) for row, trainings in rows if trainings]


def groups_of(plan: Plan, kind: type[RunT]) -> list[Group[RunT]]:
    """The finished trainings of each row as a group of runs.

    Args:
        plan: The plan.
        kind: Their kind of configuration.

    Raises:
        ValueError: The seeds of a row differ in a setting, or rows in their spaces.
    """
    groups, runs = list[Group[RunT]](), list[tuple[Path, RunT]]()
    for row, trainings in finished_rows(plan):
        configs = [kind.read(one.out) for one in trainings]
        for one, config in zip(trainings, configs, strict=True):
            if changed := config.changed_fields(configs[0], ("training.seed", *INERT_FIELDS)):
                raise ValueError(
                    f"{one.out}: got a run that differs from {trainings[0].out} in {', '.join(changed)}, expected the "
                    "same but for the seed: a preset has changed between them; train one of them again in a new --out"
                )
        paths = tuple(one.out for one in trainings)
        groups.append(Group(row.label, paths, configs[0], iterations_done(paths[0])))
        runs += zip(paths, configs, strict=True)
    check_alike("reproduce", runs)
    return groups


def rounded(values: Floats) -> list[Any]:
    """Numbers with few digits, as a JSON value; null for one that is not finite."""
    return [rounded(one) if one.ndim else _rounded(float(one)) for one in values]


def _rounded(number: float) -> float | None:
    return float(f"{number:.{DIGITS}g}") if math.isfinite(number) else None


def one_command(plan: Plan) -> str:
    """The command that makes the table."""
    words = ["metarl", "reproduce", plan.recipe.name]
    words += ["--seeds", str(len(plan.seeds))] if len(plan.seeds) != plan.recipe.seeds else []
    words += ["--rows", *(row.label for row in plan.rows)] if plan.rows != plan.recipe.every else []
    return shlex.join(words)


def table_head(
    plan: Plan, evaluation: Mapping[str, Any], failed: Mapping[Training, str], **more: Any
) -> dict[str, Any]:
    """The first entries of a table: what it is, and where its numbers come from.

    Args:
        plan: The plan.
        evaluation: The measure.
        failed: Last lines of failed trainings.
        **more: Further entries.
    """
    starts = [start for _, trainings in finished_rows(plan) for one in trainings for start in starts_of(one.out)]
    here = versions()
    return {
        "format": FORMAT,
        "table": plan.recipe.name,
        "command": one_command(plan),
        "family": plan.recipe.family,
        **more,
        "seeds": list(plan.seeds),
        "evaluation": dict(evaluation),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "trained": {
            "commits": _each(start["commit"] for start in starts),
            "packages": _each(start["packages"] for start in starts),
            "python": _each(start["python"] for start in starts),
            "machines": _each(_machine(start["machine"]) for start in starts),
        },
        "evaluated": {key: here[key] for key in ("commit", "packages", "python")},
        "failed": {one.name: line for one, line in failed.items()},
    }


def of_trainings(plan: Plan, row: Row, trainings: Sequence[Training]) -> dict[str, Any]:
    """The command of the first seed of a row, and the minutes of each."""
    return {
        "command": shlex.join(("metarl", *train_words(plan.recipe, row, trainings[0].seed))),
        "minutes": [round(minutes_of(one.out), 2) for one in trainings],
    }


def over_of(seeds: int) -> Over:
    """The source of error of a table's intervals: tasks and seeds, with a single seed tasks alone."""
    return "both" if seeds > 1 else "tasks"


def minus_value(other: str, name: str, one: Floats, subtracted: Floats, statistic: Statistic) -> dict[str, Any]:
    """A row minus another one, paired by task, with an interval for each source of error.

    Args:
        other: Label of the row that is subtracted.
        name: Entry of that row with the scores that are subtracted; those of this row are `scores`.
        one: Scores of this row, `[seed, task]`.
        subtracted: Scores of the other one, `[seed, task]`.
        statistic: The statistic.
    """
    found = {over: interval_json(difference(one, subtracted, over, statistic)) for over in OVERS}
    return {"row": other, "scores": name, "difference": found}


def difference(one: Floats, subtracted: Floats, over: Over, statistic: Statistic) -> Interval:
    """The paired difference of scores `[seed, task]`; NaN if some of them are not finite."""
    if not (np.isfinite(one).all() and np.isfinite(subtracted).all()):
        return Interval(UNTOLD, UNTOLD, UNTOLD)
    return paired_difference(one, subtracted, over, statistic)


def minutes_of(run_dir: Path) -> float:
    """Minutes of sampling and updates of a run, by its log."""
    seconds = [value for row in read_log(run_dir / "metrics.jsonl") for name, value in row.items() if "time/" in name]
    return float(np.sum(seconds)) / 60.0


def starts_of(run_dir: Path) -> list[dict[str, Any]]:
    """Versions and machine of each start of a run."""
    starts: list[dict[str, Any]] = read_json(run_dir / "versions.json")["starts"]
    return starts


def _machine(machine: Mapping[str, Any]) -> dict[str, Any]:
    return {key: machine[key] for key in ("system", "processor", "cores")}


def _each(values: Iterable[Any]) -> list[Any]:
    """Different values, in the order of their first appearance."""
    found: list[Any] = []
    for value in values:
        if value not in found:
            found.append(value)
    return found


def write_table(path: Path, value: Mapping[str, Any]) -> None:
    """Writes a table with one line per entry, and one per row, so that changes can be read."""
    rows = ",\n".join(f"    {json.dumps(row, allow_nan=False)}" for row in value["rows"])
    head = [f'  "{key}": {json.dumps(entry, allow_nan=False)}' for key, entry in value.items() if key != "rows"]
    write_bytes(path, ("{\n" + ",\n".join([*head, f'  "rows": [\n{rows}\n  ]']) + "\n}\n").encode())


def read_table(path: Path) -> dict[str, Any]:
    """Reads and checks the form of a table.

    Raises:
        ValueError: There is none, or it is of another form.
    """
    if not path.is_file():
        raise ValueError(f"--check: got no {path}, expected a table written by metarl reproduce NAME --write")
    value = read_json(path)
    keys = ("seeds", "evaluation", "family", "command", "rows")
    if not isinstance(value, dict) or value.get("format") != FORMAT or any(key not in value for key in keys):
        raise ValueError(f"--check: got {path}, which is no table of this version; make it again with --write")
    return value


def scores_of(row: Mapping[str, Any], name: str, seeds: Sequence[int]) -> Floats:
    """Scores of a row of a table, `[seed, task]`; NaN for those that are null.

    Args:
        row: The row.
        name: `scores` or `successes`, at the last point, or `first_scores`.
        seeds: Some of its seeds.
    """
    return np.array([row[name][row["seed_list"].index(seed)] for seed in seeds], dtype=np.float64)
