"""The id of a run at a tracker, stored in the run's folder, so that a resumed run continues the same record there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from metarl.files import read_json, write_json
from metarl.run_config import BaseRun

FILE = "tracking.json"


def identity(out: Path, tracker: str, make: Callable[[], str]) -> str:
    """The id from an earlier start, or a new one, which is stored.

    Args:
        out: The run's folder.
        tracker: Name of the tracker.
        make: Makes a new id.
    """
    known: dict[str, str] = read_json(out / FILE) if (out / FILE).exists() else {}
    if tracker not in known:
        known[tracker] = make()
        write_json(out / FILE, known)
    return known[tracker]


def title(run: BaseRun) -> str:
    """Name of a run at a tracker."""
    return f"{run.agent} on {run.family}, seed {run.training.seed}"
