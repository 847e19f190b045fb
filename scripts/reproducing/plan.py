"""The plan of a table: its trainings, their state, and their cost."""

from __future__ import annotations

import dataclasses
import heapq
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from metarl.checkpoint import list_checkpoints
from metarl.files import read_json, write_json
from metarl.names import did_you_mean
from metarl.scripts.recipes import RECIPES, Recipe, Row

PLAN = "plan.json"
"""File of a results folder with the command of each training, from which a later start sees that a recipe changed."""
FORCED = ("--device", "cpu", "--track", "none")
"""Options of every training: on a CPU, without a tracker."""
SERIAL = ("--workers", "0", "--blocks", "1")
"""Options of every training that samples: its bits then depend on no number of cores, and one core suffices."""
State = Literal["missing", "begun", "finished"]
TAIL = 1 << 16
"""Bytes at the end of a log that are read for its last line."""


@dataclass(frozen=True)
class Training:
    """A training of a table: a row with a seed.

    Args:
        row: The row.
        seed: The seed.
        words: Words after `metarl`, without `--out` and `--resume`.
        out: Folder of the run.
    """

    row: Row
    seed: int
    words: tuple[str, ...]
    out: Path

    @property
    def name(self) -> str:
        """Row and seed, for lines of progress."""
        return f"{self.row.label}, seed {self.seed}"

    @property
    def log(self) -> Path:
        """File with what the training prints."""
        return self.out.with_name(f"{self.out.name}.log")

    def iterations(self) -> int:
        """Total number of iterations; 0 before the start."""
        try:
            return int(read_json(self.out / "config.json")["training"]["iterations"])
        except (OSError, ValueError, KeyError, TypeError):
            return 0

    def saved(self) -> int:
        """Iterations in the newest checkpoint."""
        checkpoints = list_checkpoints(self.out / "checkpoints")
        return int(checkpoints[-1].stem) if checkpoints else 0

    def logged(self) -> int:
        """Iterations in the log of the run, which may be ahead of the newest checkpoint."""
        try:
            with open(self.out / "metrics.jsonl", "rb") as file:
                file.seek(max(0, file.seek(0, 2) - TAIL))
                lines = file.read().split(b"\n")[:-1]  # the last one may be half written
            return int(json.loads(lines[-1])["iteration"]) if lines else 0
        except (OSError, ValueError, KeyError, TypeError):
            return 0

    def state(self) -> State:
        """Whether the run is finished, begun or missing."""
        total = self.iterations()
        if total and self.saved() >= total:
            return "finished"
        return "begun" if total else "missing"

    def fraction(self, done: int) -> float:
        """The share of its iterations that have been made."""
        total = self.iterations()
        return min(1.0, done / total) if total else 0.0

    def minutes_left(self) -> float:
        """Minutes on one core until its end, from its newest checkpoint on."""
        return self.row.minutes * (1.0 - self.fraction(self.saved()))


@dataclass(frozen=True)
class Plan:
    """The trainings of a table.

    Args:
        recipe: The table.
        rows: Its rows, or some of them.
        seeds: Seeds of each row.
        out: The results folder.
    """

    recipe: Recipe
    rows: tuple[Row, ...]
    seeds: tuple[int, ...]
    out: Path

    @property
    def trainings(self) -> tuple[Training, ...]:
        """All trainings, row by row."""
        return tuple(
            Training(row, seed, train_words(self.recipe, row, seed), self.out / f"{row.slug}-seed-{seed}")
            for row in self.rows
            for seed in self.seeds
        )

    def of_row(self, row: Row) -> list[Training]:
        """The trainings of a row."""
        return [one for one in self.trainings if one.row == row]


def train_words(recipe: Recipe, row: Row, seed: int) -> tuple[str, ...]:
    """The command of a training after `metarl`, without its folder."""
    serial = () if recipe.few_shot else SERIAL
    return ("train", row.agent, recipe.family, "--seed", str(seed), *serial, *FORCED, *row.options)


