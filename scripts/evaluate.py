"""`metarl evaluate RUN_DIR`: the adaptation curve of a trained agent, as a picture, a table and JSON."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from metarl.agent import MetaAgent
from metarl.comparison import share_interval
from metarl.config import RoundsOrDefault, RowsOrNone, Seed, check
from metarl.curves import (
    adaptation_curve,
    adaptation_differences,
    by_class,
    success_intervals,
    success_rates,
    with_known_successes,
)
from metarl.evaluation import evaluate
from metarl.intervals import Interval
from metarl.protocols import META_WORLD_EPISODES, meta_world_protocol
from metarl.report import (
    REFERENCES,
    classes_json,
    counted,
    curve_json,
    differences_json,
    first_label,
    interval_json,
    millions,
    tasks_label,
    write_report,
)
from metarl.results import EvalResult
from metarl.runs import RunConfig, resolve_device, versions
from metarl.scripts.common import border, end_with_json, parse
from metarl.scripts.ending import run_as_process
from metarl.scripts.families import agent_of_run, family_of_run
from metarl.seeding import Streams
from metarl.tasks import REPORTED, Family, Split, split_name, split_tasks
from metarl.types import Actions, Progress, Task


@dataclass(frozen=True, kw_only=True)
class EvaluateCommand:
    """Adapts a trained agent to tasks and draws its adaptation curve."""

    run_dir: Annotated[Path, tyro.conf.Positional]
    """Folder that `metarl train` made."""
    split: Split = "test"
    """Held-out tasks to report on; tune: held-out tasks to choose settings by; or training tasks."""
    family: str | None = None
    """Family to evaluate on; the run's own by default (name it again if it is your own module:function)."""
    protocol: Literal["curve", "metaworld"] = "curve"
    """How tasks are tried: collects as in training, or as Meta-World does: 10 episodes to adapt, then 3 that count, in
    every held-out task, with the mode of the policy."""
    actions: Actions | None = None
    """Actions of the episodes that count: sampled from the policy, or its mode. The episodes to adapt from are always
    sampled. By default sample, with --protocol metaworld mode."""
    end_at_success: bool = False
    """Cut an episode at its first success."""
    tasks: RowsOrNone = None
    """Number of tasks, the whole set where it is smaller; 40 by default, with --protocol metaworld all."""
    adapt_steps: RoundsOrDefault = None
    """Adaptation steps (K); as trained by default."""
    episodes: RowsOrNone = None
    """Episodes per task and collect (E); as trained by default."""
    seed: Seed = 0
    """Seed of the evaluation."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the agent computes."""
    checkpoint: Path | None = None
    """Checkpoint file; the newest whole one by default."""
    reference: tuple[Path, ...] = ()
    """Further runs to draw on the same axes. Those of multitask and oracle become lines; with both, the share of the
    gap between them is reported."""
    out: Path | None = None
    """Folder for the results; a new one inside the run by default."""
    json: bool = False
    """End stdout with one line of JSON."""


def _out_dir(command: EvaluateCommand) -> Path:
    """Where the results go; earlier ones are not overwritten."""
    if command.out is not None:
        if (command.out / "evaluation.json").exists() or (command.out / "config.json").exists():
            raise ValueError(f"--out: got {command.out}, which holds results already; expected another folder")
        return command.out
    candidates = (command.run_dir / f"evaluation{suffix}" for suffix in ("", *(f"-{i}" for i in range(2, 10_000))))
    return next(path for path in candidates if not path.exists())


def _progress(label: str) -> Any:
    def show(done: int, total: int) -> None:
        end = "\n" if done == total else "\r" if sys.stderr.isatty() else "\n"
        if sys.stderr.isatty() or done == total:
            print(f"{label}: {done} of {total} collects", end=end, file=sys.stderr, flush=True)

    return show


def _evaluate(
    agent: MetaAgent[Any],
    label: str,
    family: Family,
    tasks: Sequence[Task],
    command: EvaluateCommand,
    run: RunConfig,
    **changes: Any,
) -> EvalResult:
    """Evaluates one agent as the command line says; `changes` are further arguments of `evaluate`."""
    adapt_steps, episodes = command.adapt_steps, command.episodes or run.training.episodes
    if command.protocol == "metaworld":
        adapt_steps, episodes = meta_world_protocol(agent)
    settings: dict[str, Any] = {"adapt_steps": adapt_steps, "episodes": episodes, "actions": _actions(command)}
    result = evaluate(
        agent,
        family,
        tasks,
        Streams.for_evaluation(command.seed),
        split=split_name(family.distribution, command.split),
        horizon=run.spaces.horizon,
        end_at_success=command.end_at_success,
        on_progress=_progress(label),
        **settings | changes,
    )
    return result.first_repeats(META_WORLD_EPISODES) if command.protocol == "metaworld" else result


