"""Runs that are killed, stopped or started twice, each in a process of its own."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from metarl.checkpoint import list_checkpoints
from metarl.learning.networks.cells.table import CELLS
from metarl.registry import AGENTS, agent_class, names

OPTIONS = ("--tasks", "3", "--episodes", "3", "--horizon", "30", "--eval-every", "4", "--eval-tasks", "2")
OPTIONS += ("--checkpoint-every", "2", "--agent.hidden", "16", "16", "--agent.normalise-observations")
ITERATIONS = 14


SERVER = """
import contextlib, json, os, signal, sys

def train(order):
    os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(order["environment"])
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(os.open(order["err"], os.O_WRONLY | os.O_CREAT), 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever a shell has ignored
    exec(order["code"], {})
    return main(order["words"])

if __name__ == "__main__":
    import mujoco, scipy.stats, torch.utils.tensorboard  # once for all commands
    import metarl.scripts.evaluate, metarl.scripts.train
    from metarl.scripts.cli import main

    for line in sys.stdin:
        order = json.loads(line)
        if os.fork():
            continue
        child = os.fork()
        if not child:
            sys.exit(train(order))
        print(child, flush=True)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        with open(order["code_of_exit"] + ".new", "w") as file:
            file.write(str(code))
        os.rename(order["code_of_exit"] + ".new", order["code_of_exit"])
        os._exit(0)
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()
"""
"""Runs each command in a process of its own that shares the imports, which take longer than most of the commands."""


class Command:
    """A command in a process of its own, as `subprocess.Popen` has it.

    Args:
        folder: Receives its stderr and its exit code.
        pid: The process.
    """

    def __init__(self, folder: Path, pid: int) -> None:
        self._folder, self.pid = folder, pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit code; None while it runs."""
        path = self._folder / "code"
        if self.returncode is None and path.exists():
            self.returncode = int(path.read_text())
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Sends a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kills it."""
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float = 120) -> tuple[None, str]:
        """Waits for its end; what it wrote to stderr."""
        last = time.monotonic() + timeout
        while self.poll() is None:
            assert time.monotonic() < last, "the command has not ended"
            time.sleep(0.002)
        return None, (self._folder / "err").read_text()


Run = Callable[..., Command]


@pytest.fixture(scope="module")
def run_in_a_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Runs `metarl WORDS` in a process of its own; `code` runs first."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )
    assert server.stdin is not None
    assert server.stdout is not None
    orders, pids = server.stdin, server.stdout

    def run(words: Sequence[str], code: str = "") -> Command:
        folder = tmp_path_factory.mktemp("command")
        order = {
            "words": list(words),
            "code": code,
            "folder": os.getcwd(),
            "environment": {**os.environ, "OMP_NUM_THREADS": "1"},
            "err": str(folder / "err"),
            "code_of_exit": str(folder / "code"),
        }
        print(json.dumps(order), file=orders, flush=True)
        return Command(folder, int(pids.readline()))

    yield run
    orders.close()
    assert server.wait(timeout=60) == 0
    pids.close()


@pytest.fixture(scope="module")
def start(run_in_a_process: Run) -> Run:
    """Trains maml-trpo in a process of its own; `code` runs first."""

    def begin(out: Path, *more: str, code: str = "") -> Command:
        words = ("train", "maml-trpo", "point-robot", "--out", str(out), *OPTIONS, "--iterations", str(ITERATIONS))
        return run_in_a_process((*words, *more), code)

    return begin


def finish(process: Command) -> int | None:
    """Waits for the end; the exit code."""
    _, err = process.communicate(timeout=120)
    sys.stderr.write(err)
    return process.returncode


@pytest.fixture(scope="module")
def uninterrupted(start: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "run"
    assert finish(start(out)) == 0
    return out


def wait_for_line(process: Command, out: Path, line: int) -> None:
    """Waits until the run has logged a line (or is over)."""
    path = out / "metrics.jsonl"
    while process.poll() is None and not (path.exists() and path.read_bytes().count(b"\n") >= line):
        time.sleep(0.002)


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)])
def test_a_run_killed_at_random_moments_ends_like_one_that_never_was(
    start: Run, uninterrupted: Path, tmp_path: Path, assert_same_run, seed: int
) -> None:
    rng, out = random.Random(seed), tmp_path / "run"
    for line in sorted(rng.sample(range(1, ITERATIONS), 3)):
        process = start(out, "--resume")
        wait_for_line(process, out, line)
        time.sleep(rng.random() * 0.05)
        process.kill()
        process.communicate()
    assert finish(start(out, "--resume")) == 0
    assert_same_run(out, uninterrupted)


# Dies at the n-th call, after half of a checkpoint is written, before its rename, and right after it.
DIE = """
import os, signal, metarl.storage as s
calls, {name}_ = [], os.{name}
def die(*a):
    if "safetensors" not in str(a[0] if "{name}" != "fsync" else os.readlink(f"/proc/self/fd/{{a[0]}}")):
        return {name}_(*a)
    calls.append(1)
    if len(calls) == 3:
        {before}
        os.kill(os.getpid(), signal.SIGKILL)
    return {name}_(*a)
os.{name} = die
"""


@pytest.mark.parametrize(
    ("name", "before"),
    [("fsync", "os.ftruncate(a[0], os.fstat(a[0]).st_size // 2)"), ("replace", "pass"), ("replace", "replace_(*a)")],
    ids=["half written", "before the rename", "after the rename"],
)
def test_a_run_killed_while_it_writes_a_checkpoint_goes_on(
    start: Run, uninterrupted: Path, tmp_path: Path, assert_same_run, name, before
) -> None:
    out = tmp_path / "run"
    process = start(out, code=DIE.format(name=name, before=before))
    assert finish(process) == -signal.SIGKILL
    names = [p.name for p in list_checkpoints(out / "checkpoints")]
    assert names[-1] == ("0000006.safetensors" if before.startswith("replace_") else "0000004.safetensors")
    assert finish(start(out, "--resume")) == 0
    assert_same_run(out, uninterrupted)
    assert not list((out / "checkpoints").glob(".*"))


def test_ctrl_c_saves_and_says_how_to_go_on(
    start: Run, uninterrupted: Path, tmp_path: Path, assert_same_run, logged
) -> None:
    out = tmp_path / "run"
    process = start(out)
    wait_for_line(process, out, 3)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    done = len(logged(out))
    assert done < ITERATIONS
    assert f"saved after iteration {done}" in err
    assert f"--out {out} --resume" in err
    assert "Traceback" not in err
    assert list_checkpoints(out / "checkpoints")[-1].stem == f"{done:07d}"
    assert finish(start(out, "--resume")) == 0
    assert_same_run(out, uninterrupted)


# Ctrl-C, pressed in the last iteration.
INTERRUPT_LAST = """
import os, signal, metarl.metrics_log
add = metarl.metrics_log.MetricsLog.add
def log(self, progress, metrics):
    add(self, progress, metrics)
    if progress.iteration == {iterations}:
        os.kill(os.getpid(), signal.SIGINT)
metarl.metrics_log.MetricsLog.add = log
"""


def test_ctrl_c_in_the_last_iteration_of_a_seed_starts_no_other(start: Run, tmp_path: Path, logged) -> None:
    out = tmp_path / "runs"
    process = start(out, "--iterations", "2", "--seeds", "2", code=INTERRUPT_LAST.format(iterations=2))
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert f"stopped before {out / 'seed-1'}" in err
    assert len(logged(out / "seed-0")) == 2
    assert not (out / "seed-1").exists()
    assert finish(start(out, "--iterations", "2", "--seeds", "2", "--resume")) == 0
    assert len(logged(out / "seed-1")) == 2


def test_ctrl_c_in_the_last_iteration_of_a_run_finds_it_done(start: Run, tmp_path: Path, logged) -> None:
    process = start(tmp_path / "run", "--iterations", "2", code=INTERRUPT_LAST.format(iterations=2))
    assert finish(process) == 0
    assert len(logged(tmp_path / "run")) == 2


def test_two_processes_cannot_train_in_one_folder(start: Run, tmp_path: Path) -> None:
    out = tmp_path / "run"
    first = start(out, "--iterations", "500")
    wait_for_line(first, out, 1)
    second = start(out, "--resume", "--iterations", "500")
    _, err = second.communicate(timeout=60)
    first.kill()
    first.communicate()
    assert second.returncode == 2
    assert "another process is training" in err


# Every agent ------------------------------------------------------------------------------------------------

SIZES = {
    "hidden": 8,
    "units": 8,
    "encoder": 8,
    "encoder_hidden": 8,
    "batch": 8,
    "batch_trials": 4,
    "gradient_steps": 3,
    "replay_size": 40,
    "warmup_iterations": 2,
    "vae_updates": 2,
    "buffer_trials": 10,
}
"""Settings for small networks, and for buffers that overflow within the run; each agent takes those that it has."""


def small(agent: str) -> list[str]:
    """Options that make an agent small, whichever it is."""
    have = [field.name for field in dataclasses.fields(agent_class(agent).Config) if field.name in SIZES]
    words = [word for name in have for word in (f"--agent.{name.replace('_', '-')}", str(SIZES[name]))]
    return [*words, *(("--train-tasks", "5") if "replay_size" in have else ())]


# Dies some milliseconds after the fifth iteration is logged: in the middle of whatever is going on then.
DIE_SOON = """
import os, signal, threading, metarl.metrics_log
add = metarl.metrics_log.MetricsLog.add
def log(self, progress, metrics):
    add(self, progress, metrics)
    if progress.iteration == 5:
        threading.Timer({delay}, os.kill, (os.getpid(), signal.SIGKILL)).start()
metarl.metrics_log.MetricsLog.add = log
"""


MEMORIES = {
    **{f"rl2 {cell}": ("rl2", "--agent.cell", cell) for cell in CELLS if cell != "gru"},
    "rl2 aggregated": ("rl2", "--agent.aggregate", "max"),
    "rl2 hypernetwork": ("rl2", "--agent.head", "hypernetwork"),
    "rma gru": ("rma", "--agent.history-encoder", "gru"),
    "varibad attention": ("varibad", "--agent.cell", "attention"),
}
"""Agents with another memory than their default, by name."""


@pytest.mark.parametrize("name", [*names(AGENTS), *MEMORIES])
def test_every_agent_killed_and_resumed_ends_like_one_that_never_was(
    run_metarl, run_in_a_process: Run, tmp_path: Path, assert_same_run, tiny, suited, name: str
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    agent, *memory = MEMORIES.get(name, (name,))
    family, more = suited(agent).family, suited(agent).words or small(agent)
    words = ("train", agent, family, *tiny, "--eval-every", "0", "--iterations", "25", *more, *memory)
    code, _, err = run_metarl(*words, "--out", whole)
    assert code == 0, err
    delay = random.Random(name).uniform(0.0, 0.05)
    process = run_in_a_process((*words, "--out", str(killed)), DIE_SOON.format(delay=delay))
    assert finish(process) == -signal.SIGKILL
    code, _, err = run_metarl("train", agent, family, "--resume", "--out", killed)
    assert code == 0, err
    assert "resuming after iteration" in err
    assert_same_run(whole, killed)

    code, out, err = run_metarl("evaluate", killed, "--adapt-steps", "2", "--tasks", "3", "--json")
    assert code == 0, err
    curve = json.loads(out.splitlines()[-1])["curve"]
    assert [point["episodes"] for point in curve] in ([0, 1, 2], [0, 2, 4]), "trials, or both episodes pooled"
