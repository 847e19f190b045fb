"""Commands that are stopped, or whose output nobody reads: one word, no traceback, nothing left over."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from metarl.scripts.cli import COMMANDS, MODULES, _imported
from metarl.scripts.ending import Ending, StopRequest
from metarl.workers.server import ctrl_c_is_ours


def ctrl_c(*_: object, **__: object) -> None:
    """Presses Ctrl-C while a command runs."""
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(10.0)


@pytest.mark.parametrize("command", COMMANDS)
def test_ctrl_c_in_any_command_is_one_word(run_metarl, monkeypatch, command: str) -> None:
    named = (command, "maml-trpo", "point-robot")
    words = {"bench": ("bench", "rollout"), "train": named, "tune": named}.get(command, (command,))
    module = _imported("metarl.scripts.bench.rollout" if command == "bench" else f"metarl.scripts.{MODULES[command]}")
    monkeypatch.setattr(module, "report" if command == "versions" else "parse", ctrl_c)
    assert run_metarl(*words) == (130, "", "stopped\n")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_sigterm_in_a_command_is_one_word_too(run_metarl, monkeypatch) -> None:
    module = _imported("metarl.scripts.catalogue")
    monkeypatch.setattr(module, "parse", lambda *_: (os.kill(os.getpid(), signal.SIGTERM), time.sleep(10.0)))
    assert run_metarl("list") == (143, "", "stopped\n")


def test_an_error_that_ctrl_c_brought_about_is_no_mistake_of_the_users(run_metarl, monkeypatch) -> None:
    def fail(*_: object) -> None:
        try:
            ctrl_c()
        except KeyboardInterrupt:
            raise OSError("a worker is gone") from None

    monkeypatch.setattr(_imported("metarl.scripts.catalogue"), "parse", fail)
    assert run_metarl("list") == (130, "", "stopped\n")


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Ending(own_process=False) as ending:
            ending.take_signals()
            assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) != signal.SIG_DFL
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_training_in_the_background_hears_no_ctrl_c() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with StopRequest() as stop:
            os.kill(os.getpid(), signal.SIGINT)
        assert not stop.requested
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_training_whose_output_is_closed_is_asked_to_stop(monkeypatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w", encoding="utf-8") as closed:
        monkeypatch.setattr(sys, "stderr", closed)
        with StopRequest() as stop, stop.showing():
            print("iteration 1", file=sys.stderr, flush=True)
        assert stop.requested
        print("this goes nowhere", file=sys.stderr, flush=True)
        monkeypatch.undo()


# The whole process ------------------------------------------------------------------------------------------

START = """
import atexit, os, signal, sys, types
import metarl.scripts.cli as cli

signal.signal(signal.SIGINT, signal.default_int_handler)
def ctrl_c():
    os.kill(os.getpid(), signal.SIGINT)
class Callback:
    def __del__(self):
        ctrl_c()
def loading(name):
    try:
        ctrl_c()
    except BaseException:
        print("an import that catches everything")
def in_a_callback(words):
    callback = Callback()
    del callback
    return 0
def swallowed(words):
    for _ in range(2):
        try:
            ctrl_c()
        except BaseException:
            pass
    return 0
def at_the_end(words):
    atexit.register(ctrl_c)
    return 0
def with_a_child(words):
    import multiprocessing, time
    multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,)).start()
    ctrl_c()
cli._imported = {}
sys.argv = ["metarl", "list"]
raise SystemExit(cli.main())
"""


@pytest.mark.parametrize("moment", ["loading", "in_a_callback", "swallowed", "at_the_end", "with_a_child"])
def test_ctrl_c_at_any_moment_of_the_process_is_one_word(moment: str) -> None:
    replaced = "loading" if moment == "loading" else f"lambda name: types.SimpleNamespace(main={moment})"
    run = subprocess.run(
        [sys.executable, "-c", START.replace("cli._imported = {}", f"cli._imported = {replaced}")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (run.returncode, run.stdout, run.stderr) == (130, "", "stopped\n")


THREAD = """
import sys, threading, time
from metarl.scripts import cli
def command(words):
    threading.Thread(target=time.sleep, args=(60,), name="engine").start()
    print("done")
    return 7
cli._imported = lambda name: __import__("types").SimpleNamespace(main=command)
sys.argv = ["metarl", "list"]
raise SystemExit(cli.main())
"""


def test_a_thread_that_an_environment_left_does_not_keep_the_command() -> None:
    run = subprocess.run([sys.executable, "-c", THREAD], capture_output=True, text=True, timeout=30)
    assert (run.returncode, run.stdout) == (7, "done\n")
    assert run.stderr == "warning: ended with threads at work that were left running: engine\n"


def metarl_into(file: int, *words: str) -> subprocess.CompletedProcess[str]:
    """Runs the installed command with its output going to a file."""
    command = Path(sys.executable).parent / "metarl"
    return subprocess.run([command, *words], stdout=file, stderr=subprocess.PIPE, text=True, timeout=60, check=False)


@pytest.mark.parametrize("words", [("--help",), ("list",), ("train", "maml-trpo", "point-robot", "--help")])
def test_a_closed_pipe_ends_a_command_quietly(words: tuple[str, ...]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    run = metarl_into(writer, *words)
    os.close(writer)
    assert (run.returncode, run.stderr) == (0, "")


def test_a_full_disk_is_one_line() -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:
        run = metarl_into(full.fileno(), "--help")
    assert run.returncode == 2
    assert run.stderr == "metarl: error: the output cannot be written: [Errno 28] No space left on device\n"


# Workers ----------------------------------------------------------------------------------------------------


def blocked(pipe) -> None:
    pipe.send(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()))


def test_processes_that_are_started_get_no_ctrl_c() -> None:
    mine, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=blocked, args=(theirs,))

    def start_them() -> None:
        with ctrl_c_is_ours(later=True):
            os.kill(os.getpid(), signal.SIGINT)
            process.start()

    with pytest.raises(KeyboardInterrupt):
        start_them()
    assert mine.recv() is True
    process.join()
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