def _actions(command: EvaluateCommand) -> Actions:
    return command.actions or ("mode" if command.protocol == "metaworld" else "sample")


NOISE = "untrained, sampled"
"""Label of the untrained agent's first episodes under Meta-World's protocol: what noise alone earns."""


def _print(result: EvalResult, label: str, ended: bool) -> None:
    some, last = success_intervals(result), success_intervals(result, "last")
    how = f"actions: {result.actions}{', ended at success' if ended else ''}, mean [95 % interval over tasks]"
    print(f"{label}, {counted(len(result.tasks), tasks_label(result.split))}, {how}")
    if result.diverged_episodes:
        print(f"  {result.diverged_episodes} episodes blew up and count as the worst of their task")
    first, several = first_label(result.adapts_within_episodes), len(result.episodes) > 1
    for k, point in enumerate(adaptation_curve(result)):
        rate = "" if not some else f"   success {_rate(last[k])} at the last step, {_rate(some[k])} at any"
        name = f"   ({first})" if several and not k else ""
        print(f"  k = {k}, {counted(result.episodes[k], 'episodes', 4)}: {point.mean:9.2f}{_bounds(point)}{rate}{name}")
    for k, point in enumerate(adaptation_differences(result), start=1):
        print(f"  k = {k} minus {first}, paired: {point.mean:+9.2f}{_bounds(point, '+')}")


def _rate(share: Interval) -> str:
    return f"{share.mean:.2f}{_bounds(share)}"


def _bounds(interval: Interval, sign: str = "") -> str:
    """The bounds in brackets; nothing where the data cannot tell."""
    return "" if math.isnan(interval.low) else f" [{interval.low:{sign}.2f}, {interval.high:{sign}.2f}]"


def _share(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:.2f}"


def _print_classes(result: EvalResult, class_of: Callable[[Task], str]) -> None:
    """A table: the last point of the curve for each class of tasks."""
    print("after adaptation, class by class")
    print(f"  {'class':28} tasks   return   success at the last step   at any")
    for name, one in by_class(result, class_of).items():
        some, last = success_rates(one)[-1], success_rates(one, "last")[-1]
        mean = adaptation_curve(one)[-1].mean
        print(f"  {name:28} {len(one.tasks):5d} {mean:8.1f}   {_share(last):>24}   {_share(some):>6}")


def _notes(family: Family, result: EvalResult, others: Mapping[str, EvalResult], lines: Mapping[str, str]) -> list[str]:
    """What a reader has to know beside the numbers."""
    notes = [f"reward: {family.reward_version}"] if family.reward_version else []
    if result.split == "test" and split_tasks(family.distribution, "tune", 1)[0] in result.tasks:
        notes.append(f"tasks after the first {REPORTED} are among these; settings may have been chosen by them")
    if NOISE in others and result.success is not None:
        some, last = success_intervals(others[NOISE])[0], success_intervals(others[NOISE], "last")[0]
        notes.append(
            f"noise alone (an untrained policy) earns success {_rate(last)} at the last step, {_rate(some)} at any: "
            "success at any step that is no higher shows no skill"
        )
    if family.reward_version and set(lines.values()) != set(REFERENCES):
        notes.append(
            "add --reference RUN RUN of multitask and oracle on this family: a policy that is told nothing may score "
            "as high, where the first observation shows the task"
        )
    return notes


def _share_of_gap(result: EvalResult, others: Mapping[str, EvalResult], lines: Mapping[str, str]) -> Interval | None:
    """The share of the gap between the two references at the last point; None unless both are there."""
    ends = {lines[label]: others[label].returns[:, -1].mean(axis=-1)[None] for label in others if label in lines}
    if set(ends) != set(REFERENCES):
        return None
    after = result.returns[:, -1].mean(axis=-1)[None]  # [1, task]
    return share_interval(after, ends["multitask"], ends["oracle"], "tasks", "mean")


