"""`metarl evaluate RUN_DIR` for a few-shot run: error or accuracy against shots, and against steps."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import numpy as np
import tyro

from metarl.config import RoundsOrDefault, RowsOrNone, Seed, check
from metarl.few_shot.evaluation import ShotResult, evaluate_shots
from metarl.few_shot.family import FewShotFamily
from metarl.few_shot.learner import FewShotLearner
from metarl.few_shot.oracle import evaluate_oracle
from metarl.few_shot.report import (
    NOT_ADAPTING,
    POOLED,
    PRINTED_STEPS,
    Contender,
    bounds,
    contender_json,
    curve_json,
    difference,
    oracle_label,
    score_intervals,
    write_shot_report,
)
from metarl.few_shot.run import FewShotRun, is_few_shot
from metarl.finite import NotFiniteError
from metarl.registry import LEARNERS, find_family, is_own_code
from metarl.report import counted, interval_json, tasks_label
from metarl.run_config import own_agent_of, read_config
from metarl.runs import resolve_device, versions
from metarl.scripts.common import border, end_with_json, option_value, parse
from metarl.scripts.families import OwnAgents, agent_of_run, check_named, own_agents
from metarl.scripts.results_folder import results_folder
from metarl.seeding import Streams
from metarl.tasks import Split, split_name, split_tasks

GRID = (0, 1, 2, 3, 5, 10, 20, 50, 100)
"""Numbers of shots at which the curve has points, up to that of training, which is always one."""
MOST_STEPS = 10
"""Steps of the second curve."""
QUERIES = 100
"""Queries of a task without classes."""
QUERIES_OF_CLASS = 15


@dataclass(frozen=True, kw_only=True)
class EvaluateShotsCommand:
    """Adapts a trained few-shot learner to held-out tasks, and plots error or accuracy against the number of shots."""

    run_dir: Annotated[Path, tyro.conf.Positional]
    """Folder of a few-shot run, created by `metarl train`."""
    split: Split = "test"
    """Tasks: test (held out, to report), tune (held out, to choose settings by), or train (training tasks)."""
    family: str | None = None
    """Family to evaluate on; by default that of the run. Name your own module:function again."""
    agent: tuple[str, ...] = ()
    """Classes of your own learners in the runs, as module:Class."""
    tasks: RowsOrNone = None
    """Number of tasks, at most all of the split; by default those that tables report on."""
    shots: tuple[int, ...] = ()
    """Numbers of shots of the curve; by default 0, 1, 2, 3, 5, ... up to that of training."""
    adapt_steps: RoundsOrDefault = None
    """Most steps of the curve over steps, for learners that adapt in steps; by default 10, or more as in training."""
    queries: RowsOrNone = None
    """Queries per task (default 100), or per class (default 15, or as many as there are)."""
    seed: Seed = 0
    """Seed of the evaluation."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device of the learner's networks."""
    checkpoint: Path | None = None
    """Checkpoint file; by default the newest intact one."""
    reference: tuple[Path, ...] = ()
    """Folders of other few-shot runs on this family, compared on the same examples.
    A run of pooled is also drawn as a line, without adaptation."""
    oracle: bool = True
    """Fit a network to many examples of each task, as the score that adaptation could reach."""
    out: Path | None = None
    """Folder for the results; by default a new one in the run's folder."""
    json: bool = False
    """Print the results as one JSON line at the end."""


def is_few_shot_command(words: Sequence[str]) -> bool:
    """Whether the first word that names a run's folder names a few-shot run."""
    for word in words:
        with contextlib.suppress(OSError, ValueError):  # the word may be no path, or no run; `parse` says so later
            if not word.startswith("-") and (Path(word) / "config.json").is_file():
                return is_few_shot(read_config(Path(word))[1])
    return False


def few_shot_family_of_run(run: FewShotRun, named: str | None) -> FewShotFamily:
    """The run's family, or the one named on the command line.

    Raises:
        ValueError: It is the user's own code and not named again, no few-shot family, or has other sizes.
    """
    if named is None and is_own_code(run.family):
        raise ValueError(
            f"--family: got none, but the run's family {run.family!r} is code of your own; name it again with --family"
        )
    try:
        found = find_family(named or run.family)
    except ValueError as error:
        if named is None and ":" not in run.family:
            raise ValueError(
                f"--family: got none, and the run's family {run.family!r} is not registered; name it as module:function"
            ) from error
        raise
    if not isinstance(found, FewShotFamily):
        raise ValueError(f"--family: got {named or run.family!r}, a family of environments, expected a few-shot family")
    return found.with_finite_train_set(run.training.train_tasks)


def _shots(command: EvaluateShotsCommand, family: FewShotFamily) -> tuple[int, ...]:
    """Numbers of shots of the curve, ascending, with 0 and that of training.

    Raises:
        ValueError: A number is below 0, or more than a task has.
    """
    own = family.spaces.shots
    given = command.shots or tuple(n for n in GRID if n < own)
    if wrong := [n for n in given if not 0 <= n <= family.most_shots]:
        raise ValueError(f"--shots: got {wrong[0]}, expected 0 to {family.most_shots:,}, the shots of a task")
    return tuple(sorted({0, own, *given}))


