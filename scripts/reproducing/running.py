"""The trainings of a table as processes of `metarl train`, several side by side."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

from metarl.report import counted
from metarl.scripts.display import clock
from metarl.scripts.ending import StopRequest
from metarl.scripts.reproducing.plan import Plan, Training, makespan
from metarl.workers.server import ONE_THREAD

LINE_SECONDS = 30.0
"""Time between two lines of progress; the first comes after a third of it."""
POLL_SECONDS = 0.1
LEAVE_SECONDS = 10.0
"""Time that a training has after the second Ctrl-C before it is killed."""
KNOWN_SECONDS = 20.0
"""Time after which the measured speed replaces the one of the recipe in the time left."""
PROGRAM = """from metarl.vector import limit_cores; limit_cores(1)
from metarl.scripts.cli import main; raise SystemExit(main())"""
"""The command `metarl`, on one core."""


@dataclass
class Outcome:
    """The ends of the trainings.

    Args:
        failed: Last line of each training that failed.
        stopped: Why the others were stopped, or empty.
    """

    failed: dict[Training, str] = field(default_factory=dict)
    stopped: Literal["", "Ctrl-C", "budget"] = ""


class Child:
    """A training in a process of its own, on one core. It does not hear the terminal's Ctrl-C.

    Args:
        training: The training.
    """

    def __init__(self, training: Training) -> None:
        self.training = training
        self._log = open(training.log, "ab")  # noqa: SIM115  # closed by `wait`
        words = (*training.words, "--out", str(training.out), "--resume")
        self._log.write(f"$ metarl {shlex.join(words)}\n".encode())
        self._log.flush()
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", PROGRAM, *words],  # -P: nothing in the working folder replaces a module
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            env={**os.environ, **ONE_THREAD},
            start_new_session=True,
        )

    def ask(self) -> None:
        """Asks it to save and end; the second time, to end at once. A shell may have Ctrl-C ignored, but not this."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)

    def ended(self) -> bool:
        """Whether it has ended."""
        return self.process.poll() is not None

    def wait(self, seconds: float | None = None) -> int:
        """Waits for its end, and kills it after some seconds; the exit code."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self._log.close()
        return self.process.returncode


def last_line(training: Training, code: int) -> str:
    """The last line that a training printed; its exit code if that says nothing."""
    lines = [line.strip() for line in training.log.read_text(encoding="utf-8", errors="replace").splitlines()]
    last = next((line for line in reversed(lines) if line), "")
    if code < 0:
        return f"killed by signal {-code} ({signal.Signals(-code).name}), see {training.log}"
    return last if last and not last.startswith("$ ") else f"exit code {code}, see {training.log}"


class Clock:
    """Time left for all trainings, by the minutes of the recipe and the speed so far.

    Args:
        unfinished: The trainings to make.
        jobs: Number side by side.
    """

    def __init__(self, unfinished: Iterable[Training], jobs: int) -> None:
        self._jobs = jobs
        self._at_start = {one: one.fraction(one.saved()) for one in unfinished}
        self._done = dict(self._at_start)
        self._busy = 0.0  # seconds of ended children

    def ended(self, child: Child) -> None:
        """Takes in a child that has ended; one that failed counts no more."""
        if child.training.state() == "finished":
            self._busy += time.monotonic() - child.began
            self._done[child.training] = 1.0
        else:
            del self._at_start[child.training], self._done[child.training]

    def seconds_left(self, running: Iterable[Child]) -> float:
        """Seconds until the end of the last training."""
        busy = self._busy
        for child in running:
            busy += time.monotonic() - child.began
            self._done[child.training] = child.training.fraction(child.training.logged())
        planned = 60.0 * sum((self._done[one] - before) * one.row.minutes for one, before in self._at_start.items())
        speed = planned / busy if busy > KNOWN_SECONDS and planned > 0 else 1.0
        left = makespan(((1.0 - done) * one.row.minutes for one, done in self._done.items()), self._jobs)
        return 60.0 * left / speed


def run_trainings(plan: Plan, jobs: int, minutes: float, say: Callable[[str], None]) -> Outcome:
    """Trains what is not finished, the longest first.

    Ctrl-C, SIGTERM and the end of the budget ask all trainings to finish their iteration and save. A training that
    fails does not stop the others.

    Args:
        plan: The plan.
        jobs: Number of trainings side by side.
        minutes: The budget; 0 for none.
        say: Prints a line.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed again; the trainings have ended.
    """
    began, outcome, stop = time.monotonic(), Outcome(), StopRequest()
    unfinished = [one for one in reversed(plan.trainings) if one.state() != "finished"]
    queue = sorted(unfinished, key=Training.minutes_left)  # the longest last, from where they are taken
    total, left, running = len(queue), Clock(queue, jobs), list[Child]()
    next_line = began + LINE_SECONDS / 3

    def report(line: str) -> None:
        with stop.showing():
            say(f"{clock(time.monotonic() - began)}  {line}")

    try:
        with stop:
            while running or (queue and not outcome.stopped):
                if not outcome.stopped and (reason := _reason(stop, began, minutes)):
                    outcome.stopped = reason
                    report(f"{reason}: {counted(len(running), 'trainings')} to finish the iteration and save")
                    for child in running:
                        child.ask()
                while queue and len(running) < jobs and not outcome.stopped:
                    running.append(Child(queue.pop()))
                    report(f"{running[-1].training.name}: started")
                for child in [one for one in running if one.ended()]:
                    running.remove(child)
                    _end(child, outcome, left, report)
                if running and time.monotonic() >= next_line:
                    next_line = time.monotonic() + LINE_SECONDS
                    shown = ", ".join(f"{one.training.name}: {_iterations(one.training)}" for one in running)
                    seconds = left.seconds_left(running)
                    report(f"{total - len(queue) - len(running)} of {total} ended; {shown}; left {clock(seconds)}")
                time.sleep(POLL_SECONDS)
    finally:
        for child in running:  # after another Ctrl-C, or an error here
            child.ask()
        for child in running:
            child.wait(LEAVE_SECONDS)
    return outcome


def _reason(stop: StopRequest, began: float, minutes: float) -> Literal["", "Ctrl-C", "budget"]:
    if stop.requested:
        return "Ctrl-C"
    return "budget" if minutes and time.monotonic() - began >= 60.0 * minutes else ""


def _iterations(training: Training) -> str:
    total = training.iterations()
    return f"{training.logged()} of {total}" if total else "starting"


def _end(child: Child, outcome: Outcome, left: Clock, report: Callable[[str], None]) -> None:
    """Takes in a child that has ended."""
    code, one = child.wait(), child.training
    left.ended(child)
    if one.state() == "finished":
        report(f"{one.name}: finished")
    elif outcome.stopped and code in (130, 143, -signal.SIGTERM):
        report(f"{one.name}: saved after iteration {one.saved()}")
    else:
        outcome.failed[one] = last_line(one, code)
        report(f"{one.name}: failed: {outcome.failed[one]}")