def _check_references(
    run: RunConfig, agent: MetaAgent[Any], references: Mapping[str, MetaAgent[Any]], kinds: Sequence[str]
) -> None:
    """Raises ValueError where a reference plays other environments, or one kind of line is there twice."""
    for path, other in references.items():
        if other.spaces != agent.spaces:
            raise ValueError(
                f"--reference: got {path} with {other.spaces.observation_size} observations, {other.spaces.action_size}"
                f" actions and horizon {other.spaces.horizon}, expected those of a run on {run.family!r}: "
                f"{agent.spaces.observation_size}, {agent.spaces.action_size}, {agent.spaces.horizon}"
            )
    twice = next((kind for kind in kinds if kinds.count(kind) > 1), None)
    if twice:
        raise ValueError(f"--reference: got several runs of {twice}, expected one of each; metarl compare takes seeds")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    with border():
        command: EvaluateCommand = parse(EvaluateCommand, "metarl evaluate", words)
        check(command)
        if command.protocol != "curve" and not (command.adapt_steps is None and command.episodes is None):
            raise ValueError(
                "--protocol metaworld: it says how many episodes there are; leave out --adapt-steps, --episodes"
            )
        run = RunConfig.read(command.run_dir)
        agent, progress = agent_of_run(command.run_dir, command.device, command.checkpoint)
        family = family_of_run(run, command.family)
        references = {str(path): agent_of_run(path, command.device)[0] for path in command.reference}
        kinds = {str(path): RunConfig.read(path).agent for path in command.reference}
        lines = {label: kind for label, kind in kinds.items() if kind in REFERENCES}
        _check_references(run, agent, references, list(lines.values()))
        tasks = split_tasks(family.distribution, command.split, _count(command, family))
        split = split_name(family.distribution, command.split)
        out = _out_dir(command)
        untrained = run.build_agent(resolve_device(command.device), Streams(run.training.seed).learner)
        result = _evaluate(agent, "trained", family, tasks, command, run)
        others = {}
        if command.protocol == "curve":
            others["untrained"] = _evaluate(untrained, "untrained", family, tasks, command, run)
        elif result.success is not None:
            others[NOISE] = _evaluate(untrained, NOISE, family, tasks, command, run, adapt_steps=0, actions="sample")
        for label, other in references.items():
            others[label] = _evaluate(other, label, family, tasks, command, run)
        result, *rest = with_known_successes([result, *others.values()])
        others = dict(zip(others, rest, strict=True))
        share, notes = _share_of_gap(result, others, lines), _notes(family, result, others, lines)
        summary = _summary(command, run, family, result, progress, notes, share)
        title = f"{run.agent} on {family.name} after {millions(progress.env_steps)} steps, {tasks_label(split)}"
        title += f", actions: {result.actions}"
        write_report(out, {**summary, "command": words, "seed": command.seed}, result, others, title, lines)
    _print(result, "trained", command.end_at_success)
    if share:
        print(f"  share of the gap between multitask and oracle: {_rate(share)}")
    if family.class_of:
        _print_classes(result, family.class_of)
    for label, compared in others.items():
        _print(compared, REFERENCES.get(lines.get(label, ""), label), command.end_at_success)
    for note in notes:
        print(f"note: {note}")
    print(f"picture: {out / 'adaptation.png'}")
    if command.json:
        end_with_json(summary)
    return 0


def _count(command: EvaluateCommand, family: Family) -> int | None:
    """How many tasks to evaluate on at most; None for all."""
    return command.tasks or (REPORTED if command.protocol == "curve" else None)


def _summary(
    command: EvaluateCommand,
    run: RunConfig,
    family: Family,
    result: EvalResult,
    progress: Progress,
    notes: list[str],
    share: Interval | None,
) -> dict[str, Any]:
    classes = {"classes": classes_json(result, family.class_of)} if family.class_of else {}
    return {
        "agent": run.agent,
        "family": family.name,
        "split": result.split,
        "tasks": len(result.tasks),
        "protocol": command.protocol,
        "actions": result.actions,
        "end_at_success": command.end_at_success,
        "first_point": first_label(result.adapts_within_episodes),
        "iteration": progress.iteration,
        "env_steps": progress.env_steps,
        "curve": curve_json(result),
        "differences": differences_json(result),
        "share_of_gap": interval_json(share) if share else None,
        "diverged_episodes": result.diverged_episodes,
        "reward_version": family.reward_version or None,
        "notes": notes,
        **classes,
        "versions": versions(),
    }


if __name__ == "__main__":
    run_as_process(main)
