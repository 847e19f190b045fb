"""`metarl compare RUN_DIR ...`: several runs on the same held-out tasks, in one table and one picture."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro
from rich.table import Table

from metarl.checkpoint import list_checkpoints
from metarl.comparison import Contender, Over, Statistic, aggregate, intervals, share_interval
from metarl.config import Rows, Seed, check
from metarl.curves import with_known_successes
from metarl.evaluation import evaluate
from metarl.files import write_bytes, write_json
from metarl.intervals import FEWEST_TO_RESAMPLE, Interval, rate_intervals
from metarl.report import (
    REFERENCES,
    Curve,
    comparison_picture,
    counted,
    first_label,
    interval_json,
    millions,
    tasks_label,
)
from metarl.runs import STEPPING_FIELDS, RunConfig, versions
from metarl.scripts.common import border, end_with_json, parse
from metarl.scripts.ending import run_as_process
from metarl.scripts.families import agent_of_run, family_of_run
from metarl.scripts.terminal import console
from metarl.seeding import Streams
from metarl.tasks import REPORTED, Family, Split, split_name, split_tasks
from metarl.types import Actions, Floats

INERT_FIELDS = (
    "training.eval_every",
    "training.eval_tasks",
    "training.checkpoint_every",
    "training.checkpoints_kept",
    *STEPPING_FIELDS,
)
"""Settings that change nothing of what is learned."""


@dataclass(frozen=True, kw_only=True)
class CompareCommand:
    """Evaluates runs on the same tasks; runs that differ in nothing but their seed are one contender."""

    run_dirs: tyro.conf.Positional[tuple[Path, ...]]
    """Runs, or folders of several seeds that `metarl train --seeds` made."""
    split: Split = "test"
    """Held-out tasks to report on; tune: held-out tasks to choose settings by; or training tasks."""
    family: str | None = None
    """The runs' family, if it is your own module:function."""
    tasks: Rows = REPORTED
    """Number of tasks; the whole set where it is smaller."""
    episodes: Rows = 20
    """Episodes per task and collect (E)."""
    actions: Actions = "sample"
    """Actions of the episodes that count: sampled from the policy, or its mode."""
    over: Over = "tasks"
    """Source of error in the 95 % intervals of the table: other tasks, other trainings, or both. With several seeds, a
    second table has all three."""
    statistic: Statistic = "mean"
    """Mean, or interquartile mean over seeds and tasks."""
    seed: Seed = 0
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


@dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but their seed.

    Args:
        label: The agent's name, followed by the folder where the same agent ran with other settings too.
        paths: The runs.
        config: Configuration of the first.
        iteration: Meta-updates that each was trained for.
    """

    label: str
    paths: tuple[Path, ...]
    config: RunConfig
    iteration: int


def _grouped(runs: Sequence[tuple[Path, RunConfig]]) -> list[Group]:
    """The runs as contenders, in the order in which they come up.

    Raises:
        ValueError: A run has no checkpoint, or two runs of a contender have the same seed.
    """
    groups: list[Group] = []
    for path, run in runs:
        iteration = _iterations_done(path)
        for i, known in enumerate(groups):
            if known.iteration == iteration and not run.changed_fields(known.config, ("training.seed", *INERT_FIELDS)):
                groups[i] = dataclasses.replace(known, paths=(*known.paths, path))
                break
        else:
            groups.append(Group(run.agent, (path,), run, iteration))
    config = dict(runs)
    agents = [group.config.agent for group in groups]
    for i, group in enumerate(groups):
        seeds = [config[path].training.seed for path in group.paths]
        twice = next((seed for seed in seeds if seeds.count(seed) > 1), None)
        if twice is not None:
            same = [str(path) for path, seed in zip(group.paths, seeds, strict=True) if seed == twice]
            raise ValueError(
                f"compare: got {' and '.join(same[:2])}, trained alike and with the same seed {twice}, expected "
                "different seeds: a copy is no second training"
            )
        if agents.count(group.label) > 1:
            first = group.paths[0]
            groups[i] = dataclasses.replace(group, label=f"{group.label}, {first.parent if len(seeds) > 1 else first}")
    return groups


def _iterations_done(path: Path) -> int:
    """Meta-updates in the newest checkpoint of a run.

    Raises:
        ValueError: There is none.
    """
    saved = list_checkpoints(path / "checkpoints")
    if not saved:
        raise ValueError(f"{path}: got a run without a whole checkpoint, expected one in {path / 'checkpoints'}")
    return int(saved[-1].stem)


def _contender(group: Group, family: Family, command: CompareCommand) -> Contender:
    """Evaluates the runs of one contender.

    Raises:
        ValueError: The newest checkpoint of a run is damaged, so that it stands for fewer iterations than the others.
    """
    results, seeds, env_steps = [], [], []
    for path in group.paths:
        agent, progress = agent_of_run(path, command.device)
        if progress.iteration != group.iteration:
            raise ValueError(
                f"compare: got {path} with a damaged checkpoint of iteration {group.iteration}, whole up to "
                f"{progress.iteration}; resume its training, or leave it out"
            )
        print(f"{group.label}: {path}, iteration {progress.iteration}", file=sys.stderr, flush=True)
        results.append(
            evaluate(
                agent,
                family,
                split_tasks(family.distribution, command.split, command.tasks),
                Streams.for_evaluation(command.seed),
                split=split_name(family.distribution, command.split),
                episodes=command.episodes,
                horizon=agent.spaces.horizon,
                actions=command.actions,
            )
        )
        seeds.append(RunConfig.read(path).training.seed)
        env_steps.append(progress.env_steps)
    return Contender(group.label, tuple(results), tuple(seeds), group.iteration, tuple(env_steps))


def _alike_in_success(contenders: Sequence[Contender]) -> list[Contender]:
    """The same; where one met a success, no other has unknown ones."""
    known = iter(with_known_successes([result for one in contenders for result in one.results]))
    return [dataclasses.replace(one, results=tuple(next(known) for _ in one.results)) for one in contenders]


def _row(one: Contender, ends: Mapping[str, Contender], command: CompareCommand) -> dict[str, Any]:
    """Everything that is reported on one contender.

    Args:
        one: The contender.
        ends: Multitask and oracle, as far as they are there.
        command: The settings.
    """
    scores, over, statistic, result = one.scores, command.over, command.statistic, one.results[0]
    differences = scores - scores[..., :1]
    share = None
    if set(ends) == set(REFERENCES) and one.label not in ends:
        after, nothing, everything = (c.scores[..., -1] for c in (one, ends["multitask"], ends["oracle"]))
        share = {o: interval_json(share_interval(after, nothing, everything, o, statistic)) for o in OVER}
    rates = {
        name: interval_json(_success_interval(arrays, over)) if (arrays := _success(one, name)) is not None else None
        for name in ("success", "last_step_success")
    }
    return {
        "agent": one.label,
        "seeds": len(one.results),
        "seed_list": list(one.seeds),
        "iterations": one.iterations,
        "env_steps": list(one.env_steps),
        "episodes": list(result.episodes),
        "first_point": first_label(result.adapts_within_episodes),
        "curve": [interval_json(point) for point in intervals(scores, over, statistic)],
        "difference": interval_json(intervals(differences, over, statistic)[-1]) if scores.shape[-1] > 1 else None,
        "end": {o: interval_json(intervals(scores, o, statistic)[-1]) for o in OVER},
        "end_of_each_seed": [float(aggregate(score[None], statistic)[-1]) for score in scores],
        "share_of_gap": share,
        "success_last": rates["last_step_success"],
        "success": rates["success"],
        "diverged_episodes": sum(r.diverged_episodes for r in one.results),
    }


OVER: tuple[Over, ...] = ("tasks", "seeds", "both")


def _success(one: Contender, name: Literal["success", "last_step_success"]) -> Floats | None:
    """Rates of success at the last point of the curve, `[seed, task, 1]`; None where unknown."""
    arrays = [getattr(result, name) for result in one.results]
    if any(a is None for a in arrays):
        return None
    return np.stack([a[:, -1].mean(axis=-1) for a in arrays])[..., None]


def _success_interval(rates: Floats, over: Over) -> Interval:
    """Over tasks by the score interval; else as a mean, but no narrower than the score interval of all pairs.

    Seeds that all fail would have an interval without a width.
    """
    if over == "tasks":
        return rate_intervals(rates.mean(axis=0))[0]
    wide, least = intervals(rates, over, "mean")[0], rate_intervals(rates.reshape(-1, 1))[0]
    if np.isnan(wide.low):
        return wide
    return Interval(wide.mean, min(wide.low, least.low), max(wide.high, least.high)).clipped(0.0, 1.0)


def _text(point: Mapping[str, float | None] | None, digits: int = 1) -> str:
    """A mean with its interval."""
    if point is None:
        return ""
    mean, low, high = point["mean"], point["ci_low"], point["ci_high"]
    return f"{mean:.{digits}f}" + ("" if low is None else f" [{low:.{digits}f}, {high:.{digits}f}]")


def _table(rows: Sequence[dict[str, Any]], title: str, over: Over) -> Table:
    """One row per contender."""
    shown: dict[str, Callable[[dict[str, Any]], str]] = {
        "agent": lambda row: row["agent"],
        "share of gap": lambda row: _text(row["share_of_gap"] and row["share_of_gap"][over], 2),
        "first*": lambda row: _text(row["curve"][0]),
        "last": lambda row: _text(row["curve"][-1]),
        "last - first": lambda row: _text(row["difference"]),
        "success, last step": lambda row: _text(row["success_last"], 2),
        "any step": lambda row: _text(row["success"], 2),
    }
    if not any(row["success_last"] for row in rows):
        del shown["success, last step"], shown["any step"]
    table = Table(*shown, title=title, title_justify="left")
    for row in rows:
        table.add_row(*(text(row) for text in shown.values()))
    return table


def _runs_table(rows: Sequence[dict[str, Any]]) -> Table:
    """The trainings behind each contender, and how its episodes went."""
    columns = ("agent", "seeds", "iterations", "env steps", "adaptation episodes", "blown-up episodes")
    table = Table(*columns, title="trained and evaluated", title_justify="left")
    for row in rows:
        numbers = (row["seeds"], row["iterations"], _steps(row["env_steps"]), row["episodes"][-1])
        table.add_row(row["agent"], *map(str, (*numbers, row["diverged_episodes"])))
    return table


def _steps(env_steps: Sequence[int]) -> str:
    """Environment steps of a training in millions; from fewest to most where seeds differ."""
    ends = [millions(n) for n in (min(env_steps), max(env_steps))]
    return ends[0] if ends[0] == ends[1] else " to ".join(ends)


def _seeds_table(rows: Sequence[dict[str, Any]], statistic: Statistic) -> Table:
    """What other tasks, other trainings, and both would change, and each seed by itself."""
    title = f"last point, {statistic}, 95 % intervals over each source of error"
    table = Table("agent", "", *(f"over {o}" for o in OVER), "single seeds", title=title, title_justify="left")
    for row in (row for row in rows if row["seeds"] > 1):
        seeds = ", ".join(f"{value:.1f}" for value in row["end_of_each_seed"][:FEWEST_TO_RESAMPLE])
        more = "" if row["seeds"] <= FEWEST_TO_RESAMPLE else ", ..."
        table.add_row(row["agent"], "return", *(_text(row["end"][o]) for o in OVER), seeds + more)
        if row["share_of_gap"]:
            table.add_row("", "share of gap", *(_text(row["share_of_gap"][o], 2) for o in OVER), "")
    return table


def _curve(one: Contender, row: Mapping[str, Any], command: CompareCommand) -> Curve:
    """A contender for the picture."""
    share, scores = row["share_of_gap"], one.scores
    label = REFERENCES.get(one.label, one.label)
    if share:
        label += f": {_text(share[command.over], 2)} of the gap"
    single = np.stack([aggregate(s[None], command.statistic) for s in scores])
    return Curve(
        label,
        one.results[0].episodes,
        intervals(scores, "tasks", command.statistic),
        intervals(scores, "seeds", command.statistic),
        single if 1 < len(scores) < FEWEST_TO_RESAMPLE else single[:0],
        one.label if one.label in REFERENCES else None,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    with border():
        command: CompareCommand = parse(CompareCommand, "metarl compare", words)
        check(command)
        runs = _runs(command.run_dirs)
        _check_alike(runs)
        family = family_of_run(runs[0][1], command.family)
        if command.out is not None and command.out.is_file():
            raise ValueError(f"--out: got {command.out}, which is a file; expected a folder or a new name")
        if command.out is not None and command.out.exists() and any(command.out.iterdir()):
            raise ValueError(f"--out: got {command.out}, which is not empty; expected a new folder")
        contenders = _alike_in_success([_contender(group, family, command) for group in _grouped(runs)])
    ends = {one.label: one for one in contenders if one.label in REFERENCES}
    rows = [_row(one, ends, command) for one in contenders]
    result = contenders[0].results[0]
    about = f"{family.name}, {counted(len(result.tasks), tasks_label(result.split))}, actions: {command.actions}"
    about += f", {command.statistic}"
    title = f"{about}, 95 % intervals over {command.over}"
    terminal = console()
    terminal.print(_table(rows, title, command.over))
    terminal.print(_runs_table(rows))
    if any(row["seeds"] > 1 for row in rows):
        terminal.print(_seeds_table(rows, command.statistic))
    notes = [FIRST_NOTE]
    if set(ends) != set(REFERENCES):
        notes.append("no share of the gap: add one run (or its seeds) of multitask and one of oracle on this family")
    if family.reward_version:
        notes.append(f"reward: {family.reward_version}")
    for note in notes:
        print(note)
    value = {
        "family": family.name,
        "split": result.split,
        "tasks": len(result.tasks),
        "actions": command.actions,
        "statistic": command.statistic,
        "over": command.over,
        "reward_version": family.reward_version or None,
        "rows": rows,
        "versions": versions(),
    }
    if command.out is not None:
        command.out.mkdir(parents=True, exist_ok=True)
        curves = [_curve(one, row, command) for one, row in zip(contenders, rows, strict=True)]
        raw = {
            "task_list": [task.to_json() for task in result.tasks],
            "returns": {one.label: [r.returns.tolist() for r in one.results] for one in contenders},
        }
        write_json(command.out / "comparison.json", {**value, "command": words, **raw})
        write_bytes(command.out / "comparison.png", comparison_picture(curves, about))
        print(f"picture: {command.out / 'comparison.png'}")
    if command.json:
        end_with_json(value)
    return 0


FIRST_NOTE = "* first: before adaptation; for agents with a memory their first episode, in which they adapt already"


if __name__ == "__main__":
    run_as_process(main)
