"""`metarl compare RUN_DIR ...`: several runs on the same held-out tasks, in one table and one picture."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro
from rich.console import Console
from rich.table import Table

from metarl.comparison import Contender, Statistic, intervals, share_of_the_gap
from metarl.config import Count, Whole, check
from metarl.evaluation import Interval, evaluate
from metarl.report import comparison_picture, interval_json, tasks_label
from metarl.runs import STEPPING_FIELDS, RunConfig, versions
from metarl.scripts.common import border, end_with_json, parse
from metarl.scripts.families import agent_of_run, family_of_run
from metarl.seeding import Streams
from metarl.storage import write_bytes, write_json
from metarl.tasks import Family, split_tasks

REFERENCES = ("multitask", "oracle")
"""Agents drawn as lines: the policy that is told nothing, and the one that is told the task."""


@dataclass(frozen=True, kw_only=True)
class CompareCommand:
    """Evaluates runs on the same tasks; runs that differ in nothing but their seed are one contender."""

    run_dirs: tyro.conf.Positional[tuple[Path, ...]]
    """Runs, or folders of several seeds that `metarl train --seeds` made."""
    split: Literal["test", "train"] = "test"
    """Held-out tasks, or training tasks."""
    family: str | None = None
    """The runs' family, if it is your own module:function."""
    tasks: Count = 40
    """Number of tasks; the whole set where it is smaller."""
    episodes: Count = 20
    """Episodes per task and collect (E)."""
    over: Literal["tasks", "seeds"] = "tasks"
    """What the 95 % intervals are over: other tasks, or other trainings (stratified bootstrap)."""
    statistic: Statistic = "mean"
    """Mean, or interquartile mean over seeds and tasks."""
    seed: Whole = 0
    """Seed of the evaluation."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the agents compute."""
    out: Path | None = None
    """Folder for comparison.png and comparison.json; none are written by default."""
    json: bool = False
    """End stdout with one line of JSON."""


def _runs(folders: Sequence[Path]) -> list[tuple[Path, RunConfig]]:
    """Every run in the folders; a folder of seeds stands for its runs."""
    paths = []
    for folder in folders:
        seeds = sorted(folder.glob("seed-*/config.json"))
        paths += [path.parent for path in seeds] if seeds else [folder]
    if not paths:
        raise ValueError("compare: got no run, expected at least one folder that `metarl train` made")
    return [(path, RunConfig.read(path)) for path in paths]


def _check_alike(runs: Sequence[tuple[Path, RunConfig]]) -> None:
    """Raises ValueError unless all runs were made for the same family and spaces."""
    first_path, first = runs[0]
    for path, run in runs[1:]:
        if (run.family, run.spaces) != (first.family, first.spaces):
            raise ValueError(
                f"compare: got {first_path} on {first.family!r} with horizon {first.spaces.horizon} and {path} on "
                f"{run.family!r} with horizon {run.spaces.horizon}, expected the same family and horizon for all"
            )


def _grouped(runs: Sequence[tuple[Path, RunConfig]]) -> dict[str, list[Path]]:
    """Paths by label: the agent's name, or the folder's where the same agent ran with different settings."""
    groups: list[tuple[RunConfig, list[Path]]] = []
    for path, run in runs:
        for known, paths in groups:
            may_differ = ("training.seed", "training.iterations", "training.eval_every", *STEPPING_FIELDS)
            if not run.changed_fields(known, may_differ):
                paths.append(path)
                break
        else:
            groups.append((run, [path]))
    agents = [run.agent for run, _ in groups]
    return {run.agent if agents.count(run.agent) == 1 else str(paths[0]): paths for run, paths in groups}


def _contender(label: str, paths: Sequence[Path], family: Family, command: CompareCommand) -> Contender:
    """Evaluates the runs of one contender."""
    results = []
    for path in paths:
        agent, progress = agent_of_run(path, command.device)
        print(f"{label}: {path}, iteration {progress.iteration}", file=sys.stderr, flush=True)
        results.append(
            evaluate(
                agent,
                family,
                split_tasks(family.distribution, command.split, command.tasks),
                Streams.for_evaluation(command.seed),
                split=command.split if family.distribution.splits else "train",
                episodes=command.episodes,
                horizon=agent.spaces.horizon,
            )
        )
    return Contender(label, tuple(results))


def _rows(contenders: Sequence[Contender], command: CompareCommand) -> list[dict[str, Any]]:
    """One row per contender: before and after adaptation, the paired difference, the share of the gap."""
    scored = {c.label: intervals(c.scores, command.over, command.statistic) for c in contenders}
    ends = [scored[name][-1].mean for name in REFERENCES if name in scored]
    rows = []
    for one in contenders:
        curve, scores = scored[one.label], one.scores
        adapts = scores.shape[-1] > 1
        difference = intervals(scores - scores[..., :1], command.over, command.statistic)[-1] if adapts else None
        known = len(ends) == 2 and one.label not in REFERENCES and ends[0] != ends[1]
        rows.append(
            {
                "agent": one.label,
                "seeds": len(one.results),
                "episodes": list(one.results[0].episodes),
                "curve": [interval_json(point) for point in curve],
                "difference": interval_json(difference) if difference else None,
                "share_of_gap": share_of_the_gap(curve[-1].mean, *ends) if known else None,
            }
        )
    return rows


def _table(rows: Sequence[dict[str, Any]], title: str) -> Table:
    def text(point: dict[str, Any] | None) -> str:
        if point is None:
            return ""
        low, high = point["ci_low"], point["ci_high"]
        return f"{point['mean']:.1f}" + ("" if low is None else f" [{low:.1f}, {high:.1f}]")

    columns = ("agent", "seeds", "episodes", "before", "after", "difference", "share of gap")
    table = Table(*columns, title=title, title_justify="left")
    for row in rows:
        share = "" if row["share_of_gap"] is None else f"{row['share_of_gap']:.2f}"
        before, after = text(row["curve"][0]), text(row["curve"][-1])
        table.add_row(
            row["agent"], str(row["seeds"]), str(row["episodes"][-1]), before, after, text(row["difference"]), share
        )
    return table


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    with border():
        command: CompareCommand = parse(CompareCommand, "metarl compare", words)
        check(command)
        runs = _runs(command.run_dirs)
        _check_alike(runs)
        family = family_of_run(runs[0][1], command.family)
        if command.out is not None and command.out.exists() and any(command.out.iterdir()):
            raise ValueError(f"--out: got {command.out}, which is not empty; expected a new folder")
        contenders = [_contender(label, paths, family, command) for label, paths in _grouped(runs).items()]
    rows = _rows(contenders, command)
    result = contenders[0].results[0]
    title = f"{family.name}, {len(result.tasks)} {tasks_label(result.split)}"
    title += f", {command.statistic}, 95 % intervals over {command.over}"
    Console(width=None if sys.stdout.isatty() else 140).print(_table(rows, title))
    value = {
        "family": family.name,
        "split": result.split,
        "tasks": len(result.tasks),
        "statistic": command.statistic,
        "over": command.over,
        "rows": rows,
        "versions": versions(),
    }
    if command.out is not None:
        command.out.mkdir(parents=True, exist_ok=True)
        curves: dict[str, tuple[Sequence[int], Sequence[Interval]]] = {
            c.label: (c.results[0].episodes, intervals(c.scores, command.over, command.statistic)) for c in contenders
        }
        write_json(command.out / "comparison.json", {**value, "command": words})
        write_bytes(command.out / "comparison.png", comparison_picture(curves, REFERENCES, title))
        print(f"picture: {command.out / 'comparison.png'}")
    if command.json:
        end_with_json(value)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
