"""Fixtures about finished runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from metarl.checkpoint import list_checkpoints
from metarl.storage import read_tensors


def _logged(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def _without_times(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if not name.startswith("time/")}


@pytest.fixture
def logged() -> Callable[[Path], list[dict[str, Any]]]:
    """Reads the lines of a run's log."""
    return _logged


@pytest.fixture
def assert_same_run() -> Callable[[Path, Path], None]:
    """Compares two runs: all arrays and counters bit for bit, all metrics but for the times."""

    def check(one: Path, two: Path) -> None:
        newest = [list_checkpoints(run / "checkpoints")[-1] for run in (one, two)]
        (mine, my_counters), (theirs, their_counters) = map(read_tensors, newest)
        assert newest[0].name == newest[1].name
        assert mine.keys() == theirs.keys()
        for name, tensor in mine.items():
            assert torch.equal(tensor, theirs[name]), name
        assert my_counters == their_counters
        for a, b in zip(_logged(one), _logged(two), strict=True):
            assert _without_times(a) == _without_times(b)

    return check
