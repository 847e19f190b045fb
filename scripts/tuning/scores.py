"""Scores of a trial from its `metrics.jsonl`: the running evaluations on tuning tasks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

Metric = Literal["return", "success", "success_last"]
LAST = 3
"""Evaluations that a score is the mean of: one of them alone has the noise of the iteration that it follows."""


@dataclass(frozen=True)
class Reading:
    """The log of one training.

    Args:
        iteration: Last iteration.
        env_steps: Environment steps so far.
        evaluations: Iteration and score of each evaluation.
    """

    iteration: int = 0
    env_steps: int = 0
    evaluations: tuple[tuple[int, float], ...] = ()

    @property
    def smoothed(self) -> tuple[tuple[int, float], ...]:
        """Iteration of each evaluation, and the mean of it and of those before it, at most `LAST`."""
        scores = [score for _, score in self.evaluations]
        return tuple(
            (iteration, float(np.mean(scores[max(0, i + 1 - LAST) : i + 1])))
            for i, (iteration, _) in enumerate(self.evaluations)
        )


def read_log(path: Path, metric: Metric) -> Reading:
    """The log of a training that may be running; a line that is being written does not count.

    Args:
        path: `metrics.jsonl`.
        metric: The evaluated quantity, after the last adaptation.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return Reading()
    rows = [row for line in text.splitlines(keepends=True) if line.endswith("\n") and (row := _row(line)) is not None]
    if not rows:
        return Reading()
    evaluations = [(int(row["iteration"]), score) for row in rows if (score := last_score(row, metric)) is not None]
    return Reading(int(rows[-1]["iteration"]), int(rows[-1]["env_steps"]), tuple(evaluations))


def _row(line: str) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except (json.JSONDecodeError, RecursionError):
        return None
    whole = isinstance(row, dict) and isinstance(row.get("iteration"), int) and isinstance(row.get("env_steps"), int)
    return row if whole else None


def last_score(row: Mapping[str, Any], metric: Metric) -> float | None:
    """The evaluation of an iteration after the last adaptation; None without one, or if it is not finite."""
    prefix = f"evaluation/{metric}/"
    points = {key.removeprefix(prefix): value for key, value in row.items() if key.startswith(prefix)}
    last = max((int(k) for k in points if k.isdecimal()), default=None)
    value = None if last is None else points[str(last)]
    return float(value) if isinstance(value, int | float) and np.isfinite(value) else None


@dataclass(frozen=True)
class TrialReading:
    """The logs of a trial's trainings, one per seed, trained one after another.

    Args:
        seeds: One per seed that has begun.
        iterations: Iterations of each.
        planned: Number of seeds.
    """

    seeds: tuple[Reading, ...]
    iterations: int
    planned: int = 1

    @property
    def steps(self) -> tuple[tuple[int, float], ...]:
        """Iteration since the start of the first seed, and the score so far, at each evaluation.

        The score so far is the mean over the finished seeds and the one that trains, so that trials can be compared at
        equal iterations.
        """
        found, finished = list[tuple[int, float]](), list[float]()
        for number, seed in enumerate(self.seeds):
            for iteration, score in seed.smoothed:
                found.append((number * self.iterations + iteration, float(np.mean([*finished, score]))))
            if seed.smoothed:
                finished.append(seed.smoothed[-1][1])
        return tuple(found)

    @property
    def score(self) -> float | None:
        """Mean over seeds of the mean of the last evaluations; None unless every seed has one."""
        lasts = [seed.smoothed[-1][1] for seed in self.seeds if seed.smoothed]
        return float(np.mean(lasts)) if len(lasts) == self.planned else None

    @property
    def iteration(self) -> int:
        """Iterations of all seeds together."""
        return sum(seed.iteration for seed in self.seeds)

    @property
    def env_steps(self) -> int:
        """Environment steps of all seeds together."""
        return sum(seed.env_steps for seed in self.seeds)


def read_trial(folder: Path, seeds: Sequence[int], iterations: int, metric: Metric) -> TrialReading:
    """The logs in a trial's folder.

    Args:
        folder: The folder.
        seeds: The seeds; a single one trains in the folder itself.
        iterations: Iterations of each.
        metric: The evaluated quantity.
    """
    folders = [folder] if len(seeds) == 1 else [folder / f"seed-{seed}" for seed in seeds]
    readings = [read_log(one / "metrics.jsonl", metric) for one in folders]
    begun = [reading for reading in readings if reading.iteration]
    return TrialReading(tuple(begun), iterations, len(seeds))
