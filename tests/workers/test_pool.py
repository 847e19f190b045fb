"""Worker processes: the same results whatever becomes of them, and an error after three tries."""

from __future__ import annotations

import math
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fatal_robot
import numpy as np
import pytest

from metarl.envs.point_robot import point_robot
from metarl.finite import NotFiniteError
from metarl.workers import pool as pool_module
from metarl.workers.blocks import InProcess
from metarl.workers.faults import BlockError, WorkersError
from metarl.workers.pool import Processes

EQUAL = ("all_observations", "actions", "rewards", "mask", "terminated", "truncated")


def assert_same(one: Any, two: Any) -> None:
    for name in EQUAL:
        assert np.array_equal(getattr(one, name), getattr(two, name)), name
    assert one.extras.keys() == two.extras.keys()
    for name in one.extras:
        assert np.array_equal(one.extras[name], two.extras[name]), name


def pids(pool: Processes) -> list[int]:
    return [worker.pid for worker in pool._workers if worker.pid is not None]


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.fixture(scope="module")
def shared() -> Iterator[Processes]:
    """Two workers for points, and a list of what was said."""
    said: list[str] = []
    pool = Processes(point_robot().make_envs, 2, say=said.append)
    pool.said = said  # type: ignore[attr-defined]
    yield pool
    pool.close()


@pytest.fixture
def expected(trial: Callable[..., Any]) -> Any:
    return trial(point_robot()).play(InProcess(point_robot().make_envs))


@pytest.mark.parametrize("blocks", [1, 2, 4, 6])
def test_any_number_of_blocks_has_the_same_result_here_and_there(shared: Processes, trial, blocks: int) -> None:
    here = InProcess(point_robot().make_envs)
    for collect in range(3):
        mine = trial(point_robot()).play(here, collect, blocks)
        assert_same(mine, trial(point_robot()).play(shared, collect, blocks))


def test_the_results_of_a_collect_stay_when_the_next_one_is_played(shared: Processes, trial) -> None:
    for blocks in (1, 4):
        first = trial(point_robot()).play(shared, 0, blocks)
        before = first.rewards.copy(), first.actions.copy()
        trial(point_robot()).play(shared, 1, blocks)
        assert np.array_equal(before[0], first.rewards)
        assert np.array_equal(before[1], first.actions)


def test_workers_that_die_between_collects_are_replaced(shared: Processes, trial, expected, soon) -> None:
    trial(point_robot()).play(shared)
    before = pids(shared)
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    soon(lambda: not any(Path(f"/proc/{pid}").exists() for pid in before))  # a zombie may have open files
    assert_same(trial(point_robot()).play(shared), expected)
    assert len(shared._workers) == 2
    assert not set(before) & set(pids(shared))
    assert "signal SIGKILL" in shared.said[-1]
    assert "another one takes its place" in shared.said[-1]


