"""The protocol of watchers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from metarl.run_config import BaseRun
from metarl.tasks import Split
from metarl.training import IterationReport
from metarl.types import Progress


@dataclass(frozen=True, kw_only=True)
class RunStart:
    """State of a run before its first iteration.

    Args:
        run: The configuration.
        out: The folder. Use `out.absolute()` to write later or from a thread, since an environment may change the
            working directory.
        progress: The counters; for a resumed run, those of the checkpoint.
        adapts_within_episodes: As in `Actor`.
        evaluated: Split of the tasks of the evaluations while training.
        warnings: Warnings of one line each, such as a damaged checkpoint.
        note: One line on the resume; empty for a new run.
        sampling: One line on who plays the episodes.
        score: Name of the score of a collect: its metrics are `SCORE/0`, `SCORE/1`, ...
        counted: Name of the things that `progress.env_steps` counts.
    """

    run: BaseRun
    out: Path
    progress: Progress
    adapts_within_episodes: bool
    evaluated: Split
    warnings: tuple[str, ...] = ()
    note: str = ""
    sampling: str = ""
    score: str = "return"
    counted: str = "env steps"


class Watcher(Protocol):
    """Observes a run.

    An exception of a watcher ends the run, after the iteration is logged and any checkpoint is saved.
    """

    def start(self, start: RunStart) -> None:
        """Called before the first iteration."""
        ...

    def iteration(self, report: IterationReport) -> None:
        """Called after an iteration, with its counters, its metrics, and those of an evaluation, if there was one."""
        ...

    def close(self) -> None:
        """Called at the end of a run, for any reason, even if `start` failed or was never called."""
        ...
