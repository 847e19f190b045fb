"""`metarl reproduce NAME`: a table of docs/results by one command."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from rich.table import Table

import metarl
from metarl.config import NonNegative, RoundsOrNone, check
from metarl.files import write_bytes
from metarl.run_folder import sole_writer
from metarl.scripts.common import border, end_with_json, parse
from metarl.scripts.ending import run_as_process
from metarl.scripts.recipes import RECIPES, Recipe
from metarl.scripts.reproducing.agreement import (
    RULE,
    agreement_json,
    agreement_table,
    agreement_title,
    agreements,
    broken_promises,
    check_same_measure,
)
from metarl.scripts.reproducing.page import page
from metarl.scripts.reproducing.plan import (
    Plan,
    announcement,
    chosen_rows,
    find_recipe,
    in_words,
    listing,
    makespan,
    prepare,
)
from metarl.scripts.reproducing.running import Outcome, run_trainings
from metarl.scripts.reproducing.table import evaluated, finished_rows, read_table, table_value, write_table
from metarl.scripts.terminal import console
from metarl.vector import available_cores

FAILED = 1
STOPPED = 130


@dataclass(frozen=True, kw_only=True)
class ReproduceCommand:
    """Makes a table of docs/results: trains what is missing, evaluates, writes page, numbers and picture."""

    name: tyro.conf.Positional[str] = ""
    """Name of the table; `--list` shows all."""
    seeds: RoundsOrNone = 0
    """Trainings of each row, with seeds from 0 on; 0 for the number of the recipe."""
    rows: tuple[str, ...] = ()
    """Only these rows of the table, by their names; by default all."""
    out: Path | None = None
    """Results folder, with a folder for each training; by default runs/reproduce/NAME."""
    resume: bool = False
    """Go on in a folder that holds results: keeps finished trainings, resumes begun ones, tries failed ones again."""
    budget: NonNegative = 0.0
    """Minutes after which the trainings are stopped and saved; 0 for no limit."""
    jobs: RoundsOrNone = 0
    """Trainings side by side, each on one core; 0 for one per core."""
    check: bool = False
    """Compare with the table in docs/results; exit code 1 if a number is not met."""
    write: bool = False
    """Write the table to docs/results too, if all its rows are finished."""
    docs: Path | None = None
    """Folder of the documentation for --check and --write; by default that of this checkout."""
    list: bool = False
    """List all tables with their cost, and do nothing else."""
    json: bool = False
    """Print the results as one JSON line at the end."""

    def folder(self, name: str) -> Path:
        """The results folder of a table."""
        return Path("runs") / "reproduce" / name if self.out is None else self.out

    def documentation(self) -> Path:
        """The folder of the documentation.

        Raises:
            ValueError: There is none.
        """
        folder = self.docs or Path(metarl.__file__).resolve().parent.parent / "docs"
        if not (folder / "results").is_dir():
            raise ValueError(f"--docs: got {folder}, expected the folder docs of a checkout of metarl, with results/")
        return folder


def show_list(command: ReproduceCommand, jobs: int) -> None:
    """Prints all recipes with their cost."""
    rows = [listing(recipe, jobs) for recipe in RECIPES.values()]
    if command.json:
        return end_with_json(rows)
    title = f"tables; minutes of training on cores as of the recipes, here {jobs} side by side"
    table = Table("table", "family", "rows", "seeds", "of one core", "here", "one seed", title=title)
    for row in rows:
        costs = (in_words(row[key]) for key in ("core_minutes", "minutes", "minutes_with_one_seed"))
        family = row["family"].partition("?")[0]
        table.add_row(row["name"], family, ", ".join(row["rows"]), str(row["seeds"]), *costs)
    console().print(table)
    return None


def how_to_go_on(words: Sequence[str]) -> str:
    """The command that goes on after a stop."""
    kept = [word for word in words if word != "--resume"]
    return f"go on with: metarl reproduce {shlex.join(kept)} --resume"


def say(line: str) -> None:
    """Prints a line of progress."""
    print(line, file=sys.stderr, flush=True)


def write_results(plan: Plan, table: Mapping[str, Any], picture: bytes, docs: Path | None) -> None:
    """Writes page, numbers and picture to the results folder, and to the documentation."""
    name = plan.recipe.name
    write_bytes(plan.out / f"{name}.png", picture)
    write_table(plan.out / f"{name}.json", table)
    write_bytes(plan.out / f"{name}.md", page(plan.recipe, table, f"{name}.png").encode())
    print(f"page: {plan.out / f'{name}.md'}\npicture: {plan.out / f'{name}.png'}")
    if docs is not None:
        (docs / "images").mkdir(exist_ok=True)
        image = docs / "images" / f"table-{name}.png"
        write_bytes(image, picture)
        write_table(docs / "results" / f"{name}.json", table)
        text = page(plan.recipe, table, f"../images/{image.name}")
        write_bytes(docs / "results" / f"{name}.md", text.encode())
        print(f"written: {docs / 'results' / f'{name}.md'}, {docs / 'results' / f'{name}.json'}, {image}")


def compare_with_docs(
    plan: Plan, table: Mapping[str, Any], docs: Mapping[str, Any], chosen: bool
) -> tuple[int, list[dict[str, Any]]]:
    """Prints which numbers of the docs are met.

    Args:
        plan: The plan.
        table: The fresh table.
        docs: The table of the docs.
        chosen: Whether only some rows were chosen.

    Returns:
        The exit code, and the compared numbers as a JSON value.
    """
    labels = [row.label for row in plan.rows]
    labels += [] if chosen else [row["agent"] for row in docs["rows"] if row["agent"] not in labels]
    compared, broken = agreements(table, docs, labels), broken_promises(table, docs)
    console().print(agreement_table(compared, agreement_title(plan.recipe.name, compared)))
    for line in broken:
        print(f"promise not met any more: {line}")
    print(RULE)
    failed = broken or any(one.verdict == "NOT MET" for one in compared)
    return (FAILED if failed else 0), agreement_json(compared)


def _read(words: Sequence[str]) -> tuple[ReproduceCommand, Recipe | None, int]:
    """The command line, its recipe (None with --list), and the number of trainings side by side."""
    command: ReproduceCommand = parse(ReproduceCommand, "metarl reproduce", words)
    check(command)
    jobs = command.jobs or available_cores()
    if command.list:
        return command, None, jobs
    if command.check and command.write:
        raise ValueError("--check: got --write too, which replaces what --check compares with; expected one of them")
    if command.write and command.rows:
        raise ValueError("--write: got --rows, expected the whole table; leave one of them out")
    return command, find_recipe(command.name), jobs


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    with border():
        command, recipe, jobs = _read(words)
        if recipe is None:
            show_list(command, jobs)
            return 0
        seeds = tuple(range(command.seeds or recipe.seeds))
        plan = Plan(recipe, chosen_rows(recipe, command.rows), seeds, command.folder(recipe.name))
        folder = command.documentation() if command.check or command.write else None
        docs = read_table(folder / "results" / f"{recipe.name}.json") if folder and command.check else None
        if docs is not None:
            check_same_measure(recipe, docs)
        prepare(plan, command.resume)
        with sole_writer(plan.out):
            return _make(command, plan, jobs, words, folder, docs)


def _make(
    command: ReproduceCommand,
    plan: Plan,
    jobs: int,
    words: Sequence[str],
    folder: Path | None,
    docs: Mapping[str, Any] | None,
) -> int:
    """Trains, evaluates, writes and compares; returns the exit code."""
    say(announcement(plan, jobs))
    began = time.monotonic()
    try:
        outcome = run_trainings(plan, jobs, command.budget, say)
        unfinished = [one for one in plan.trainings if one.state() != "finished" and one not in outcome.failed]
        if outcome.stopped and unfinished:
            return _stopped(outcome, plan, words)
        if not finished_rows(plan):
            say(f"metarl: error: every training failed; {how_to_go_on(words)}")
            return FAILED
        comparison = evaluated(plan)
        table = table_value(plan, comparison, outcome.failed)
        picture = comparison.picture(comparison.value()["rows"])
    except KeyboardInterrupt:
        say(how_to_go_on(words))
        raise
    whole = not outcome.failed
    write_results(plan, table, picture, folder if command.write and whole else None)
    code, compared = compare_with_docs(plan, table, docs, bool(command.rows)) if docs is not None else (0, [])
    for one, line in outcome.failed.items():
        say(f"failed: {one.name}: {line}")
    if not whole:
        said = "; nothing was written to the docs" if command.write else ""
        count = f"{len(outcome.failed)} of {len(plan.trainings)}"
        say(f"metarl: error: {count} trainings failed{said}; {how_to_go_on(words)}")
    say(f"ready after {in_words((time.monotonic() - began) / 60.0)}")
    if command.json:
        end_with_json({**table, "compared": compared} if docs is not None else table)
    return code or (0 if whole else FAILED)


def _stopped(outcome: Outcome, plan: Plan, words: Sequence[str]) -> int:
    """Says what is left and how to go on; returns the exit code."""
    left = [one.minutes_left() for one in plan.trainings if one.state() != "finished" and one not in outcome.failed]
    for one, line in outcome.failed.items():
        say(f"failed: {one.name}: {line}")
    say(f"stopped by {outcome.stopped}, {in_words(makespan(left, 1))} of one core left; {how_to_go_on(words)}")
    return STOPPED


if __name__ == "__main__":
    run_as_process(main)
