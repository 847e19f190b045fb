"""`metarl evaluate RUN_DIR`: plots and prints the adaptation curve of a trained agent."""

from __future__ import annotations

import contextlib
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
    difference_between,
    success_intervals,
    success_rates,
    with_known_successes,
)
from metarl.evaluation import BLOCK_TASKS, evaluate
from metarl.intervals import Interval
from metarl.protocols import META_WORLD_EPISODES, meta_world_protocol
from metarl.registry import with_reward
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
from metarl.scripts.common import border, end_with_json, option_value, parse
from metarl.scripts.ending import run_as_process
from metarl.scripts.evaluate_shots import is_few_shot_command
from metarl.scripts.evaluate_shots import main as evaluate_few_shot
from metarl.scripts.families import (
    agent_of_run,
    check_named,
    checked_digest,
    config_of_run,
    family_of_run,
    own_agents,
)
from metarl.scripts.results_folder import results_folder
from metarl.scripts.sampling import SamplingOptions
from metarl.seeding import Streams
from metarl.tasks import REPORTED, Family, Split, split_name, split_tasks
from metarl.types import Actions, Progress, Task
from metarl.workers.choice import make_player


@dataclass(frozen=True, kw_only=True)
class EvaluateCommand(SamplingOptions):
    """Adapts a trained agent to held-out tasks and plots its return against the number of adaptation episodes.

    A few-shot run has other options: metarl evaluate RUN --help.
    """

    run_dir: Annotated[Path, tyro.conf.Positional]
    """Folder of a run, created by `metarl train`."""
    split: Split = "test"
    """Tasks: test (held out, to report), tune (held out, to choose settings by), or train (training tasks)."""
    family: str | None = None
    """Family to evaluate on; by default that of the run. Name your own module:function again."""
    agent: tuple[str, ...] = ()
    """Classes of your own agents in the runs, as module:Class."""
    protocol: Literal["curve", "metaworld"] = "curve"
    """curve: collect and adapt as in training.
    metaworld: all held-out tasks, 10 adaptation episodes, then 3 evaluated episodes with the policy's mode."""
    actions: Actions | None = None
    """sample: samples of the policy in all episodes.
    mode: its mode in evaluated episodes, samples in adaptation episodes.
    mode-only: its mode in all episodes, as a policy exported without --sample acts.
    By default sample; with --protocol metaworld, mode."""
    end_at_success: bool = False
    """Truncate an episode at its first success."""
    tasks: RowsOrNone = None
    """Number of tasks, at most all of the split; by default 40, or all with --protocol metaworld."""
    adapt_steps: RoundsOrDefault = None
    """Adaptation steps (K); by default as in training."""
    episodes: RowsOrNone = None
    """Episodes per task and collect (E); by default as in training."""
    seed: Seed = 0
    """Seed of the evaluation."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device of the agent's networks."""
    checkpoint: Path | None = None
    """Checkpoint file; by default the newest intact one."""
    reference: tuple[Path, ...] = ()
    """Folders of other runs to plot on the same axes.
    With one run of multitask and one of oracle, the share of the gap between these two is reported."""
    out: Path | None = None
    """Folder for the results; by default a new one in the run's folder."""
    json: bool = False
    """Print the results as one JSON line at the end."""


def _progress(label: str) -> Any:
    def show(done: int, total: int) -> None:
        end = "\n" if done == total else "\r" if sys.stderr.isatty() else "\n"
        if sys.stderr.isatty() or done in (0, total):
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
    """Evaluates one agent with the settings of the command line; `changes` overrides arguments of `evaluate`."""
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
        block_tasks=BLOCK_TASKS,
        on_progress=_progress(label),
        **settings | changes,
    )
    return result.first_repeats(META_WORLD_EPISODES) if command.protocol == "metaworld" else result


def _actions(command: EvaluateCommand) -> Actions:
    return command.actions or ("mode" if command.protocol == "metaworld" else "sample")


NOISE = "untrained, sampled"
"""Label of the untrained agent's first episodes under Meta-World's protocol: the success rate of noise."""


def _print(result: EvalResult, label: str, ended: bool) -> None:
    some, last = success_intervals(result), success_intervals(result, "last")
    how = f"actions: {result.actions}{', truncated at success' if ended else ''}, mean [95 % interval over tasks]"
    print(f"{label}, {counted(len(result.tasks), tasks_label(result.split))}, {how}")
    if result.diverged_episodes:
        print(f"  {result.diverged_episodes} episodes diverged and count with the worst return of their task")
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
    """The bounds in brackets; empty if they are unknown."""
    return "" if math.isnan(interval.low) else f" [{interval.low:{sign}.2f}, {interval.high:{sign}.2f}]"


def _share(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:.2f}"


def _print_classes(result: EvalResult, class_of: Callable[[Task], str]) -> None:
    """Prints a table with the last point of the curve for each task class."""
    print("after adaptation, by task class")
    print(f"  {'class':28} tasks   return   success at the last step   at any")
    for name, one in by_class(result, class_of).items():
        some, last = success_rates(one)[-1], success_rates(one, "last")[-1]
        mean = adaptation_curve(one)[-1].mean
        print(f"  {name:28} {len(one.tasks):5d} {mean:8.1f}   {_share(last):>24}   {_share(some):>6}")


