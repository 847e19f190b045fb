"""`metarl compare RUN_DIR ...`: evaluates several runs on the same held-out tasks, in one table and one picture."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro

from metarl.comparison import (
    OVERS,
    Contender,
    Over,
    Statistic,
    aggregate,
    alike_in_success,
    intervals,
    paired_difference,
    share_interval,
)
from metarl.config import Rows, Seed, check
from metarl.evaluation import BLOCK_TASKS, evaluate
from metarl.files import write_bytes, write_json
from metarl.intervals import FEWEST_TO_RESAMPLE, Interval, rate_intervals
from metarl.report import (
    REFERENCES,
    Curve,
    comparison_picture,
    counted,
    first_label,
    interval_json,
    tasks_label,
)
from metarl.runs import RunConfig, versions
from metarl.scripts.common import border, end_with_json, option_value, parse
from metarl.scripts.compare_tables import (
    FIRST_NOTE,
    differences_table,
    interval_text,
    returns_table,
    runs_table,
    seeds_table,
)
from metarl.scripts.ending import run_as_process
from metarl.scripts.families import (
    agent_of_run,
    check_named,
    checked_digest,
    config_of_run,
    family_of_run,
    own_agents,
)
from metarl.scripts.groups import Group, check_alike, grouped, run_folders
from metarl.scripts.sampling import SamplingOptions
from metarl.scripts.terminal import console
from metarl.seeding import Streams
from metarl.tasks import REPORTED, Family, Split, split_name, split_tasks
from metarl.types import Actions, Floats
from metarl.workers.blocks import Player
from metarl.workers.choice import make_player

MOST_IN_MATRIX = 6
"""Largest number of contenders whose differences are printed; the JSON value has all of them."""


@dataclass(frozen=True, kw_only=True)
class CompareCommand(SamplingOptions):
    """Evaluates several runs on the same tasks. Runs that differ only in their seed share one row."""

    run_dirs: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of runs, or folders with several seeds, created by `metarl train`."""
    split: Split = "test"
    """Tasks: test (held out, to report), tune (held out, to choose settings by), or train (training tasks)."""
    family: str | None = None
    """Family of the runs; required only for your own module:function."""
    agent: tuple[str, ...] = ()
    """Classes of your own agents in the runs, as module:Class."""
    tasks: Rows = REPORTED
    """Number of tasks, at most all of the split."""
    episodes: Rows = 20
    """Episodes per task and collect (E)."""
    actions: Actions = "sample"
    """sample, mode (in evaluated episodes; adaptation episodes are sampled) or mode-only (in all episodes)."""
    over: Over = "tasks"
    """Source of error of the 95 % intervals in the table: tasks, training seeds, or both.
    With several seeds, a second table has all three."""
    statistic: Statistic = "mean"
    """Statistic over seeds and tasks: mean, or iqm (interquartile mean)."""
    seed: Seed = 0
    """Seed of the evaluation."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device of the agents' networks."""
    out: Path | None = None
    """New folder for comparison.png and comparison.json; by default they are not written."""
    json: bool = False
    """Print the results as one JSON line at the end."""


def _contender(group: Group[RunConfig], family: Family, command: CompareCommand, player: Player) -> Contender:
    """Evaluates the runs of one group, with the environments of a player.

    Raises:
        ValueError: The newest checkpoint of a run is damaged, so the intact one before it has fewer iterations.
    """
    results, seeds, env_steps, own = [], [], [], own_agents(command.agent)
    for path in group.paths:
        agent, progress = agent_of_run(path, command.device, own=own, family=family)
        if progress.iteration != group.iteration:
            raise ValueError(
                f"compare: got {path}, whose checkpoint of iteration {group.iteration} is damaged; the one before it "
                f"has iteration {progress.iteration}. Resume its training, or leave the run out"
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
                block_tasks=BLOCK_TASKS,
                player=player,
            )
        )
        seeds.append(config_of_run(path, own).training.seed)
        env_steps.append(progress.env_steps)
    return Contender(group.label, tuple(results), tuple(seeds), group.iteration, tuple(env_steps))


