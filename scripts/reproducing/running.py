"""The trainings of a table as processes of `metarl train`, several side by side."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

from metarl.report import counted
from metarl.scripts.child import TICK_SECONDS, Child, wait_for_orphans
from metarl.scripts.display import clock
from metarl.scripts.ending import StopRequest
from metarl.scripts.reproducing.plan import Plan, Training, makespan

LINE_SECONDS = 30.0
"""Time between two lines of progress; the first comes after a third of it."""
KNOWN_SECONDS = 20.0
"""Time after which the measured speed replaces the one of the recipe in the time left."""


@dataclass
class Outcome:
    """The ends of the trainings.

    Args:
        failed: Last line of each training that failed.
        stopped: Why the others were stopped, or empty.
    """

    failed: dict[Training, str] = field(default_factory=dict)
    stopped: Literal["", "Ctrl-C", "budget"] = ""


@dataclass(frozen=True)
class Running:
    """A training that runs.

    Args:
        training: The training.
        child: Its process.
    """

    training: Training
    child: Child

    @classmethod
    def start(cls, training: Training) -> Running:
        """Starts or resumes a training, on one core."""
        words = (*training.words, "--out", str(training.out), "--resume")
        with open(training.log, "a", encoding="utf-8") as log:
            log.write(f"$ metarl {shlex.join(words)}\n")
        return cls(training, Child(words, training.log, one_thread=True))


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
        self._busy = 0.0  # seconds of ended trainings

    def ended(self, one: Running) -> None:
        """Takes in a training that has ended; one that failed counts no more."""
        if one.training.state() == "finished":
            self._busy += one.child.seconds
            self._done[one.training] = 1.0
        else:
            del self._at_start[one.training], self._done[one.training]

    def seconds_left(self, running: Iterable[Running]) -> float:
        """Seconds until the end of the last training."""
        busy = self._busy
        for each in running:
            busy += each.child.seconds
            self._done[each.training] = each.training.fraction(each.training.logged())
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
        ValueError: Another process trains in one of the folders.
    """
    began, outcome, stop = time.monotonic(), Outcome(), StopRequest()
    unfinished = [one for one in reversed(plan.trainings) if one.state() != "finished"]
    wait_for_orphans(one.out for one in unfinished)
    queue = sorted(unfinished, key=Training.minutes_left)  # the longest last, from where they are taken
    total, left, running = len(queue), Clock(queue, jobs), list[Running]()
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
                    for one in running:
                        one.child.stop()
                while queue and len(running) < jobs and not outcome.stopped:
                    running.append(Running.start(queue.pop()))
                    report(f"{running[-1].training.name}: started")
                for one in [one for one in running if one.child.exit_code() is not None]:
                    running.remove(one)
                    _end(one, outcome, left, report)
                if running and time.monotonic() >= next_line:
                    next_line = time.monotonic() + LINE_SECONDS
                    shown = ", ".join(f"{one.training.name}: {_iterations(one.training)}" for one in running)
                    seconds = left.seconds_left(running)
                    report(f"{total - len(queue) - len(running)} of {total} ended; {shown}; left {clock(seconds)}")
                time.sleep(TICK_SECONDS)
    finally:
        for one in running:  # after another Ctrl-C, or an error here
            one.child.kill()
    return outcome


def _reason(stop: StopRequest, began: float, minutes: float) -> Literal["", "Ctrl-C", "budget"]:
    if stop.requested:
        return "Ctrl-C"
    return "budget" if minutes and time.monotonic() - began >= 60.0 * minutes else ""


def _iterations(training: Training) -> str:
    total = training.iterations()
    return f"{training.logged()} of {total}" if total else "starting"


def _end(ended: Running, outcome: Outcome, left: Clock, report: Callable[[str], None]) -> None:
    """Takes in a training that has ended."""
    one, child = ended.training, ended.child
    left.ended(ended)
    if one.state() == "finished":
        report(f"{one.name}: finished")
    elif child.stopped:
        report(f"{one.name}: saved after iteration {one.saved()}")
    else:
        outcome.failed[one] = f"{child.error()}; {one.log} has all it printed"
        report(f"{one.name}: failed: {outcome.failed[one]}")
