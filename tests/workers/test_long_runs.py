"""Runs whose workers are killed, runs of many iterations, and the memory and start of the default sizes."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from traces import Traces

import metarl
from metarl.watch import RunStart
from metarl.workers.pool import Processes

SIZES: dict[str, Any] = {"tasks": 6, "episodes": 2, "horizon": 40, "blocks": 6, "hidden": (16,), "track": "none"}
SIZES |= {"eval_every": 5, "eval_tasks": 4}


@pytest.fixture
def pools(monkeypatch: pytest.MonkeyPatch) -> list[Processes]:
    """The pools that are made."""
    made: list[Processes] = []
    initialise = Processes.__init__

    def counted(self: Processes, *words: Any, **settings: Any) -> None:
        initialise(self, *words, **settings)
        made.append(self)

    monkeypatch.setattr(Processes, "__init__", counted)
    return made


def pids(pools: list[Processes]) -> list[int]:
    return [worker.pid for pool in pools for worker in list(pool._workers) if worker.pid is not None]


@pytest.mark.parametrize(
    ("kills", "iterations"), [(3, 6), pytest.param(20, 60, marks=pytest.mark.bench_check)], ids=["3 kills", "20 kills"]
)
def test_a_run_whose_workers_are_killed_ends_with_the_same_parameters(
    tmp_path: Path, assert_same_run, pools: list[Processes], kills: int, iterations: int
) -> None:
    settings = {**SIZES, "iterations": iterations}
    alone = metarl.train("maml-trpo", "half-cheetah-vel", out=tmp_path / "alone", workers=0, **settings).out
    rng, over, killed, due = random.Random(0), threading.Event(), list[int](), [1]

    class Slow:
        """Leaves time for the kills."""

        def start(self, start: RunStart) -> None:
            return

        def iteration(self, report: Any) -> None:
            end = time.monotonic() + 20.0
            while len(killed) < due[0] and time.monotonic() < end:
                time.sleep(0.01)
            due[0] = min(1 + kills * report.progress.iteration // iterations, kills)

        def close(self) -> None:
            return

    def kill() -> None:
        while not over.wait(rng.random() * 0.3):
            if len(killed) < due[0] and (there := pids(pools)):
                os.kill(victim := rng.choice(there), signal.SIGKILL)
                killed.append(victim)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("metarl.workers.choice._warn", lambda line: None)
            out = metarl.train(
                "maml-trpo", "half-cheetah-vel", out=tmp_path / "killed", workers=2, watch=[Slow()], **settings
            ).out
    finally:
        over.set()
        thread.join()
    assert len(killed) == kills
    assert_same_run(alone, out)


def resident(pid: int | str) -> float:
    """Resident memory of a process, MiB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.bench_check
def test_200_iterations_with_3_workers_grow_nothing(tmp_path: Path, pools: list[Processes]) -> None:
    rows: list[dict[str, float]] = []

    class Measure:
        """Looks at this process and its workers after each iteration."""

        def start(self, start: RunStart) -> None:
            return

        def iteration(self, report: Any) -> None:
            workers = pids(pools)
            files = [len(os.listdir(f"/proc/{pid}/fd")) for pid in workers]
            tasks = [len(os.listdir(f"/proc/{pid}/task")) for pid in workers]
            rows.append(
                {
                    "parent MiB": resident("self"),
                    "workers MiB": sum(map(resident, workers)),
                    "files": len(os.listdir("/proc/self/fd")) + sum(files),
                    "threads": len(os.listdir("/proc/self/task")) + sum(tasks),
                    "workers": len(workers),
                    "shared": len(os.listdir("/dev/shm")),
                }
            )

        def close(self) -> None:
            return

    settings = {**SIZES, "iterations": 200}
    metarl.train("maml-trpo", "half-cheetah-vel", out=tmp_path / "run", workers=3, watch=[Measure()], **settings)
    early, late = rows[49], rows[-1]
    print(f"after 50 iterations: {early}\nafter 200 iterations: {late}")
    assert late["parent MiB"] < early["parent MiB"] + 8
    assert late["workers MiB"] < early["workers MiB"] + 3 * 4
    for name in ("files", "threads", "workers", "shared"):
        assert late[name] <= early[name], name


@pytest.mark.bench_check
def test_the_default_sizes_start_soon_and_fit_into_memory(
    start: Callable[..., Any], soon: Callable[..., None], traces: Traces, tmp_path: Path
) -> None:
    for workers, out in (("auto", tmp_path / "auto"), ("2", tmp_path / "two")):
        began = time.monotonic()
        words = ("train", "maml-trpo", "half-cheetah-vel", "--track", "none", "--out", out, "--workers", workers)
        process = start(*words)
        log = out / "metrics.jsonl"
        soon(lambda log=log: log.exists() and log.read_bytes().count(b"\n") >= 1, 60.0)
        seconds_to_first = time.monotonic() - began
        print(f"--workers {workers}: first iteration after {seconds_to_first:.1f} s")
        assert seconds_to_first < 10.0 or workers != "auto"
        soon(lambda log=log: log.read_bytes().count(b"\n") >= 5, 60.0)
        shares = {pid: share(pid) for pid in traces.processes()}
        for pid, words_of in traces.processes().items():
            print(f"  {shares[pid]:6.0f} MiB (resident {resident(pid):6.0f}) {name_of(pid, process.pid, words_of)}")
        print(f"  {sum(shares.values()):6.0f} MiB in all")
        assert sum(shares.values()) < 1536
        seconds = [json.loads(line)["time/sample_s"] for line in log.read_text().splitlines()]
        print(f"  seconds of sampling: {[round(s, 2) for s in itertools.islice(seconds, 5)]}")
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        traces.assert_none()


def share(pid: int) -> float:
    """Memory of a process, MiB, with its part of the memory that several share."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def name_of(pid: int, parent: int, words: str) -> str:
    """The part that a process plays."""
    if pid == parent:
        return "parent"
    if "resource_tracker" in words:
        return "resource tracker"
    return "worker" if os.getsid(pid) == pid else "server"
