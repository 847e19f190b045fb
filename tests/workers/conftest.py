"""Runs in processes of their own, whose traces on the machine can be looked for."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

sys.path.append(str(Path(__file__).resolve().parent.parent / "robots"))  # workers get it from this process

from traces import Traces

from metarl.agents.maml_trpo import MamlTrpo, MamlTrpoConfig
from metarl.rollout import Trajectories
from metarl.seeding import Streams
from metarl.tasks import Family
from metarl.workers.blocks import BlockSampler, Player

HEARD = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"  # whatever a shell has ignored


@pytest.fixture
def traces() -> Iterator[Traces]:
    temp = Path(tempfile.mkdtemp(prefix="mw-"))  # short, since it holds sockets
    found = Traces(temp)
    yield found
    for pid in found.processes():
        os.kill(pid, signal.SIGKILL)
    shutil.rmtree(temp, ignore_errors=True)


@pytest.fixture
def start(traces: Traces) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts `metarl WORDS`, or a program, in a process of its own."""
    started: list[subprocess.Popen[str]] = []

    def begin(*words: Any, code: str = "", **environment: str) -> subprocess.Popen[str]:
        program = code or "from metarl.scripts.cli import main\nraise SystemExit(main())"
        process = subprocess.Popen(
            [sys.executable, "-c", HEARD + program, *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**traces.environment, **environment},
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
        process.wait()


def wait_until(true: Callable[[], object], seconds: float = 30.0) -> None:
    """Waits, and fails after a time."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.02)


@pytest.fixture
def soon() -> Callable[..., None]:
    return wait_until


class Trial:
    """A small agent and its tasks on a family of points."""

    def __init__(self, family: Family, blocks: int = 4) -> None:
        self.family, self.blocks = family, blocks
        spaces = family.make_envs(1, 1, 10).spaces
        self.agent = MamlTrpo(
            MamlTrpoConfig(hidden=(8,)), spaces, device=torch.device("cpu"), rng=np.random.default_rng(0)
        )
        self.tasks = family.distribution.sample(6, np.random.default_rng(1))

    def play(self, player: Player, collect: int = 0, blocks: int | None = None) -> Trajectories:
        """The episodes of one collect."""
        sampler = BlockSampler(player, 6, 2, 10, blocks or self.blocks)
        sampler.set_tasks(self.tasks)
        state = self.agent.begin(self.tasks, 2)
        return sampler.collect(self.agent, state, Streams(0).child(collect))[0]


@pytest.fixture
def trial() -> Callable[..., Trial]:
    return Trial
