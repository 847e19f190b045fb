"""Environments of `tests/robots/habits.py`, for the tests of this folder that ask for them."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from metarl import Task, Trajectories, make_agent
from metarl.own_code import guest
from metarl.seeding import Streams
from metarl.workers.blocks import BlockSampler, InProcess
from metarl.workers.pool import Processes

ROBOTS = Path(__file__).resolve().parents[2] / "robots"
TASK, OTHER = Task.of("habit", goal=(0.5, 0.0)), Task.of("habit", goal=(-0.5, 0.0))


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
def play() -> Any:
    """Plays tasks in two blocks, `collects` times, by a player or by a number of workers (0: this process)."""
    with contextlib.ExitStack() as stack:

        def played(
            family: Any,
            workers: Any,
            tasks: Any = (TASK, OTHER),
            episodes: int = 2,
            horizon: int = 5,
            collects: int = 1,
        ) -> list[Trajectories]:
            player = workers
            if isinstance(workers, int):
                player = Processes(family.make_envs, workers) if workers else InProcess(family.make_envs)
                stack.callback(player.close)
            sampler = BlockSampler(player, len(tasks), episodes, horizon, 2)
            sampler.set_tasks(tasks)
            agent, streams = make_agent("rl2", family.spaces(horizon), hidden=(4,)), Streams(1)
            return [sampler.collect(agent, agent.begin(tasks, episodes), streams)[0] for _ in range(collects)]

        yield played


@pytest.fixture
def batch() -> Any:
    """One task in E rows of a family; closed at the end."""
    with contextlib.ExitStack() as stack:

        def made(family: Any, e: int = 1, **settings: Any) -> Any:
            envs = family.with_stepping(replace(family.stepping, **settings)).make_envs(1, e, 5)
            stack.callback(envs.close)
            envs.set_tasks([TASK])
            return envs

        yield made