def _queries(command: EvaluateShotsCommand, family: FewShotFamily, shots: Sequence[int]) -> int:
    if command.queries:
        return command.queries
    if not family.spaces.classification:
        return QUERIES
    return max(1, min(QUERIES_OF_CLASS, family.most_shots + family.spaces.queries - shots[-1]))


class ShotsEvaluation:
    """The evaluation of several learners on the same examples.

    Args:
        command: The options; its `run_dir` is not read.
        family: The family.
        keep_going: Whether points at which an adaptation diverges are NaN, and do not end the evaluation.
    """

    def __init__(self, command: EvaluateShotsCommand, family: FewShotFamily, keep_going: bool = False) -> None:
        self.command, self.family, self.keep_going = command, family, keep_going
        self.tasks = split_tasks(family.distribution, command.split, command.tasks or reported(family))
        self.shots = _shots(command, family)
        self.queries = _queries(command, family, self.shots)
        self.split = split_name(family.distribution, command.split)
        self._own = self.shots.index(family.spaces.shots)

    def contender(
        self, label: str, name: str, learner: FewShotLearner[Any], also_steps: Sequence[int] = ()
    ) -> Contender:
        """Evaluates a learner.

        Args:
            label: Label in tables and pictures.
            name: Name of the learner.
            learner: The learner.
            also_steps: Further numbers of steps of the curve over steps.

        Raises:
            ValueError: The adaptation diverges, unless the evaluation keeps going.
        """
        over_shots = self._result(label, learner, self.shots)
        if learner.adapts_in_steps:
            own = own_steps(learner)
            most = max(MOST_STEPS, own) if self.command.adapt_steps is None else self.command.adapt_steps
            grid = {n for n in range(most + 1) if n <= MOST_STEPS or n % 5 == 0 or n in (own, most)}
            steps = tuple(sorted(grid | set(also_steps)))
            full = (self.family.spaces.shots,) * len(steps)
            over_steps = self._result(f"{label}, steps", learner, full, steps)
            return Contender(label, name, over_shots, over_steps, self._own, own)
        return Contender(label, name, over_shots, None, self._own)

    def _result(
        self, label: str, learner: FewShotLearner[Any], shots: Sequence[int], steps: Sequence[int] | None = None
    ) -> ShotResult:
        try:
            return self._scored(label, learner, shots, steps)
        except NotFiniteError as error:
            if not self.keep_going:
                option = "smaller --shots" if steps is None else "fewer --adapt-steps"
                raise ValueError(f"{label}: {error}; the adaptation diverges, use {option}, or train again") from error
        points = [(n, None if steps is None else steps[k]) for k, n in enumerate(shots)]
        columns = [self._point(learner, n, step) for n, step in points]
        known = next((one for one in columns if one is not None), None)
        if known is None:
            raise ValueError(f"{label}: the predictions are not finite, with or without adaptation; train again")
        lost = ", ".join(
            str(n if step is None else step) for (n, step), one in zip(points, columns, strict=True) if not one
        )
        print(f"{label}: the adaptation diverges at {lost}", file=sys.stderr, flush=True)
        unknown = np.full(len(self.tasks), np.nan)
        found = np.stack([unknown if one is None else one.scores[:, 0] for one in columns], axis=1)
        return replace(known, scores=found, shots=tuple(shots), steps=None if steps is None else tuple(steps))

    def _point(self, learner: FewShotLearner[Any], shots: int, steps: int | None) -> ShotResult | None:
        """The scores of one point; None if the adaptation diverges there."""
        try:
            return self._scored("", learner, (shots,), None if steps is None else (steps,))
        except NotFiniteError:
            return None

    def _scored(
        self, label: str, learner: FewShotLearner[Any], shots: Sequence[int], steps: Sequence[int] | None
    ) -> ShotResult:
        """The scores of all points, with a line of progress if there is a label."""
        streams = Streams.for_evaluation(self.command.seed)
        how: dict[str, Any] = {"queries": self.queries, "most": self.shots[-1], "split": self.split}
        how |= {"on_progress": _progress(label)} if label else {}
        return evaluate_shots(learner, self.family, self.tasks, streams, shots=shots, steps=steps, **how)

    def oracle(self, device: str) -> ShotResult:
        """Fits the oracle."""
        return evaluate_oracle(
            self.family,
            self.tasks,
            Streams.for_evaluation(self.command.seed, 1),
            queries=self.queries,
            split=self.split,
            device=resolve_device(device),
            on_progress=_progress("oracle"),
        )


def _progress(label: str) -> Any:
    def show(done: int, total: int) -> None:
        live = sys.stderr.isatty()
        if live or done == total:
            end = "\r" if live and done < total else "\n"
            print(f"{label}: {done} of {total} tasks", end=end, file=sys.stderr, flush=True)

    return show


