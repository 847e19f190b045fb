"""The protocol of watchers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from metarl.runs import RunConfig
from metarl.tasks import Split
from metarl.training import IterationReport
from metarl.types import Progress


@dataclass(frozen=True, kw_only=True)
class RunStart:
    """State of a run when its first iteration is about to begin.

    Args:
        run: The configuration.
        out: The folder. A watcher that writes later, or from a thread, takes `out.absolute()`: an environment may be in
            another folder then.
        progress: The counters: those of the checkpoint for a resumed run.
        adapts_within_episodes: As in `Actor`.
        evaluated: Split of the tasks of the evaluations while training.
        warnings: Warnings of one line each, such as a damaged checkpoint.
        note: One line on the resume; empty for a new run.
    """

    run: RunConfig
    out: Path
    progress: Progress
    adapts_within_episodes: bool
    evaluated: Split
    warnings: tuple[str, ...] = ()
    note: str = ""


class Watcher(Protocol):
    """Sees a run. An exception of a watcher ends the run, after the iteration is logged and any checkpoint is saved."""

    def start(self, start: RunStart) -> None:
        """The first iteration is about to begin."""
        ...

    def iteration(self, report: IterationReport) -> None:
        """An iteration is done: its counters, and its metrics with those of an evaluation, if there was one."""
        ...

    def close(self) -> None:
        """The run ends, for whatever reason; also called if `start` failed or was never called."""
        ...