def _row(one: Contender, ends: Mapping[str, Contender], command: CompareCommand) -> dict[str, Any]:
    """The reported numbers of one contender, as a JSON value.

    Args:
        one: The contender.
        ends: The contenders multitask and oracle by name, if they are compared.
        command: The command line.
    """
    scores, over, statistic, result = one.scores, command.over, command.statistic, one.results[0]
    differences = scores - scores[..., :1]
    share = None
    if set(ends) == set(REFERENCES) and one.label not in ends:
        after, low, high = (c.scores[..., -1] for c in (one, ends["multitask"], ends["oracle"]))
        found = {o: share_interval(after, low, high, o, statistic) for o in OVERS}
        share = {o: interval_json(one) for o, one in found.items() if one} or None
    rates = {
        name: interval_json(success_interval(arrays, over))
        if (arrays := success_at_end(one, name)) is not None
        else None
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
        "end": {o: interval_json(intervals(scores, o, statistic)[-1]) for o in OVERS},
        "end_of_each_seed": [float(aggregate(score[None], statistic)[-1]) for score in scores],
        "share_of_gap": share,
        "success_last": rates["last_step_success"],
        "success": rates["success"],
        "diverged_episodes": sum(r.diverged_episodes for r in one.results),
    }


def _differences(contenders: Sequence[Contender], statistic: Statistic) -> list[dict[str, Any]]:
    """The last return of each contender minus that of each later one, as JSON values."""
    return [
        {
            "agent": one.label,
            "minus": other.label,
            "difference": {
                over: interval_json(paired_difference(one.scores[..., -1], other.scores[..., -1], over, statistic))
                for over in OVERS
            },
        }
        for one, other in combinations(contenders, 2)
    ]


def success_at_end(one: Contender, name: Literal["success", "last_step_success"]) -> Floats | None:
    """Success rates at the last point of the curve, `[seed, task, 1]`; None if unknown."""
    arrays = [getattr(result, name) for result in one.results]
    if any(a is None for a in arrays):
        return None
    return np.stack([a[:, -1].mean(axis=-1) for a in arrays])[..., None]


def success_interval(rates: Floats, over: Over) -> Interval:
    """Interval of success rates `[seed, task, 1]`: the score interval over tasks, else the interval of a mean.

    The latter is widened to the score interval of all pairs of seed and task, because its width would be 0 if all fail.
    """
    if over == "tasks":
        return rate_intervals(rates.mean(axis=0))[0]
    wide, least = intervals(rates, over, "mean")[0], rate_intervals(rates.reshape(-1, 1))[0]
    if np.isnan(wide.low):
        return wide
    return Interval(wide.mean, min(wide.low, least.low), max(wide.high, least.high)).clipped(0.0, 1.0)


def _curve(one: Contender, row: Mapping[str, Any], command: CompareCommand) -> Curve:
    """The curve of a contender in the picture."""
    share, scores = row["share_of_gap"], one.scores
    label = REFERENCES.get(one.label, one.label)
    if share:
        label += f": {interval_text(share[command.over], 2)} of the gap"
    single = np.stack([aggregate(s[None], command.statistic) for s in scores])
    return Curve(
        label,
        one.results[0].episodes,
        intervals(scores, "tasks", command.statistic),
        intervals(scores, "seeds", command.statistic),
        single if 1 < len(scores) < FEWEST_TO_RESAMPLE else single[:0],
        one.label if one.label in REFERENCES else None,
    )


