"""A run as a generator: reports, watchers, and every way to end it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from metarl.checkpoint import list_checkpoints
from metarl.metrics_log import read_log
from metarl.registry import make_family
from metarl.run_setup import RunSettings, set_up, starting_settings
from metarl.runs import RunConfig
from metarl.session import run_session
from metarl.tasks import Family
from metarl.training import IterationReport
from metarl.watch import RunStart

SMALL = {"tasks": 2, "episodes": 2, "horizon": 5, "eval_every": 2, "eval_tasks": 2, "checkpoint_every": 100}


@pytest.fixture
def run() -> tuple[RunConfig, Family]:
    family = make_family("point-robot")
    start = starting_settings("reptile", "point-robot", family)
    training = replace(start.training, iterations=4, **SMALL)
    config, family, _ = set_up("reptile", "point-robot", family, RunSettings(training=training, agent=start.agent))
    return config, family


class Notes:
    """A watcher that keeps what it sees; raises when it is told to."""

    def __init__(self, broken: str = "") -> None:
        self.seen: list[Any] = []
        self._broken = broken

    def _see(self, what: str, value: Any) -> None:
        self.seen.append(value)
        if what == self._broken:
            raise RuntimeError(f"broken {what}")

    def start(self, start: RunStart) -> None:
        self._see("start", start)

    def iteration(self, report: IterationReport) -> None:
        self._see("iteration", report.progress.iteration)

    def close(self) -> None:
        self._see("close", "closed")


def stems(out: Path) -> list[int]:
    """Iterations of the checkpoints."""
    return [int(path.stem) for path in list_checkpoints(out / "checkpoints")]


def test_reports_come_with_the_metrics_of_the_log(run: Any, tmp_path: Path) -> None:
    notes, out = Notes(), tmp_path / "run"
    reports = list(run_session(*run, out, watch=[notes]))
    rows = read_log(out / "metrics.jsonl")
    assert [{**report.metrics, **vars(report.progress)} for report in reports] == [
        {**row, "reports_success": True} for row in rows
    ]
    assert ["evaluation/return/0" in row for row in rows] == [False, True, False, True]
    start, *rest = notes.seen
    assert rest == [1, 2, 3, 4, "closed"]
    assert (start.out, start.progress.iteration, start.evaluated, start.note) == (out, 0, "tune", "")
    assert stems(out) == [4]
    assert (out / "training.png").is_file()


def leaves(session: Any) -> None:
    next(session)
    session.close()


def breaks(session: Any) -> None:
    for _ in session:
        break
    del session


@pytest.mark.parametrize("end", [leaves, breaks])
def test_a_session_that_is_left_early_is_saved_closed_and_goes_on(
    run: Any, tmp_path: Path, end: Callable[[Any], None], assert_same_run: Any
) -> None:
    notes, out = Notes(), tmp_path / "run"
    end(run_session(*run, out, watch=[notes]))
    assert stems(out) == [1]
    assert notes.seen[1:] == [1, "closed"]
    assert (out / "training.png").is_file()
    again = Notes()
    assert len(list(run_session(*run, out, resume=True, watch=[again]))) == 3
    assert (again.seen[0].note, again.seen[0].progress.iteration) == ("resuming after iteration 1", 1)
    list(run_session(*run, tmp_path / "whole"))
    assert_same_run(out, tmp_path / "whole")


def test_a_request_to_stop_is_asked_for_once_an_iteration_and_saved(run: Any, tmp_path: Path) -> None:
    asked = iter([False, True])
    reports = list(run_session(*run, tmp_path / "run", stop=lambda: next(asked)))
    assert len(reports) == 2
    assert stems(tmp_path / "run") == [2]


def test_the_folder_is_refused_at_once_and_locked_until_the_end(run: Any, tmp_path: Path) -> None:
    out = tmp_path / "run"
    first = run_session(*run, out)
    with pytest.raises(ValueError, match="another process is training"):
        run_session(*run, out, resume=True)
    with pytest.raises(ValueError, match="already holds a run"):
        run_session(*run, out)
    first.close()  # before its first iteration
    assert stems(out) == []
    next(run_session(*run, out, resume=True))


@pytest.mark.parametrize(("broken", "left"), [("start", []), ("iteration", [2])])
def test_every_watcher_is_closed_though_one_breaks(run: Any, tmp_path: Path, broken: str, left: Sequence[int]) -> None:
    config, family = run
    config = replace(config, training=replace(config.training, checkpoint_every=1, iterations=9))
    first, out = Notes(), tmp_path / "run"
    session = run_session(config, family, out, watch=[first, other := Notes(broken)])
    with pytest.raises(RuntimeError, match=f"broken {broken}"):
        list(session)
    assert first.seen[-1] == other.seen[-1] == "closed"
    assert stems(out) == ([1] if left else []), "an iteration is saved before it is shown"
    assert list(run_session(config, family, out, resume=True, watch=[Notes()]))