def find_recipe(name: str) -> Recipe:
    """The recipe of a name.

    Raises:
        ValueError: There is none; the message offers the nearest.
    """
    if name not in RECIPES:
        got = repr(name) if name else "no name"
        raise ValueError(f"reproduce: got {got}, expected one of {', '.join(RECIPES)}.{did_you_mean(name, RECIPES)}")
    return RECIPES[name]


def chosen_rows(recipe: Recipe, labels: Sequence[str]) -> tuple[Row, ...]:
    """The rows of some labels, in the order of the recipe; all without labels.

    Raises:
        ValueError: A label is none of the recipe.
    """
    known = [row.label for row in recipe.every]
    for label in labels:
        if label not in known:
            raise ValueError(f"--rows: got {label!r}, expected some of {', '.join(known)}.{did_you_mean(label, known)}")
    return tuple(row for row in recipe.every if not labels or row.label in labels)


def makespan(minutes: Iterable[float], jobs: int) -> float:
    """Minutes until the end of some trainings, `jobs` of them at a time, the longest first."""
    ends = [0.0] * jobs
    for each in sorted(minutes, reverse=True):
        heapq.heapreplace(ends, ends[0] + each)
    return max(ends)


def in_words(minutes: float) -> str:
    """A duration: `45 s`, `12 min` or `3 h 20 min`."""
    if minutes < 1.0:
        return f"{max(round(60 * minutes), 1)} s"
    hours, rest = divmod(round(minutes), 60)
    return f"{hours} h {rest} min" if hours else f"{rest} min"


def announcement(plan: Plan, jobs: int) -> str:
    """One line on finished and missing trainings, and on the cost of the latter."""
    states = [one.state() for one in plan.trainings]
    counts = ", ".join(f"{states.count(state)} {state}" for state in ("finished", "begun", "missing"))
    rows, seeds = len(plan.rows), len(plan.seeds)
    head = f"{plan.recipe.name}: {rows} row{'s' * (rows > 1)} x {seeds} seed{'s' * (seeds > 1)}: {counts}"
    left = [one.minutes_left() for one, state in zip(plan.trainings, states, strict=True) if state != "finished"]
    if not left:
        return f"{head}; nothing to train"
    cost = f"{in_words(sum(left))} of one core, about {in_words(makespan(left, jobs))} with {jobs} side by side"
    return f"{head}; to train: {cost} (cores as those of the recipe); the evaluation follows"


def prepare(plan: Plan, resume: bool) -> None:
    """Makes or checks the results folder, and records the command of each training.

    Args:
        plan: The plan.
        resume: Whether the folder may hold results.

    Raises:
        ValueError: The folder holds something else, or trainings of another recipe.
    """
    out, wanted = plan.out, {one.out.name: list(one.words) for one in plan.trainings}
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out: got {out}, which is a file; expected a folder or a new name")
    there = out.is_dir() and any(path.name != ".lock" for path in out.iterdir())
    if there and not resume:
        raise ValueError(f"--out: got {out}, which already holds results; add --resume, or choose another --out")
    known: dict[str, Any] = {}
    if there:
        if not (out / PLAN).is_file():
            raise ValueError(f"--out: got {out}, which is not empty and holds no {PLAN}; choose another --out")
        known = read_json(out / PLAN)
        if not isinstance(known, dict):
            raise ValueError(f"{out / PLAN}: got a file that is no plan; choose another --out")
        changed = [name for name, words in wanted.items() if known.get(name, words) != words]
        if changed:
            raise ValueError(
                f"--resume: got {out}, but the recipe has changed since {', '.join(changed)} began; remove these "
                "folders and their lines in plan.json, or choose another --out"
            )
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / PLAN, {**known, **wanted})


def listing(recipe: Recipe, jobs: int) -> dict[str, Any]:
    """A recipe as a row of `--list`: its size, and its cost with all seeds and with one."""
    one = [row.minutes for row in recipe.every]
    return {
        "name": recipe.name,
        "family": recipe.family,
        "rows": [row.label for row in recipe.every],
        "seeds": recipe.seeds,
        "core_minutes": recipe.seeds * sum(one),
        "minutes": makespan(one * recipe.seeds, jobs),
        "minutes_with_one_seed": makespan(one, jobs),
        "published": [dataclasses.asdict(figure) for figure in recipe.published],
    }
