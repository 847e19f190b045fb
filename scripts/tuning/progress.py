"""Progress of a study on stderr: a line for each trial that ends, and the time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from metarl.scripts.display import clock
from metarl.scripts.ending import StopRequest
from metarl.scripts.tuning.search import Running
from metarl.scripts.tuning.study import Tried

TERMINAL_SECONDS, PLAIN_SECONDS = 1.0, 30.0
CLEAR = "\r\x1b[K"


class Progress:
    """Prints progress.

    Args:
        stop: Receives a request to stop if the reader of the output is gone.
        trials: Number of trials of the study.
        iterations: Iterations of a whole trial.
        before: The trials of earlier starts.
    """

    def __init__(self, stop: StopRequest, trials: int, iterations: int, before: Sequence[Tried]) -> None:
        self._stop, self._trials, self._iterations = stop, trials, iterations
        ended = [one for one in before if one.state != "unfinished"]
        begun = (one.curve[-1][0] / iterations for one in before if one.state == "unfinished" and one.curve)
        self._done, self._best = len(ended), self._best_of(ended)
        self._before, self._began, self._next = len(ended) + sum(begun), time.monotonic(), 0.0
        self._terminal = sys.stderr.isatty()

    @staticmethod
    def _best_of(ended: Sequence[Tried]) -> Tried | None:
        complete = [one for one in ended if one.state == "complete" and one.score is not None]
        return max(complete, key=lambda one: (one.score or 0.0, -one.number), default=None)

    def ended(self, one: Tried) -> None:
        """Prints the line of a trial that ended."""
        self._done += 1
        self._best = self._best_of([trial for trial in (self._best, one) if trial is not None])
        score = "" if one.score is None else f", score {one.score:.4g}"
        name = f"trial {one.number}{' (preset)' if one.preset else ''}"
        why = f": {one.error}" if one.error else ""
        same = f", same settings as trial {one.same_as}" if one.same_as is not None else ""
        best = "" if self._best is None else f"; best: trial {self._best.number}, {self._best.score:.4g}"
        self.line(f"{name} {one.state}{score}{same}{why}{best}; {self._done} of {self._trials} trials ended")

    def tick(self, running: Sequence[Running]) -> None:
        """Prints the status: each second on a terminal, else each half minute."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + (TERMINAL_SECONDS if self._terminal else PLAIN_SECONDS)
        parts = [f"{one.trial.number}: {min(one.reading.iteration / self._iterations, 1.0):.0%}" for one in running]
        done = self._done + sum(min(one.reading.iteration / self._iterations, 1.0) for one in running)
        made = done - self._before
        left = (now - self._began) * max(self._trials - done, 0.0) / made if made > 0.05 else None
        times = "" if left is None else f"; time left about {clock(left)}"
        self._status(f"{self._done} of {self._trials} trials ended; running {', '.join(parts) or 'none'}{times}")

    def confirming(self, ended: int, total: int) -> None:
        """Prints the status of the confirmation."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + (TERMINAL_SECONDS if self._terminal else PLAIN_SECONDS)
            self._status(f"confirmation: {ended} of {total} trainings ended")

    def line(self, text: str) -> None:
        """Prints a line."""
        with self._stop.showing():
            print(f"{CLEAR if self._terminal else ''}{text}", file=sys.stderr, flush=True)

    def _status(self, text: str) -> None:
        with self._stop.showing():
            if self._terminal:
                print(f"{CLEAR}{text}", end="", file=sys.stderr, flush=True)
            else:
                print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Clears the status line."""
        if self._terminal:
            with self._stop.showing():
                print(CLEAR, end="", file=sys.stderr, flush=True)
