"""The compared agents of a page: their runs, evaluations and logs, and the statistics of these."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from metarl.comparison import intervals, share_interval
from metarl.curves import (
    adaptation_curve,
    adaptation_differences,
    difference_between,
    success_intervals,
)
from metarl.files import read_json
from metarl.intervals import Interval
from metarl.report import REFERENCES
from metarl.results import EvalResult
from metarl.run_config import BaseRun
from metarl.types import Floats

LARGE = ((1000.0, 0), (100.0, 1))
"""Numbers from which on fewer decimals are shown."""


@dataclass(frozen=True)
class RunFiles:
    """A run's folder, as far as the page shows it.

    Args:
        path: The folder.
        config: Its configuration.
        log: Lines of `metrics.jsonl`.
        starts: Entries of `versions.json`, one per start.
        evaluation: Content of the `evaluation.json`.
    """

    path: Path
    config: BaseRun
    log: Sequence[Mapping[str, Any]]
    starts: Sequence[Mapping[str, Any]]
    evaluation: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The last part of its path, with the folder around it for one of several seeds."""
        path = self.path.resolve()
        return f"{path.parent.name}/{path.name}" if path.name.startswith("seed-") else path.name

    def column(self, name: str) -> list[tuple[float, float]]:
        """Counted steps and the value of a metric, for all lines that have it as a finite number."""
        return [(row["env_steps"], row[name]) for row in self.log if is_number(row.get(name))]

    def total(self, name: str) -> float | None:
        """Sum of a metric over the run; None if no line has it."""
        found = [value for _, value in self.column(name)]
        return sum(found) if found else None


def is_number(value: Any) -> bool:
    """Whether a JSON value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and bool(np.isfinite(value))


def run_files(path: Path, config: BaseRun, evaluation: Mapping[str, Any]) -> RunFiles:
    """Reads a run's log and its versions; what is missing or cut short is left out."""
    rows: list[Mapping[str, Any]] = []
    with contextlib.suppress(OSError):
        for line in (path / "metrics.jsonl").read_text(encoding="utf-8", errors="replace").splitlines():
            with contextlib.suppress(ValueError, RecursionError):
                row = json.loads(line)
                if isinstance(row, dict) and is_number(row.get("env_steps")) and is_number(row.get("iteration")):
                    rows.append(row)
    starts: list[Mapping[str, Any]] = []
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        starts = [one for one in read_json(path / "versions.json")["starts"] if isinstance(one, dict)]
    return RunFiles(path, config, rows, starts, evaluation)


@dataclass(frozen=True)
class Entry:
    """One agent, trained with one or several seeds, and its evaluations on the tasks of the page.

    Args:
        label: Name on the page.
        series: Number of its colour and shape.
        runs: One per seed.
        results: One per seed.
        untrained: Results of the untrained agent of the first run, if its evaluation has them.
        reference: Whether the command line names it as a reference.
    """

    label: str
    series: int
    runs: tuple[RunFiles, ...]
    results: tuple[EvalResult, ...]
    untrained: EvalResult | None = None
    reference: bool = False

    @property
    def agent(self) -> str:
        """Name of the agent."""
        return self.runs[0].config.agent

    @property
    def line(self) -> str:
        """Name of the reference agent if the entry is drawn as a line; empty for a curve."""
        return self.agent if self.agent in REFERENCES else ""

    @property
    def scores(self) -> Floats:
        """Mean return over repeats, `[seed, task, k]`."""
        return np.stack([result.returns.mean(axis=2) for result in self.results])

    @property
    def pooled(self) -> EvalResult:
        """The evaluation with the episodes of all seeds as repeats; that of the run for a single seed."""
        first = self.results[0]
        if len(self.results) == 1:
            return first

        def joined(name: str) -> Any:
            arrays = [getattr(result, name) for result in self.results]
            return None if any(a is None for a in arrays) else np.concatenate(arrays, axis=2)

        names = ("returns", "success", "last_step_success", "diverged")
        return replace(first, **{name: joined(name) for name in names})

    def curve(self) -> list[Interval]:
        """Mean return at each `k`, with intervals over tasks: those of `metarl evaluate`, or of `metarl compare`."""
        if len(self.results) == 1:
            return adaptation_curve(self.results[0])
        return intervals(self.scores, "tasks", "mean")

    def gain(self) -> Interval | None:
        """Return at the last point minus that at the first, paired by task; None for a single point."""
        scores = self.scores
        if scores.shape[-1] < 2:
            return None
        if len(self.results) == 1:
            return adaptation_differences(self.results[0])[-1]
        return intervals(scores - scores[..., :1], "tasks", "mean")[-1]

    def success(self, at: Literal["any", "last"]) -> list[Interval]:
        """Success rates at each `k`; empty if the family does not report success."""
        return success_intervals(self.pooled, at)

    def minus(self, other: Entry) -> Interval:
        """Return at the last point minus that of another entry, paired by task."""
        return difference_between(self.pooled, other.pooled)

    def share(self, entries: Sequence[Entry]) -> Interval | None:
        """Share of the gap between multitask and oracle; None without both, and for these two."""
        ends = {one.line: one.scores[..., -1] for one in entries if one.line}
        if set(ends) != set(REFERENCES) or self.line:
            return None
        return share_interval(self.scores[..., -1], ends["multitask"], ends["oracle"], "tasks", "mean")


def digits_for(entries: Sequence[Entry]) -> int:
    """Decimals of returns on the page, by the size of the largest."""
    largest = max(float(np.abs(one.scores).max()) for one in entries)
    return next((digits for bound, digits in LARGE if largest >= bound), 2)
