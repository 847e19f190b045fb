"""Scripts that define the agent or the environments themselves, with and without a guard."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import threading
import types
from multiprocessing.spawn import get_preparation_data
from pathlib import Path
from typing import Any

import pytest
from traces import Traces

from metarl.workers import main_module
from metarl.workers.faults import WorkersError
from metarl.workers.main_module import WORKER, check_importable, is_needed, one_start, refuse_second_run
from metarl.workers.packed import pack

AGENT = """
import os
import sys
from pathlib import Path
import metarl
from metarl.agents.maml_trpo import MamlTrpo
from metarl.workers import choice, pool

with open("lines", "a") as lines:
    print(__name__, file=lines)
pool.PAYS_AFTER = 0.0
choice.available_cores = lambda: 2

class Mine(MamlTrpo):
    def act(self, state, step, rng, mode=False):
        Path(f"acted-{os.getpid()}").touch()
        return super().act(state, step, rng, mode)

def work():
    done = metarl.train(Mine, "point-robot", out="run", workers=sys.argv[1], iterations=int(sys.argv[2]), tasks=4,
                        episodes=2, horizon=10, blocks=4, track="none", hidden=(8,))
    print("done", done.progress.iteration, Path(__file__).name == "mine.py")
    for mine in Path().glob(f"acted-{os.getpid()}"):
        mine.rename("acted-here")
"""
GUARDED = f'{AGENT}\nif __name__ == "__main__":\n    work()\n'
BARE = f"{AGENT}\nwork()\n"
SLOW = pytest.mark.slow


@pytest.fixture
def script(traces: Traces, tmp_path: Path) -> Any:
    """Runs a script in a folder of its own: exit code, output, errors."""

    def run(text: str, *words: str, how: tuple[str, ...] = ("mine.py",)) -> tuple[int, str, str]:
        (tmp_path / "mine.py").write_text(text)
        done = subprocess.run(
            [sys.executable, *how, *words],
            cwd=tmp_path,
            env=traces.environment,
            input=text,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        traces.assert_none()
        return done.returncode, done.stdout, done.stderr

    return run


def acted(folder: Path) -> tuple[int, int]:
    """Whether the agent has acted in the script's process (0 or 1), and the number of others in which it has."""
    marks = [mark.name for mark in folder.glob("acted-*")]
    return marks.count("acted-here"), sum(mark != "acted-here" for mark in marks)


@pytest.mark.parametrize("how", [("mine.py",), pytest.param(("-m", "mine"), marks=SLOW)])
def test_a_guarded_script_that_defines_its_agent_has_it_in_workers(script, tmp_path: Path, how) -> None:
    code, out, err = script(GUARDED, "2", "3", how=how)
    assert code == 0, err
    assert "done 3" in out
    assert acted(tmp_path) in [(0, 1), (0, 2)]  # one worker may play all blocks
    lines = (tmp_path / "lines").read_text().split()
    assert lines.count("__main__") == 1
    assert lines.count("__mp_main__") >= 2
    assert not err


@pytest.mark.parametrize("how", [("mine.py",), pytest.param(("-",), marks=SLOW)])
def test_without_a_guard_auto_goes_on_in_this_process_with_one_line(script, tmp_path: Path, how) -> None:
    code, out, err = script(
        BARE.replace("Path(__file__).name == ", "") if how == ("-",) else BARE, "auto", "3", how=how
    )
    assert code == 0, err
    assert "done 3" in out
    assert acted(tmp_path) == (1, 0)
    (line,) = err.splitlines()
    assert "sampling goes on in this process" in line
    assert ("__name__" in line) == (how != ("-",))


def test_without_a_guard_a_number_of_workers_is_refused(script, tmp_path: Path) -> None:
    code, out, err = script(BARE, "2", "3")
    assert code == 1
    assert "done" not in out
    assert err.splitlines()[-1] == (
        "metarl.workers.faults.WorkersError: mine.py defines the agent or the environments, and worker processes would "
        'run it again; put the script\'s work under `if __name__ == "__main__":`'
    )
    assert (tmp_path / "lines").read_text().split() == ["__main__"]


@pytest.mark.parametrize("workers", ["2", pytest.param("auto", marks=SLOW)])
def test_a_guard_elsewhere_ends_the_worker_with_one_line(script, tmp_path: Path, workers: str) -> None:
    code, out, err = script(f'{BARE}\nif __name__ == "__main__":\n    print("end")\n', workers, "3")
    assert err.count("would run this script again") == 1 or workers == "auto"  # it may be over before
    assert out.count("done 3") == (workers == "auto")
    assert (code == 0) == (workers == "auto")
    assert err.count("Traceback") == (workers != "auto")


def test_a_script_that_defines_nothing_runs_once(script, tmp_path: Path) -> None:
    text = BARE.replace("metarl.train(Mine,", 'metarl.train("maml-trpo",')
    code, out, err = script(text, "2", "2")
    assert code == 0, err
    assert "done 2 True" in out
    assert (tmp_path / "lines").read_text().split() == ["__main__"]


def test_a_value_refers_to_the_main_module_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def of_main() -> None:
        raise AssertionError

    of_main.__module__, of_main.__qualname__ = "__main__", "of_main"
    monkeypatch.setattr(sys.modules["__main__"], "of_main", of_main, raising=False)
    assert is_needed(pack(of_main))
    assert not is_needed(pack(Path))


def test_a_main_program_without_a_file_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "__main__", types.ModuleType("__main__"))
    with pytest.raises(WorkersError, match="in a module of their own"):
        check_importable()


def test_one_thread_leaves_the_main_module_out_and_no_other_sees_it() -> None:
    spec = sys.modules["__main__"].__spec__
    seen: list[Any] = []

    def look() -> None:
        seen.append(get_preparation_data("other").get("init_main_from_name"))

    before = get_preparation_data("mine").get("init_main_from_name")
    with one_start(with_main=False):
        assert get_preparation_data("mine")["init_main_from_name"] == "__main__"
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
    assert seen == [before]
    assert sys.modules["__main__"].__spec__ is spec
    with one_start(with_main=True):
        assert get_preparation_data("mine").get("init_main_from_name") == before


def test_a_process_that_is_being_started_runs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    process = multiprocessing.current_process()
    refuse_second_run()
    monkeypatch.setattr(process, "_inheriting", True, raising=False)
    with pytest.raises(WorkersError, match="runs this script again"):
        refuse_second_run()
    codes: list[int] = []
    monkeypatch.setattr(main_module.os, "_exit", codes.append)
    monkeypatch.setattr(process, "_config", {**process._config})
    name = process.name
    process.name = WORKER
    try:
        with pytest.raises(WorkersError):
            refuse_second_run()
    finally:
        process.name = name
    assert codes == [main_module.RUNS_AGAIN]
