"""A command leaves no process, file or shared memory behind, however it ends; its workers' failures end it as said."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from traces import TINY, Traces

from metarl.checkpoint import list_checkpoints

SLOW = pytest.mark.slow
FATAL = ("train", "maml-trpo", "fatal_robot:from_environment", *TINY)


def log_lines(out: Path) -> int:
    path = out / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def last_checkpoint(out: Path) -> int:
    saved = list_checkpoints(out / "checkpoints")
    return int(saved[-1].stem) if saved else 0


@pytest.fixture
def at_work(start: Callable[..., Any], soon: Callable[..., None], tmp_path: Path) -> Callable[..., Any]:
    """A training with two workers that has logged two iterations, or whose workers have met their fault."""

    def begin(fault: str = "none") -> subprocess.Popen[str]:
        meets = {"FATAL_FOLDER": str(tmp_path)} if fault != "none" else {}
        words = (*FATAL, "--out", tmp_path / "run", "--iterations", "100000", "--workers", "2")
        process: subprocess.Popen[str] = start(*words, FATAL=fault, FATAL_TIMES="2", **meets)
        if fault == "none":
            soon(lambda: process.poll() is not None or log_lines(tmp_path / "run") >= 2)
        else:
            soon(lambda: process.poll() is not None or (tmp_path / "breakdown-0").exists())
            time.sleep(0.2)
        assert process.poll() is None, process.communicate()
        return process

    return begin


@SLOW
def test_a_normal_end_leaves_nothing(start, traces: Traces, tmp_path: Path) -> None:
    process = start(*FATAL, "--out", tmp_path / "run", "--iterations", 2, "--workers", 2, FATAL="none")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "2 worker processes" in err
    traces.assert_none()


@pytest.mark.parametrize(
    "fault", ["stuck", pytest.param("none", marks=SLOW), pytest.param("sleep", marks=SLOW), "child"]
)
def test_a_killed_command_leaves_nothing(at_work, traces: Traces, fault: str) -> None:
    process = at_work(fault)
    assert len(traces.workers()) >= 2
    process.kill()
    process.communicate(timeout=10)
    traces.assert_none()


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=SLOW)])
def test_ctrl_c_saves_and_leaves_nothing(at_work, traces: Traces, tmp_path: Path, number: int) -> None:
    process = at_work()
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert "saved after iteration" in err
    assert "Traceback" not in err
    assert "worker process" not in err.partition("\n")[2]
    assert last_checkpoint(tmp_path / "run") == log_lines(tmp_path / "run")
    traces.assert_none()


def test_ctrl_c_twice_leaves_at_once(at_work, traces: Traces) -> None:
    process = at_work("stuck")
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert time.monotonic() - began < 10
    assert process.returncode == 130, err
    assert "stopped at once" in err
    assert "Traceback" not in err
    traces.assert_none()


@pytest.mark.parametrize("moment", [0.1, pytest.param(0.6, marks=SLOW), pytest.param(1.2, marks=SLOW)])
def test_ctrl_c_while_workers_start_leaves_nothing(start, soon, traces: Traces, tmp_path: Path, moment: float) -> None:
    process = start(*FATAL, "--out", tmp_path / "run", "--iterations", 9, "--workers", 2, FATAL="none")
    soon(lambda: len(traces.processes()) >= 3)  # the server is there
    time.sleep(moment)
    process.send_signal(signal.SIGINT)
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode in (0, 130), err
    assert "Traceback" not in err
    traces.assert_none()


@SLOW
def test_an_exception_leaves_nothing(start, traces: Traces, tmp_path: Path) -> None:
    code = f"""
import metarl
class Watcher:
    def start(self, start): pass
    def iteration(self, report): raise OSError("the disk is full")
    def close(self): pass
metarl.train("maml-trpo", "point-robot", out={str(tmp_path / "run")!r}, workers=2, iterations=3, tasks=4, episodes=2,
             horizon=10, blocks=4, track="none", watch=[Watcher()])
"""
    process = start(code=code)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert err.rstrip().endswith("OSError: the disk is full")
    traces.assert_none()


@pytest.mark.parametrize("fault", [pytest.param("raise", marks=SLOW), pytest.param("kill", marks=SLOW), "stuck"])
def test_a_block_that_always_fails_ends_the_run_with_exit_code_1(
    start, traces: Traces, run_metarl, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fault: str
) -> None:
    out = tmp_path / "run"
    monkeypatch.setenv("FATAL", fault)
    assert run_metarl(*FATAL, "--out", out, "--iterations", 2, "--workers", 0)[0] == 0  # the owner is spared
    words = (*FATAL, "--out", out, "--iterations", 9, "--resume", "--workers", 2, "--worker-timeout", 0.5)
    process = start(*words, FATAL=fault)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1, err
    last = err.rstrip().splitlines()[-1]
    assert last.startswith("metarl: error: block ")
    assert "of 4 (task " in last
    assert "failed 3 times in worker processes" in last
    assert "0000002.safetensors, is intact" in last
    assert f"--out {out} --track none --workers 2 --worker-timeout 0.5 --resume" in last
    assert ("in break_down" in err) == (fault != "kill")
    assert err.count("is played again") == 2
    assert last_checkpoint(out) == 2
    traces.assert_none()


@SLOW
def test_numbers_that_are_not_finite_end_the_run_with_exit_code_2(start, traces: Traces, tmp_path: Path) -> None:
    words = (*FATAL, "--out", tmp_path / "run", "--iterations", 9, "--workers", 2)
    process = start(*words, FATAL="nan", FATAL_FOLDER=str(tmp_path), FATAL_TIMES="100")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2, err
    assert "maml-trpo diverged in iteration 1: got a reward that is not finite" in err.splitlines()[-1]
    assert "played again" not in err
    traces.assert_none()


def test_the_output_of_workers_never_reaches_stdout(start, traces: Traces, tmp_path: Path) -> None:
    words = (*FATAL, "--out", tmp_path / "run", "--iterations", 9, "--workers", 2, "--json")
    out, err = start(*words, FATAL="talk").communicate(timeout=60)
    assert "it is cold here" in err
    assert err.count("warning: the gripper squeaks") == 1
    assert out.startswith("run: ")
    assert "cold" not in out
    assert os.path.exists(tmp_path / "run" / "config.json")
    traces.assert_none()
