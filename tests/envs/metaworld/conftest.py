"""Fixtures that tests of Meta-World share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from metarl.envs.metaworld import families


@pytest.fixture
def few_goals(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits benchmarks to five goals per class and split, in a separate cache: a twentieth of the time."""
    upstream = families._upstream_tasks

    def first(benchmark: families.Benchmark) -> tuple[Mapping[str, list[Any]], Mapping[str, list[Any]]]:
        train, test = upstream(benchmark)
        return tuple({name: tasks[:5] for name, tasks in split.items()} for split in (train, test))  # type: ignore[return-value]

    monkeypatch.setattr(families, "_upstream_tasks", first)
    monkeypatch.setenv("METARL_CACHE", str(cache / "few"))