def test_workers_that_die_at_any_moment_change_nothing(shared: Processes, trial, expected) -> None:
    rng, over = np.random.default_rng(0), threading.Event()
    killed: list[int] = []
    trials = 0

    def kill() -> None:
        while not over.wait(0.02 + 0.1 * rng.random()):
            if len(killed) < 2 * trials and (there := pids(shared)):  # a third one may hit a block for the third time
                killed.append(there[0])
                os.kill(there[0], signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        while len(killed) < 6:
            trials = min(len(killed) // 2 + 1, 3)
            assert_same(trial(point_robot()).play(shared), expected)
    finally:
        over.set()
        thread.join()
    assert_same(trial(point_robot()).play(shared), expected)


def test_a_server_that_dies_takes_its_workers_along_and_is_started_again(shared: Processes, trial, expected) -> None:
    from multiprocessing import forkserver

    trial(point_robot()).play(shared)
    os.kill(forkserver._forkserver._forkserver_pid, signal.SIGKILL)
    assert_same(trial(point_robot()).play(shared), expected)


def test_files_threads_and_processes_do_not_grow(shared: Processes, trial, soon) -> None:
    def counted() -> tuple[int, int, int]:
        children = len([p for p in Path("/proc").glob("[0-9]*/stat") if f" {os.getpid()} " in _text(p)])
        return len(os.listdir("/proc/self/fd")), threading.active_count(), children

    for _ in range(2):
        trial(point_robot()).play(shared)
    soon(lambda: len(pids(shared)) == 2)
    before = counted()
    for i in range(6):
        soon(lambda: len(pids(shared)) == 2)
        os.kill(pids(shared)[i % 2], signal.SIGKILL)
        trial(point_robot()).play(shared)
    soon(lambda: len(pids(shared)) == 2)
    after = counted()
    assert after[0] <= before[0]
    assert after[1:] == before[1:]


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


@pytest.fixture
def made() -> Iterator[Callable[..., Processes]]:
    """Makes pools that are closed at the end."""
    pools = []

    def make(fault: str, folder: Path | None = None, times: int = 1, count: int = 2, **settings: Any) -> Processes:
        pool = Processes(fatal_robot.family(fault, folder, times).make_envs, count, **settings)
        pools.append(pool)
        return pool

    yield make
    for pool in pools:
        pool.close()


@pytest.mark.parametrize("fault", ["raise", "exit", "kill", "segfault", "sleep", "stuck"])
def test_a_block_that_fails_twice_comes_out_the_same(made, trial, expected, tmp_path: Path, fault: str) -> None:
    said: list[str] = []
    pool = made(fault, tmp_path, 2, silent=0.5, say=said.append)
    assert_same(trial(point_robot()).play(pool), expected)
    assert len(said) == 2
    assert all("its block of tasks is played again" in line for line in said)
    assert len(pool._workers) == 2


WORDS = {
    "raise": ("raised RuntimeError: the gripper is stuck", "in break_down"),
    "exit": ("died (exit code 3)", ""),
    "kill": ("died (signal SIGKILL, perhaps for want of memory)", ""),
    "segfault": ("died (signal SIGSEGV)", "in break_down"),
    "stuck": ("made no step for 0.5 s and was ended", "in break_down"),
    "never made": ("raised RuntimeError: the model is missing", "in __init__"),
}


@pytest.mark.parametrize("fault", [*(f for f in WORDS if f != "stuck"), pytest.param("stuck", marks=pytest.mark.slow)])
def test_a_block_that_fails_three_times_ends_it_with_the_workers_traceback(made, trial, fault: str) -> None:
    pool = made(fault, silent=0.5)
    what, line = WORDS[fault]
    with pytest.raises(BlockError) as caught:
        trial(point_robot()).play(pool)
    message = str(caught.value)
    assert "of 4 (task" in message
    assert f"failed 3 times in worker processes; the last one {what}" in message
    assert "'goal': [" in message
    assert line in caught.value.trace
    assert ("".join(getattr(caught.value, "__notes__", [])) != "") == bool(line)
    assert all(worker.block is None for worker in pool._workers)


@pytest.mark.parametrize(
    ("fault", "words"),
    [("nan", "got a reward that is not finite"), ("overflow", "a step size or a factor overflows float32")],
)
def test_numbers_that_are_not_finite_end_it_at_once(made, trial, tmp_path: Path, fault: str, words: str) -> None:
    pool = made(fault, tmp_path, 100, count=1)
    with pytest.raises(NotFiniteError, match=words):
        trial(point_robot()).play(pool)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_block_that_failed_never_comes_to_this_process(made, trial, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "PAYS_AFTER", 0.0)
    pool = made("kill", at_once=False)
    while not pool._was_ready:  # this process plays until the first worker is there
        try:
            trial(point_robot()).play(pool)
        except BlockError:
            return
    with pytest.raises(BlockError):
        trial(point_robot()).play(pool)


def test_warnings_and_output_of_workers_come_to_this_process(
    made, trial, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from metarl.own_code import guest

    monkeypatch.setattr(guest, "_said", set())
    monkeypatch.setattr(guest, "_output", guest.LimitedOutput(2))
    pool = made("talk")
    for collect in range(3):
        trial(point_robot()).play(pool, collect)
    pool.close()
    out, err = capfd.readouterr()
    assert not out
    assert err.count("warning: the gripper squeaks") == 1
    assert 1 <= err.count("it is cold here") <= 2


def test_workers_see_the_present_environment_variables(made, trial, monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("new", "newer"):  # the server is older than these
        monkeypatch.setenv("METARL_NEW", value)
        with pytest.raises(BlockError, match=f"it is {value};"):
            trial(point_robot()).play(made("environment"))


def test_children_of_a_worker_that_is_killed_end_too(made, trial, soon) -> None:
    pool = made("child", count=1)
    seen: list[int] = []

    def kill() -> None:
        soon(lambda: pids(pool))
        (worker,) = pids(pool)
        soon(lambda: _children(worker))
        seen.extend([worker, *_children(worker)])
        for other in pool._workers:
            other._silence = 0.0
        pool._silent = 0.3

    thread = threading.Thread(target=kill)
    thread.start()
    with pytest.raises(BlockError):
        trial(point_robot()).play(pool)
    thread.join()
    assert len(seen) >= 2
    soon(lambda: all(map(gone, seen)))


def _children(pid: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        fields = _text(path).rpartition(")")[2].split()
        if fields and fields[1] == str(pid):
            found.append(int(path.parent.name))
    return found


def test_a_pool_that_is_closed_while_it_starts_leaves_nothing(soon) -> None:
    pool = Processes(point_robot().make_envs, 3)
    workers = list(pool._workers)
    pool.close()
    soon(lambda: all(worker._settled and worker.pid is None for worker in workers))
    assert all(worker.connection.closed and worker.files.outbox.descriptor == -1 for worker in workers)


def test_a_pool_that_is_forgotten_ends_its_workers(trial, soon) -> None:
    pool = Processes(point_robot().make_envs, 1)
    trial(point_robot()).play(pool)
    there = pids(pool)
    del pool
    soon(lambda: all(map(gone, there)))


def test_workers_that_cannot_start_end_it_with_one_line(monkeypatch: pytest.MonkeyPatch, trial) -> None:
    def fail(*_: object) -> None:
        raise OSError("no more processes")

    monkeypatch.setattr(pool_module, "start_server", fail)
    with pytest.raises(WorkersError, match="no more processes"):
        Processes(point_robot().make_envs, 2)


@pytest.mark.parametrize("where", ["server", "worker"])
def test_without_workers_auto_goes_on_in_this_process(
    monkeypatch: pytest.MonkeyPatch, trial, expected, where: str
) -> None:
    from metarl.workers import worker as worker_module

    def fail(*_: object, **__: object) -> None:
        raise OSError("no more processes")

    monkeypatch.setattr(pool_module, "PAYS_AFTER", 0.0)
    if where == "server":
        monkeypatch.setattr(pool_module, "start_server", fail)
    else:
        monkeypatch.setattr(worker_module, "one_start", fail)
    said: list[str] = []
    pool = Processes(point_robot().make_envs, 2, at_once=False, say=said.append)
    for _ in range(100):
        assert_same(trial(point_robot()).play(pool), expected)
    pool.close()
    (line,) = said
    assert "sampling goes on in this process" in line
    assert "no more processes" in line


def test_the_switch_to_workers_changes_no_bit(monkeypatch: pytest.MonkeyPatch, trial, expected) -> None:
    monkeypatch.setattr(pool_module, "PAYS_AFTER", math.inf)
    pool = Processes(point_robot().make_envs, 2, at_once=False)
    assert_same(trial(point_robot()).play(pool), expected)
    assert not pool._workers
    monkeypatch.setattr(pool_module, "PAYS_AFTER", 0.0)
    here = 0
    while not pool._was_ready and here < 10_000:
        assert_same(trial(point_robot()).play(pool), expected)
        here += 1
    assert pool._was_ready
    for _ in range(3):
        assert_same(trial(point_robot()).play(pool), expected)
    pool.close()


def test_what_cannot_be_packed_is_refused_or_played_here(trial, expected) -> None:
    make_envs = fatal_robot.unpicklable().make_envs
    with pytest.raises(WorkersError, match="the environments cannot be sent to worker processes"):
        Processes(make_envs, 2)
    one = trial(point_robot())
    one.agent.acting_part = lambda: (x for x in ())
    said: list[str] = []
    pool = Processes(point_robot().make_envs, 2, at_once=False, say=said.append)
    one.play(pool)
    one.play(pool)
    (line,) = said
    assert "the agent cannot be sent" in line
    pool.close()
    strict = Processes(point_robot().make_envs, 1)
    with pytest.raises(WorkersError, match="the agent cannot be sent"):
        one.play(strict)
    strict.close()


def test_many_workers_get_more_open_files(monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (300, limits[1]))
    try:
        pool_module._allow_files(1000)
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (min(1000, limits[1]), limits[1])
        pool_module._allow_files(500)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == min(1000, limits[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_a_copy_of_a_worker_that_an_environment_forks_answers_nothing(made, trial, expected, tmp_path: Path) -> None:
    said: list[str] = []
    pool = made("fork", tmp_path, 100, say=said.append)
    for _ in range(5):
        assert_same(trial(point_robot()).play(pool), expected)
    assert len(list(tmp_path.iterdir())) > 5
    assert not said
