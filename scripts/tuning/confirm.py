"""The best settings and the preset, trained again by fresh seeds and compared on the tuning tasks."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metarl.registry import is_own_agent
from metarl.run_setup import RunSettings
from metarl.scripts.child import Child, run_all, wait_for_orphans
from metarl.scripts.tuning.record import Record
from metarl.scripts.tuning.search import OUTPUT, Machine

FOLDER = "confirm"


@dataclass(frozen=True)
class Confirmation:
    """The result of a confirmation.

    Args:
        best: Number of the trial.
        seeds: The fresh seeds.
        tasks: Number of tuning tasks.
        best_returns: Return of each seed with the best settings, mean over tasks.
        preset_returns: Likewise with the preset's.
        differences: Best minus preset, paired by task: mean and bounds of its interval over `tasks`, `seeds`, `both`.
    """

    best: int
    seeds: tuple[int, ...]
    tasks: int
    best_returns: tuple[float, ...]
    preset_returns: tuple[float, ...]
    differences: Mapping[str, Mapping[str, float | None]]


@dataclass(frozen=True)
class Plan:
    """The trainings and the comparison of a confirmation.

    Args:
        record: The record of the study.
        out: Folder of the study.
        best: Number of the best trial.
        settings: Its settings.
        count: Number of fresh seeds.
    """

    record: Record
    out: Path
    best: int
    settings: RunSettings
    count: int

    @property
    def seeds(self) -> list[int]:
        """Seeds that no trial had."""
        first = self.record.seed_list[-1] + 1
        return list(range(first, first + self.count))

    @property
    def groups(self) -> dict[Path, RunSettings]:
        """Folder and settings of the two sides, the best first."""
        folder = self.out / FOLDER
        return {folder / f"trial-{self.best}": self.settings, folder / "preset": self.record.settings}

    @property
    def runs(self) -> list[tuple[Path, RunSettings]]:
        """Folder and settings of each training, the two sides in turns."""
        return [
            (folder / f"seed-{seed}", with_seed(settings, seed))
            for seed in self.seeds
            for folder, settings in self.groups.items()
        ]

    @property
    def result(self) -> Path:
        """Folder of the comparison."""
        return self.out / FOLDER / f"trial-{self.best}-and-preset-{self.count}"


def with_seed(settings: RunSettings, seed: int) -> RunSettings:
    """Settings with another seed."""
    return dataclasses.replace(settings, training=dataclasses.replace(settings.training, seed=seed))


def confirm(plan: Plan, machine: Machine, stop: Callable[[], bool], tick: Callable[[int], None]) -> Confirmation | None:
    """Trains and compares; what was trained before is not trained again.

    Args:
        plan: The plan.
        machine: How trainings are run.
        stop: Whether to end early.
        tick: Called all the time with the number of trainings that ended.

    Returns:
        The result; None if it was stopped.

    Raises:
        ValueError: A training or the comparison failed.
    """
    if not (plan.result / "comparison.json").exists():
        wait_for_orphans([folder for folder, _ in plan.runs])

        def start(folder: Path, settings: RunSettings) -> Callable[[], Child]:
            return lambda: machine.start(plan.record, settings, folder)

        if not run_all([start(*one) for one in plan.runs], machine.jobs, stop, tick):
            return None
        if not run_all([lambda: _compare(plan)], 1, stop, lambda _: tick(len(plan.runs))):
            return None
    return _read(plan)


def _compare(plan: Plan) -> Child:
    """Starts `metarl compare` on the tuning tasks."""
    record, training = plan.record, plan.record.settings.training
    words = ["compare", *(str(folder / f"seed-{seed}") for folder in plan.groups for seed in plan.seeds)]
    words += ["--split", "tune", "--tasks", str(training.eval_tasks), "--episodes", str(training.episodes)]
    words += ["--family", record.family, "--device", training.device, "--out", str(plan.result)]
    words += ["--agent", record.agent] if is_own_agent(record.agent) else []
    return Child(words, plan.out / FOLDER / OUTPUT, one_thread=False)


def _read(plan: Plan) -> Confirmation:
    path = plan.result / "comparison.json"
    try:
        value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        rows, pair = value["rows"], value["differences"][0]
        ends = [tuple(float(end) for end in row["end_of_each_seed"]) for row in rows[:2]]
        return Confirmation(
            plan.best, tuple(plan.seeds), int(value["tasks"]), ends[0], ends[1], dict(pair["difference"])
        )
    except (json.JSONDecodeError, KeyError, IndexError, TypeError) as error:
        raise ValueError(f"{path}: got a comparison that cannot be read ({error!r}); remove its folder") from error