@dataclass(frozen=True)
class Comparison:
    """Contenders on the same tasks, with their numbers and their picture.

    Args:
        contenders: The evaluated agents.
        family: The family.
        command: Options of the comparison.
    """

    contenders: Sequence[Contender]
    family: Family
    command: CompareCommand

    @property
    def ends(self) -> dict[str, Contender]:
        """The contenders multitask and oracle by name, if they are compared."""
        return {one.label: one for one in self.contenders if one.label in REFERENCES}

    @property
    def about(self) -> str:
        """Family, tasks, actions and statistic, as the title of the picture."""
        result = self.contenders[0].results[0]
        about = f"{self.family.name}, {counted(len(result.tasks), tasks_label(result.split))}"
        return f"{about}, actions: {self.command.actions}, {self.command.statistic}"

    def value(self) -> dict[str, Any]:
        """The JSON value of the command: one object per contender under `rows`, and all paired differences."""
        result, ends = self.contenders[0].results[0], self.ends
        return {
            "family": self.family.name,
            "split": result.split,
            "tasks": len(result.tasks),
            "actions": self.command.actions,
            "statistic": self.command.statistic,
            "over": self.command.over,
            "reward_version": self.family.reward_version or None,
            "rows": [_row(one, ends, self.command) for one in self.contenders],
            "differences": _differences(self.contenders, self.command.statistic),
            "versions": versions(),
        }

    def picture(self, rows: Sequence[Mapping[str, Any]]) -> bytes:
        """A PNG of the adaptation curves.

        Args:
            rows: The rows of `value`.
        """
        curves = [_curve(one, row, self.command) for one, row in zip(self.contenders, rows, strict=True)]
        return comparison_picture(curves, self.about)


def compared(groups: Sequence[Group[RunConfig]], family: Family, command: CompareCommand, spec: str) -> Comparison:
    """Evaluates groups of runs on the same tasks.

    Args:
        groups: The groups, each a row.
        family: Family of all runs.
        command: Options of the comparison; its `run_dirs` is not read.
        spec: Name of the family on the command line.

    Raises:
        ValueError: A checkpoint is damaged.
    """
    player = make_player(command.choice(), family, spec, -(-command.tasks // BLOCK_TASKS))
    with contextlib.closing(player):
        contenders = [_contender(group, family, command, player) for group in groups]
    return Comparison(alike_in_success(contenders), family, command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    with border(option_value(words, "--agent", "")):
        command: CompareCommand = parse(CompareCommand, "metarl compare", words)
        check(command)
        own = own_agents(command.agent)
        paths = run_folders("compare", command.run_dirs)
        check_named(own, paths)
        runs = [(path, config_of_run(path, own)) for path in paths]
        check_alike("compare", runs)
        family = family_of_run(runs[0][1], command.family)
        checked_digest(family, runs)
        if command.out is not None and command.out.is_file():
            raise ValueError(f"--out: got {command.out}, which is a file; expected a folder or a new name")
        if command.out is not None and command.out.exists() and any(command.out.iterdir()):
            raise ValueError(f"--out: got {command.out}, which is not empty; expected a new folder")
        comparison = compared(grouped("compare", runs), family, command, command.family or runs[0][1].family)
    value = comparison.value()
    rows, differences = value["rows"], value["differences"]
    title = f"{comparison.about}, 95 % intervals over {command.over}"
    terminal = console()
    terminal.print(returns_table(rows, title, command.over))
    if 1 < len(rows) <= MOST_IN_MATRIX:
        terminal.print(differences_table(rows, differences, command.over))
    terminal.print(runs_table(rows))
    if any(row["seeds"] > 1 for row in rows):
        terminal.print(seeds_table(rows, command.statistic))
    notes = [FIRST_NOTE]
    if set(comparison.ends) != set(REFERENCES):
        notes.append("to see the share of the gap, add runs of multitask and oracle on this family")
    if family.reward_version:
        notes.append(f"reward: {family.reward_version}")
    print("\n".join(notes))
    if command.out is not None:
        command.out.mkdir(parents=True, exist_ok=True)
        raw = {
            "task_list": [task.to_json() for task in comparison.contenders[0].results[0].tasks],
            "returns": {one.label: [r.returns.tolist() for r in one.results] for one in comparison.contenders},
        }
        write_json(command.out / "comparison.json", {**value, "command": words, **raw})
        write_bytes(command.out / "comparison.png", comparison.picture(rows))
        print(f"picture: {command.out / 'comparison.png'}")
    if command.json:
        end_with_json(value)
    return 0


if __name__ == "__main__":
    run_as_process(main)
