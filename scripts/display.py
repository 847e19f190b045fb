"""Progress on stderr: a live table on a terminal, plain lines otherwise."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping

from rich.live import Live
from rich.table import Table

from metarl.report import first_label, last_label, tasks_label
from metarl.scripts.ending import StopRequest
from metarl.scripts.terminal import console
from metarl.training import IterationReport
from metarl.types import Progress
from metarl.watch import RunStart

PLAIN_LINE_SECONDS = 5.0


def clock(seconds: float) -> str:
    """`1:02:03` or `2:03`."""
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02d}:{s:02d}" if hours else f"{m}:{s:02d}"


def _rate(value: float | None) -> str:
    """A success rate; a dash if it is unknown."""
    return "-" if value is None else f"{value:.2f}"


class TrainingDisplay:
    """Shows iteration, environment steps and their rate, returns before and after adaptation, and times.

    Args:
        title: Name of the run.
        iterations: Total number of iterations.
        start: The counters at the start.
        first: Label of the first point of a curve, see `first_label`.
        last: Label of the last point, see `last_label`.
        evaluated: Label of the tasks of the evaluations, see `tasks_label`.
        score: Name of the score, see `metarl.source.Source`.
        counted: Name of the things that are counted, likewise.
    """

    def __init__(
        self,
        title: str,
        iterations: int,
        start: Progress,
        first: str,
        last: str,
        evaluated: str,
        score: str = "return",
        counted: str = "env steps",
    ) -> None:
        self._title, self._iterations, self._start = title, iterations, start
        self._score, self._counted = score, counted
        self._digits = 1 if score == "return" else 3
        self._first, self._last, self._evaluated = first, last, evaluated
        self._began, self._diverged = time.perf_counter(), 0
        self._first_took = 0.0  # often another duration: warm-up, compiled loops, recorded data
        self._last_line = -PLAIN_LINE_SECONDS
        self._console = console(stderr=True)
        self._live = Live(console=self._console, auto_refresh=False) if self._console.is_terminal else None

    def __enter__(self) -> TrainingDisplay:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Starts the live table on a terminal."""
        if self._live:
            self._live.start()

    def stop(self) -> None:
        """Restores the terminal."""
        if self._live:
            self._live.stop()

    def update(self, progress: Progress, metrics: Mapping[str, float]) -> None:
        """Shows the state after an iteration; plain lines at most every five seconds, and at start and end."""
        elapsed = time.perf_counter() - self._began
        done = progress.iteration - self._start.iteration
        if done == 1:
            self._first_took = elapsed
        each = (elapsed - self._first_took) / (done - 1) if done > 1 else elapsed
        remaining = each * (self._iterations - progress.iteration)
        score, digits = self._score, self._digits
        last = max(int(key.split("/")[1]) for key in metrics if key.startswith(f"{score}/"))
        rows = {
            "iteration": f"{progress.iteration} of {self._iterations}",
            self._counted: f"{progress.env_steps:,}",
            f"{self._counted.split()[-1]}/s": f"{(progress.env_steps - self._start.env_steps) / elapsed:,.0f}",
            **({f"{score} {self._first}" if last else score: f"{metrics[f'{score}/0']:.{digits}f}"}),
            **({self._last: f"{metrics[f'{score}/{last}']:.{digits}f}"} if last else {}),
            "s/iteration": f"{each:.1f}",
            "total about": clock(elapsed + remaining),
            "time left": clock(remaining),
        }
        self._diverged += int(metrics.get("diverged_episodes", 0))
        if self._diverged:
            rows["diverged episodes"] = f"{int(metrics.get('diverged_episodes', 0)):,} ({self._diverged:,} in all)"
        rates = [(metrics.get(f"success_last/{k}"), metrics.get(f"success/{k}")) for k in (0, last)]
        if any(rate is not None for pair in rates for rate in pair):  # some collects may have no success rate
            ends = [f"{_rate(at_last)} ({_rate(at_any)})" for at_last, at_any in rates]
            rows["success at the last (any) step"] = " -> ".join(ends)
        evaluated = [metrics.get(f"evaluation/{score}/{k}") for k in (0, last)]
        if None not in evaluated:
            rows[self._evaluated] = " -> ".join(f"{v:.{digits}f}" for v in evaluated)
        if self._live:
            table = Table(title=self._title, show_header=False)
            for name, value in rows.items():
                table.add_row(name, value)
            self._live.update(table, refresh=True)
        elif (
            elapsed - self._last_line >= PLAIN_LINE_SECONDS
            or progress.iteration == self._iterations
            or self._evaluated in rows
        ):
            self._last_line = elapsed
            print("  ".join(f"{name} {value}" for name, value in rows.items()), file=sys.stderr, flush=True)

    def note(self, line: str) -> None:
        """Prints a line above the table."""
        self._console.print(line, highlight=False, soft_wrap=True)


class RunDisplay:
    """The display as a watcher of a run. It requests a stop if the reader of the output is gone.

    Args:
        stop: Receives the request.

    Attributes:
        progress: The counters of the run so far.
    """

    def __init__(self, stop: StopRequest) -> None:
        self._stop = stop
        self._display: TrainingDisplay | None = None
        self.progress = Progress()

    def start(self, start: RunStart) -> None:
        """Prints warnings and the title."""
        run, self.progress = start.run, start.progress
        title = f"{run.agent} on {run.family}: {start.out}"
        first, last = first_label(start.adapts_within_episodes), last_label(start.adapts_within_episodes)
        evaluated = tasks_label(start.evaluated)
        warnings = [f"warning: {warning}" for warning in start.warnings]
        for line in filter(None, [*warnings, start.note, start.sampling]):
            print(line, file=sys.stderr)
        labels = first, last, evaluated, start.score, start.counted
        self._display = TrainingDisplay(title, run.training.iterations, start.progress, *labels)
        self._display.start()
        with self._stop.showing():
            self._display.note(title)

    def iteration(self, report: IterationReport) -> None:
        """Shows the state after an iteration."""
        self.progress = report.progress
        if self._display is not None:
            with self._stop.showing():
                self._display.update(report.progress, report.metrics)

    def close(self) -> None:
        """Restores the terminal."""
        if self._display is not None:
            self._display.stop()
            self._display = None