def main(words: Sequence[str]) -> int:
    """Runs the command; returns its exit code."""
    with border(option_value(words, "--agent", "")):
        command: EvaluateShotsCommand = parse(EvaluateShotsCommand, "metarl evaluate RUN", words)
        check(command)
        own = own_agents(command.agent, LEARNERS)
        check_named(own, [command.run_dir, *command.reference])
        run = _read(command.run_dir, own)
        family = few_shot_family_of_run(run, command.family)
        others = {str(path): _read(path, own) for path in command.reference}
        _check_references(run, others)
        learner, progress = agent_of_run(command.run_dir, command.device, command.checkpoint, own)
        evaluation = ShotsEvaluation(command, family)
        out = results_folder(command.run_dir, command.out)
        contenders = [evaluation.contender(run.agent, run.agent, cast(Any, learner))]
        for path, other in others.items():
            loaded, _ = agent_of_run(Path(path), command.device, own=own)
            label = other.agent if [run.agent, *(o.agent for o in others.values())].count(other.agent) == 1 else path
            contenders.append(evaluation.contender(label, other.agent, cast(Any, loaded)))
        oracle = evaluation.oracle(command.device) if command.oracle else None
        differences = _differences(contenders)
        summary = {
            "agent": run.agent,
            "family": run.family if command.family is None else command.family,
            "split": evaluation.split,
            "tasks": len(evaluation.tasks),
            "score": family.spaces.score,
            "queries": evaluation.queries,
            "iteration": progress.iteration,
            "examples": progress.env_steps,
            "learners": [contender_json(one) for one in contenders],
            "differences": {label: interval_json(found) for label, found in differences.items()},
            "oracle": curve_json(oracle)[0] if oracle else None,
            "versions": versions(),
        }
        title = f"{run.agent} on {run.family} after {progress.iteration:,} iterations"
        write_shot_report(out, {**summary, "command": list(words), "seed": command.seed}, contenders, oracle, title)
    _print(contenders, differences, oracle, evaluation)
    print(f"picture: {out / 'adaptation.png'}")
    if command.json:
        end_with_json(summary)
    return 0


def _read(run_dir: Path, own: OwnAgents) -> FewShotRun:
    """The configuration of a few-shot run whose learner is registered or named on the command line."""
    return FewShotRun.read(run_dir, own.get(own_agent_of(run_dir)))


def own_steps(learner: FewShotLearner[Any]) -> int:
    """Steps of adaptation of a learner that adapts in steps, as in its training."""
    return int(getattr(learner.config, "inner_steps", 1))


def reported(family: FewShotFamily) -> int:
    """Number of held-out tasks that tables report on."""
    return int(getattr(family.distribution, "reported", 40))


def _check_references(run: FewShotRun, others: dict[str, FewShotRun]) -> None:
    """Raises ValueError if a reference was trained on other examples."""
    for path, other in others.items():
        if other.family.partition(":")[0] != run.family.partition(":")[0] or other.spaces != run.spaces:
            raise ValueError(f"--reference: got {path} on {other.family!r}, expected a run on {run.family!r}")


def _differences(contenders: Sequence[Contender]) -> dict[str, Any]:
    """The first learner's score minus the others', paired by task; pooled also without adaptation."""
    first, found = contenders[0], {}
    for other in contenders[1:]:
        found[other.label] = difference(first, other.adapted)
        if other.learner == POOLED:
            found[NOT_ADAPTING] = difference(first, other.over_shots.scores[:, 0])
    found["before adaptation"] = difference(first, first.over_shots.scores[:, 0])
    return found


def _print(
    contenders: Sequence[Contender], differences: dict[str, Any], oracle: ShotResult | None, evaluation: ShotsEvaluation
) -> None:
    """Prints curves and differences."""
    first = contenders[0].over_shots
    digits = 3
    per = " per class" if first.score == "accuracy" else ""
    label = tasks_label(first.split)
    queries = f"{evaluation.queries} queries{per}"
    print(f"{first.score} of {len(first.tasks)} {label}, {queries}, mean [95 % interval over tasks]")
    for one in contenders:
        print(one.label)
        for n, point in zip(one.over_shots.shots, score_intervals(one.over_shots), strict=True):
            print(f"  {counted(n, 'shots', 4)}{per}: {point.mean:8.{digits}f}{bounds(point, digits)}")
        if one.over_steps and one.over_steps.steps:
            shots = f"{counted(one.over_steps.shots[0], 'shots')}{per}"
            for n, point in zip(one.over_steps.steps, score_intervals(one.over_steps), strict=True):
                if n in PRINTED_STEPS or n in (one.own_steps, one.over_steps.steps[-1]):
                    print(f"  {counted(n, 'steps', 4)} on {shots}: {point.mean:8.{digits}f}{bounds(point, digits)}")
    if oracle:
        point = score_intervals(oracle)[0]
        print(f"oracle, {oracle_label(oracle)}: {point.mean:.{digits}f}{bounds(point, digits)}")
    for name, found in differences.items():
        print(f"{contenders[0].label} minus {name}, paired: {found.mean:+.{digits}f}{bounds(found, digits, '+')}")
