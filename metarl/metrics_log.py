"""The log of a run: `metrics.jsonl`."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from metarl.files import write_bytes
from metarl.types import Progress


def log_line(progress: Progress, metrics: Mapping[str, float]) -> dict[str, Any]:
    """The counters and metrics of an iteration as a JSON value; a number that is not finite becomes null."""
    finite = {k: v if np.isfinite(v) else None for k, v in metrics.items()}
    return {"iteration": progress.iteration, "env_steps": progress.env_steps, **finite}


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of a log."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def keep_log(path: Path) -> None:
    """Renames a log before a restart writes a new one: `metrics.before-1.jsonl`, then `-2`, and so on."""
    if path.exists():
        others = len(list(path.parent.glob(f"{path.stem}.before-*{path.suffix}")))
        path.rename(path.with_name(f"{path.stem}.before-{others + 1}{path.suffix}"))


class MetricsLog:
    """`metrics.jsonl`: one JSON object per iteration, on one line.

    Args:
        path: The file.
        after: Keep the lines up to this iteration and discard later ones: a resumed run writes them again.
    """

    def __init__(self, path: Path, after: int = 0) -> None:
        kept = []
        if path.exists():
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                try:
                    if json.loads(line)["iteration"] <= after:
                        kept.append(line + "\n")
                except (json.JSONDecodeError, KeyError, TypeError):
                    continue  # a line cut short by a kill
        write_bytes(path, "".join(kept).encode())
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115  # stays open for the run

    def add(self, progress: Progress, metrics: Mapping[str, float]) -> None:
        """Appends a line."""
        self._file.write(json.dumps(log_line(progress, metrics), allow_nan=False) + "\n")
        self._file.flush()

    def sync(self) -> None:
        """Syncs the file to disk; called before a checkpoint is written."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Closes the file."""
        self._file.close()
