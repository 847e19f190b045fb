"""A study from its first trial to its report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from metarl.files import remove_partial
from metarl.run_setup import RunSettings
from metarl.scripts.display import clock
from metarl.scripts.ending import StopRequest
from metarl.scripts.tuning.confirm import Confirmation, Plan, confirm
from metarl.scripts.tuning.page import write_report
from metarl.scripts.tuning.progress import Progress
from metarl.scripts.tuning.ranges import read_ranges
from metarl.scripts.tuning.record import Record
from metarl.scripts.tuning.result import Result
from metarl.scripts.tuning.search import AllFailedError, Machine, Search
from metarl.scripts.tuning.study import DATABASE, TuningStudy, create_study, open_study


@dataclass(frozen=True)
class Outcome:
    """The end of a start of a study.

    Args:
        result: The study as it stands.
        unfinished: Whether trials, or the confirmation, are left.
        failure: Line on a study whose first trials all failed; empty otherwise.
    """

    result: Result
    unfinished: bool
    failure: str = ""


def tune(
    record: Record,
    base: RunSettings,
    out: Path,
    *,
    saved: bool,
    trials: int,
    jobs: int,
    seconds: float,
    confirmed: int,
    go_on: str,
    stop: StopRequest,
) -> Outcome:
    """Runs the trials that are left and the confirmation, and writes the report.

    Args:
        record: The record of the study.
        base: The settings of `metarl train AGENT FAMILY` without further options.
        out: Folder of the study, locked by the caller.
        saved: Whether the study exists.
        trials: Number of trials of the whole study.
        jobs: Trials at once.
        seconds: Seconds after which no trial goes on; 0 for no limit.
        confirmed: Fresh seeds of the confirmation; 0 for none.
        go_on: Command that goes on with the study.
        stop: Whether Ctrl-C was pressed.

    Raises:
        ValueError: The study cannot be read, or a training of the confirmation failed.
    """
    varied = read_ranges(record.vary, record.settings)
    remove_partial(out)
    study = (open_study if saved else create_study)(out / DATABASE, record, varied)
    try:
        return _run(study, base, out, trials, jobs, seconds, confirmed, go_on, stop)
    finally:
        study.close()


def _run(
    study: TuningStudy,
    base: RunSettings,
    out: Path,
    trials: int,
    jobs: int,
    seconds: float,
    confirmed: int,
    go_on: str,
    stop: StopRequest,
) -> Outcome:
    record, machine = study.record, Machine(jobs, base)
    progress = Progress(stop, trials, record.iterations, study.tried())
    progress.line(f"{record.agent} on {record.family}: {trials} trials, {jobs} at once, in {out}")
    progress.line(f"varied: {'  '.join(record.vary)}")
    search = Search(
        study,
        out,
        machine,
        trials=trials,
        seconds=seconds,
        stop=lambda: stop.requested,
        ended=progress.ended,
        tick=progress.tick,
    )
    failure = ""
    try:
        search.run()
    except AllFailedError as error:
        failure = f"{error}: {next(one.error for one in reversed(study.tried()) if one.error)}"
    finally:
        progress.close()
        result = Result(record, study.varied, tuple(study.tried()), base)
        left = len(result.trials) < trials or any(one.state == "unfinished" for one in result.trials)
        write_report(out, result, go_on if left and not failure else "")
    if failure or left or not confirmed:
        return Outcome(result, left, failure)
    confirmation, wanted = _confirmation(result, out, machine, confirmed, stop, progress), _plan(result, out, confirmed)
    result = Result(record, study.varied, result.trials, base, confirmation)
    left = wanted is not None and confirmation is None
    write_report(out, result, go_on if left else "")
    return Outcome(result, left)


def _plan(result: Result, out: Path, count: int) -> Plan | None:
    """The confirmation of a study; None if the preset is the best, or has no score."""
    best = result.best
    if best is None or result.preset is None or result.settings(best) == result.record.settings:
        return None
    return Plan(result.record, out, best.number, result.settings(best), count)


def _confirmation(
    result: Result, out: Path, machine: Machine, count: int, stop: StopRequest, progress: Progress
) -> Confirmation | None:
    plan = _plan(result, out, count)
    if plan is None:
        progress.line("confirmation: nothing to confirm, since no trial beat the preset")
        return None
    trainings = len(plan.runs)
    one_each = [one.seconds for one in result.complete if one.seconds]
    each = sum(one_each) / len(one_each) / result.record.seeds if one_each else 0.0
    about = clock(each * -(-trainings // machine.jobs))
    progress.line(f"confirmation: {trainings} trainings with the fresh seeds {plan.seeds}, about {about}")
    try:
        return confirm(
            plan,
            machine,
            lambda: stop.requested,
            lambda ended: progress.confirming(ended, trainings),
        )
    finally:
        progress.close()
