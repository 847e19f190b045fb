"""`metarl evaluate RUN_DIR`: the adaptation curve of a trained agent, as a picture, a table and JSON."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from metarl.agent import MetaAgent
from metarl.checkpoint import Progress
from metarl.config import Count, Whole, check
from metarl.evaluation import (
    META_WORLD_EPISODES,
    Interval,
    adaptation_curve,
    adaptation_differences,
    by_class,
    evaluate,
    meta_world_protocol,
    success_intervals,
    success_rates,
)
from metarl.report import classes_json, curve_json, differences_json, tasks_label, write_report
from metarl.runs import RunConfig, resolve_device, versions
from metarl.scripts.common import border, end_with_json, parse
from metarl.scripts.families import agent_of_run, family_of_run
from metarl.seeding import Streams
from metarl.tasks import Family, split_tasks
from metarl.types import EvalResult, Task


@dataclass(frozen=True, kw_only=True)
class EvaluateCommand:
    """Adapts a trained agent to tasks and draws its adaptation curve."""

    run_dir: Annotated[Path, tyro.conf.Positional]
    """Folder that `metarl train` made."""
    split: Literal["test", "train"] = "test"
    """Held-out tasks, or training tasks."""
    family: str | None = None
    """Family to evaluate on; the run's own by default (name it again if it is your own module:function)."""
    protocol: Literal["curve", "metaworld"] = "curve"
    """How tasks are tried: collects as in training, or as Meta-World does: 10 episodes to adapt, then 3 that count, in
    every held-out task."""
    tasks: Count | None = None
    """Number of tasks, the whole set where it is smaller; 40 by default, with a protocol as many as are held out."""
    adapt_steps: Whole | None = None
    """Adaptation steps (K); as trained by default."""
    episodes: Count | None = None
    """Episodes per task and collect (E); as trained by default."""
    seed: Whole = 0
    """Seed of the evaluation."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the agent computes."""
    checkpoint: Path | None = None
    """Checkpoint file; the newest whole one by default."""
    reference: tuple[Path, ...] = ()
    """Further runs to draw on the same axes."""
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
    split: str,
    command: EvaluateCommand,
    run: RunConfig,
) -> EvalResult:
    adapt_steps, episodes = command.adapt_steps, command.episodes or run.training.episodes
    if command.protocol == "metaworld":
        adapt_steps, episodes = meta_world_protocol(agent)
    result = evaluate(
        agent,
        family,
        tasks,
        Streams.for_evaluation(command.seed),
        split=split,
        adapt_steps=adapt_steps,
        episodes=episodes,
        horizon=run.spaces.horizon,
        on_progress=_progress(label),
    )
    return result.first_repeats(META_WORLD_EPISODES) if command.protocol == "metaworld" else result


def _print(result: EvalResult, label: str) -> None:
    some, last = success_intervals(result), success_intervals(result, "last")
    print(f"{label}, {len(result.tasks)} {tasks_label(result.split)}, mean [95 % bootstrap interval over tasks]")
    for k, point in enumerate(adaptation_curve(result)):
        rate = "" if not some else f"   success {_rate(some[k])} at any step, {_rate(last[k])} at the last"
        print(
            f"  k = {k}, {result.episodes[k]:4d} episodes: {point.mean:9.2f} [{point.low:.2f}, {point.high:.2f}]{rate}"
        )
    for k, point in enumerate(adaptation_differences(result), start=1):
        print(f"  k = {k} minus k = 0, paired: {point.mean:+9.2f} [{point.low:+.2f}, {point.high:+.2f}]")


def _rate(share: Interval) -> str:
    return f"{share.mean:.2f} [{share.low:.2f}, {share.high:.2f}]"


def _share(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:.2f}"


def _print_classes(result: EvalResult, class_of: Callable[[Task], str]) -> None:
    """A table: what each class of tasks came to after adaptation."""
    print("after adaptation, class by class")
    print(f"  {'class':28} tasks   return   success at any step   at the last")
    for name, one in by_class(result, class_of).items():
        some, last = success_rates(one)[-1], success_rates(one, "last")[-1]
        mean = adaptation_curve(one)[-1].mean
        print(f"  {name:28} {len(one.tasks):5d} {mean:8.1f}   {_share(some):>19}   {_share(last):>11}")


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
        tasks = split_tasks(family.distribution, command.split, _count(command, family))
        split = command.split if family.distribution.splits else "train"
        out = _out_dir(command)
        untrained = run.build_agent(resolve_device(command.device), Streams(run.training.seed).learner)
        result = _evaluate(agent, "trained", family, tasks, split, command, run)
        others = {}
        if command.protocol == "curve":
            others["untrained"] = _evaluate(untrained, "untrained", family, tasks, split, command, run)
        for label, other in references.items():
            others[label] = _evaluate(other, label, family, tasks, split, command, run)
        summary = _summary(run, family, result, progress)
        title = f"{run.agent} on {family.name} after {progress.env_steps / 1e6:.2f} M steps, {tasks_label(split)}"
        write_report(out, {**summary, "command": words, "seed": command.seed}, result, others, title)
    _print(result, "trained")
    if family.class_of:
        _print_classes(result, family.class_of)
    for label, compared in others.items():
        _print(compared, label)
    print(f"picture: {out / 'adaptation.png'}")
    if command.json:
        end_with_json(summary)
    return 0


def _count(command: EvaluateCommand, family: Family) -> int:
    """How many tasks to evaluate on at most."""
    return command.tasks or (40 if command.protocol == "curve" else len(family.distribution.held_out()))


def _summary(run: RunConfig, family: Family, result: EvalResult, progress: Progress) -> dict[str, Any]:
    classes = {"classes": classes_json(result, family.class_of)} if family.class_of else {}
    return {
        "agent": run.agent,
        "family": family.name,
        "split": result.split,
        "tasks": len(result.tasks),
        "iteration": progress.iteration,
        "env_steps": progress.env_steps,
        "curve": curve_json(result),
        "differences": differences_json(result),
        **classes,
        "versions": versions(),
    }


if __name__ == "__main__":
    raise SystemExit(main())
