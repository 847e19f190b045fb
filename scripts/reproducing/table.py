"""The numbers of a table: its trained agents, evaluated as `metarl compare` does, and where they come from."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from metarl.config import check
from metarl.files import read_json, write_bytes
from metarl.metrics_log import read_log
from metarl.run_config import BaseRun
from metarl.runs import RunConfig
from metarl.scripts.compare import CompareCommand, Comparison, compared, success_at_end
from metarl.scripts.families import family_of_run
from metarl.scripts.groups import INERT_FIELDS, Group, check_alike, iterations_done
from metarl.scripts.recipes import Evaluation, Row
from metarl.scripts.reproducing.plan import Plan, Training, train_words
from metarl.types import Floats

FORMAT = 1
"""Version of the file of a table."""
DIGITS = 6
"""Significant digits of the scores in it."""
ROW_KEYS: tuple[str, ...] = (
    "agent",
    "seed_list",
    "iterations",
    "env_steps",
    "episodes",
    "first_point",
    "curve",
    "difference",
    "end",
)
ROW_KEYS += ("end_of_each_seed", "share_of_gap", "success_last", "success", "diverged_episodes")
"""Entries of a row that are those of `metarl compare`."""


def compare_command(evaluation: Evaluation, seeds: int) -> CompareCommand:
    """The options of the comparison: intervals over tasks and seeds, over tasks alone with a single seed."""
    over: Any = "both" if seeds > 1 else "tasks"
    options: dict[str, Any] = {
        "tasks": evaluation.tasks,
        "episodes": evaluation.episodes,
        "actions": evaluation.actions,
    }
    command = CompareCommand(run_dirs=(), over=over, **options)
    check(command)
    return command


def finished_rows(plan: Plan) -> list[tuple[Row, list[Training]]]:
    """The rows with their finished trainings, without rows that have none."""
    rows = [(row, [one for one in plan.of_row(row) if one.state() == "finished"]) for row in plan.rows]
    return [(row, trainings) for row, trainings in rows if trainings]


def evaluated(plan: Plan) -> Comparison:
    """Evaluates all finished trainings on the same held-out tasks.

    Raises:
        ValueError: The seeds of a row differ in a setting, or rows in their spaces.
    """
    groups, runs = [], list[tuple[Path, BaseRun]]()
    for row, trainings in finished_rows(plan):
        configs = [RunConfig.read(one.out) for one in trainings]
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
    family = family_of_run(groups[0].config, None)
    return compared(groups, family, compare_command(plan.recipe.evaluation, len(plan.seeds)), plan.recipe.family)


def rounded(values: Floats) -> list[Any]:
    """Numbers with few digits, as a JSON value."""
    return [rounded(one) if one.ndim else float(f"{one:.{DIGITS}g}") for one in values]


def one_command(plan: Plan) -> str:
    """The command that makes the table."""
    words = ["metarl", "reproduce", plan.recipe.name]
    words += ["--seeds", str(len(plan.seeds))] if len(plan.seeds) != plan.recipe.seeds else []
    words += ["--rows", *(row.label for row in plan.rows)] if plan.rows != plan.recipe.every else []
    return shlex.join(words)


def table_value(plan: Plan, comparison: Comparison, failed: Mapping[Training, str]) -> dict[str, Any]:
    """The table as a JSON value, with what a check of it needs.

    Args:
        plan: The plan.
        comparison: Its evaluated rows.
        failed: Last lines of failed trainings.
    """
    value, kept = comparison.value(), list[dict[str, Any]]()
    rows = finished_rows(plan)
    for row, contender, (of_plan, trainings) in zip(value["rows"], comparison.contenders, rows, strict=True):
        success = success_at_end(contender, "last_step_success")
        kept.append(
            {
                **{key: row[key] for key in ROW_KEYS},
                "command": shlex.join(("metarl", *train_words(plan.recipe, of_plan, trainings[0].seed))),
                "minutes": [round(minutes_of(one.out), 2) for one in trainings],
                "bounds": [bound_value(bound.quantity, bound.at_least, row, value["over"]) for bound in of_plan.bounds],
                "scores": rounded(contender.scores[..., -1]),
                "successes": None if success is None else rounded(success[..., 0]),
            }
        )
    starts = [start for _, trainings in rows for one in trainings for start in starts_of(one.out)]
    return {
        "format": FORMAT,
        "table": plan.recipe.name,
        "command": one_command(plan),
        "family": plan.recipe.family,
        "reward_version": value["reward_version"],
        "seeds": list(plan.seeds),
        "evaluation": {key: value[key] for key in ("split", "tasks", "actions", "statistic", "over")}
        | {"episodes": comparison.command.episodes},
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "trained": {
            "commits": _each(start["commit"] for start in starts),
            "packages": _each(start["packages"] for start in starts),
            "python": _each(start["python"] for start in starts),
            "machines": _each(_machine(start["machine"]) for start in starts),
        },
        "evaluated": {key: value["versions"][key] for key in ("commit", "packages", "python")},
        "failed": {one.name: line for one, line in failed.items()},
        "rows": kept,
    }


def bound_value(quantity: str, at_least: float, row: Mapping[str, Any], over: str) -> dict[str, Any]:
    """A promise, its number, and whether it is met; a number that is missing does not meet it."""
    last = {"return": row["end"][over], "success": row["success_last"]}
    last["share"] = row["share_of_gap"] and row["share_of_gap"][over]
    mean = last[quantity] and last[quantity]["mean"]
    return {"quantity": quantity, "at_least": at_least, "mean": mean, "met": mean is not None and mean >= at_least}


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
    """Scores of a row of a table at its last point, `[seed, task]`.

    Args:
        row: The row.
        name: `scores` or `successes`.
        seeds: Some of its seeds.
    """
    return np.array([row[name][row["seed_list"].index(seed)] for seed in seeds], dtype=np.float64)