def _notes(
    family: Family,
    result: EvalResult,
    others: Mapping[str, EvalResult],
    lines: Mapping[str, str],
    asked: int | None,
) -> list[str]:
    """Notes on the interpretation of the numbers."""
    notes = [f"reward: {family.reward_version}"] if family.reward_version else []
    if asked and len(result.tasks) < asked:
        notes.append(f"--tasks: got {asked}, but the split has {len(result.tasks)}, which are all evaluated")
    if result.split == "test" and split_tasks(family.distribution, "tune", 1)[0] in result.tasks:
        notes.append(f"these include tasks after the first {REPORTED} (--split tune), by which settings may be chosen")
    if NOISE in others and result.success is not None:
        some, last = success_intervals(others[NOISE])[0], success_intervals(others[NOISE], "last")[0]
        notes.append(
            f"an untrained, sampled policy has success {_rate(last)} at the last step, {_rate(some)} at any step; "
            "rates that are no higher show no skill"
        )
    if family.reward_version and set(lines.values()) != set(REFERENCES):
        notes.append(
            "add --reference RUN RUN with runs of multitask and oracle on this family: a policy without adaptation may "
            "score as high if the first observation reveals the task"
        )
    return notes


def _share_of_gap(result: EvalResult, others: Mapping[str, EvalResult], lines: Mapping[str, str]) -> Interval | None:
    """Share of the gap between the returns of multitask (0) and oracle (1) after adaptation; None unless both exist."""
    ends = {lines[label]: others[label].returns[:, -1].mean(axis=-1)[None] for label in others if label in lines}
    if set(ends) != set(REFERENCES):
        return None
    after = result.returns[:, -1].mean(axis=-1)[None]  # [1, task]
    return share_interval(after, ends["multitask"], ends["oracle"], "tasks", "mean")


def _check_references(
    run: RunConfig, agent: MetaAgent[Any], references: Mapping[str, MetaAgent[Any]], kinds: Sequence[str]
) -> None:
    """Raises ValueError if a reference has other spaces than the agent, or two references are of the same agent."""
    for path, other in references.items():
        if other.spaces != agent.spaces:
            raise ValueError(
                f"--reference: got {path} with {other.spaces.observation_size} observations, {other.spaces.action_size}"
                f" actions and horizon {other.spaces.horizon}, expected those of a run on {run.family!r}: "
                f"{agent.spaces.observation_size}, {agent.spaces.action_size}, {agent.spaces.horizon}"
            )
    twice = next((kind for kind in kinds if kinds.count(kind) > 1), None)
    if twice:
        raise ValueError(
            f"--reference: got several runs of {twice}, expected one; use metarl compare for several seeds"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if is_few_shot_command(words):
        return evaluate_few_shot(words)
    with border(option_value(words, "--agent", "")):
        command: EvaluateCommand = parse(EvaluateCommand, "metarl evaluate", words)
        check(command)
        if command.protocol != "curve" and not (command.adapt_steps is None and command.episodes is None):
            raise ValueError(
                "--protocol metaworld: the protocol sets the numbers of episodes; leave out --adapt-steps, --episodes"
            )
        own = own_agents(command.agent)
        check_named(own, [command.run_dir, *command.reference])
        run = config_of_run(command.run_dir, own)
        family = family_of_run(run, command.family)
        others_read = [(path, config_of_run(path, own)) for path in command.reference]
        digest = checked_digest(family, [(command.run_dir, run), *others_read])
        agent, progress = agent_of_run(command.run_dir, command.device, command.checkpoint, own, family)
        named: dict[str, Any] = {"own": own, "family": family}
        references = {str(path): agent_of_run(path, command.device, **named)[0] for path in command.reference}
        kinds = {str(path): other.agent for path, other in others_read}
        lines = {label: kind for label, kind in kinds.items() if kind in REFERENCES}
        _check_references(run, agent, references, list(lines.values()))
        tasks = split_tasks(family.distribution, command.split, _count(command, family))
        split = split_name(family.distribution, command.split)
        out = results_folder(command.run_dir, command.out)
        untrained = with_reward(run, family).build_agent(
            resolve_device(command.device), Streams(run.training.seed).learner
        )
        blocks = -(-len(tasks) // BLOCK_TASKS)
        player = make_player(command.choice(), family, command.family or run.family, blocks)
        with contextlib.closing(player):
            result = _evaluate(agent, "trained", family, tasks, command, run, player=player)
            others = {}
            if command.protocol == "curve":
                others["untrained"] = _evaluate(untrained, "untrained", family, tasks, command, run, player=player)
            elif result.success is not None:
                changes: dict[str, Any] = {"player": player, "adapt_steps": 0, "actions": "sample"}
                others[NOISE] = _evaluate(untrained, NOISE, family, tasks, command, run, **changes)
            for label, other in references.items():
                others[label] = _evaluate(other, label, family, tasks, command, run, player=player)
        result, *rest = with_known_successes([result, *others.values()])
        others = dict(zip(others, rest, strict=True))
        share, notes = _share_of_gap(result, others, lines), _notes(family, result, others, lines, command.tasks)
        summary = _summary(command, run, family, result, progress, notes, share)
        beyond = {label: difference_between(result, others[label]) for label in references}
        summary |= {"family_digest": digest} if digest else {}
        summary["differences_to_references"] = {label: interval_json(one) for label, one in beyond.items()}
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
    for label, one in beyond.items():
        print(f"trained minus {label}, paired: {one.mean:+9.2f}{_bounds(one, '+')}")
    for note in notes:
        print(f"note: {note}")
    print(f"picture: {out / 'adaptation.png'}")
    if command.json:
        end_with_json(summary)
    return 0


def _count(command: EvaluateCommand, family: Family) -> int | None:
    """Largest number of tasks to evaluate on; None for all."""
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
