"""Environments of `tests/robots/habits.py`, for the tests of this folder that ask for them."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from metarl import Task
from metarl.own_code import guest

ROBOTS = Path(__file__).resolve().parents[2] / "robots"
TASK = Task.of("habit", goal=(0.5, 0.0))


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The warnings of this test."""
    monkeypatch.setattr(guest, "_said", set())
    return guest._said


@pytest.fixture
def habits(monkeypatch: pytest.MonkeyPatch, said: set[str]) -> Any:
    """The module of environments, which worker processes find by name."""
    monkeypatch.syspath_prepend(ROBOTS)
    import habits

    return habits


@pytest.fixture
def batch() -> Any:
    """One task in E rows of a family, stepped by `workers`; closed at the end."""
    with contextlib.ExitStack() as stack:

        def made(family: Any, workers: str = "sync", e: int = 1, **settings: Any) -> Any:
            stepping = replace(family.stepping, workers=workers, **settings)
            envs = family.with_stepping(stepping).make_envs(1, e, 5)
            stack.callback(envs.close)
            envs.set_tasks([TASK])
            return envs

        yield made
