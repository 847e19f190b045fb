"""Custom environments in worker processes: the same episodes as in this process, and what happens if they fail."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metarl import Family, Task
from metarl.gymnasium_envs.from_gym import gym_family
from metarl.own_code import guest
from metarl.own_code.errors import EnvError
from metarl.workers.choice import WorkerChoice, make_player
from metarl.workers.faults import BlockError, WorkersError
from metarl.workers.pool import Processes

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def robots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules that worker processes find by name."""
    monkeypatch.syspath_prepend(ROOT / "tests" / "robots")
    monkeypatch.syspath_prepend(ROOT / "docs" / "examples")


def assert_equal(one: list[Any], two: list[Any]) -> None:
    for a, b in zip(one, two, strict=True):
        for name in ("all_observations", "actions", "rewards", "mask", "terminated", "truncated", "diverged"):
            assert np.array_equal(getattr(a, name), getattr(b, name)), name


@pytest.mark.parametrize("name", ["gym:CartPole-v1?gravity=uniform(2,20)", "reach", "reach by options"])
def test_the_same_episodes_as_in_this_process_bit_for_bit(play: Any, name: str) -> None:
    import reach

    makers = {"reach": reach.make_family, "reach by options": reach.by_options}
    family: Family = makers[name]() if name in makers else gym_family(name)
    tasks = family.distribution.held_out(5)
    here, there = (play(family, workers, tasks, horizon=30, collects=2) for workers in (0, 2))
    assert_equal(here, there)
    assert bool(here[0].terminated.any()) == name.startswith("gym:CartPole"), "poles fall"
    assert not np.array_equal(here[0].all_observations, here[1].all_observations)


def test_global_generators_repeat_whoever_plays_and_stay_the_callers(habits: Any, play: Any) -> None:
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    here, there = (play(habits.family(habits.GlobalNoise), workers, collects=2) for workers in (0, 2))
    assert_equal(here, there)
    starts = [tuple(collect.all_observations[..., 0, 0].ravel()) for collect in here]
    assert len({number for start in starts for number in start}) == 8, "every row, block and collect differs"
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002


# Failures ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "message", "trace"),
    [
        (
            "raise",
            r"raised RuntimeError in step \(the gripper is stuck\), row",
            "in break_down",
        ),
        ("unpicklable", "failed: the environment raised Local in step", "never seen by the parent"),
        ("exit", r"died \(exit code 3\) in row", ""),
        ("segfault", r"died \(signal SIGSEGV\) in row", "in break_down"),
        ("hang", "raised NoAnswerError in step .no answer within the time limit of 1 s", "in break_down"),
        pytest.param(
            "stuck",
            r"hangs: no answer within the time limit of 1 s \(--timeout\) in row",
            "in break_down",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_block_that_fails_three_times_names_row_and_task(play: Any, fault: str, message: str, trace: str) -> None:
    from faulty_robot import family

    broken = family(fault)
    if fault in ("hang", "stuck"):
        broken = broken.with_stepping(replace(broken.stepping, timeout=1.0))
    tasks = broken.distribution.held_out(2)
    with pytest.raises(
        BlockError, match=f"failed 3 times in worker processes; the last one {'.*' + message}"
    ) as caught:
        play(broken, 1, tasks, horizon=10)
    assert any(f"row {row}, task: goal = {task['goal'][0]!r};" in str(caught.value) for row in (0, 1) for task in tasks)
    assert trace in caught.value.trace
    if fault in ("raise", "unpicklable", "hang"):
        first = next(line for line in caught.value.trace.splitlines() if line.startswith("  File "))
        assert "faulty_robot.py" in first, "the traceback begins in the user's code"


def test_a_wrong_answer_has_a_line_and_no_traceback(habits: Any, play: Any) -> None:
    with pytest.raises(BlockError, match="the last one failed: the environment's step returned 4 values") as caught:
        play(habits.family(habits.Says, "old step"), 1)
    assert not caught.value.trace


@pytest.mark.parametrize(
    ("kind", "words"),
    [("Interrupts", "raised KeyboardInterrupt in step"), ("Leaves", r"called sys\.exit\(3\) in step")],
)
def test_exceptions_that_end_a_process_are_errors_too(habits: Any, play: Any, kind: str, words: str) -> None:
    values = ("step",) if kind == "Leaves" else ()
    with pytest.raises(BlockError, match=rf"the environment {words}, row 0, task: goal") as caught:
        play(habits.family(getattr(habits, kind), *values), 1)
    assert "habits.py" in caught.value.trace


def test_many_slow_calls_are_no_silence(play: Any) -> None:
    """Three calls of 0.4 s in a step, each within its limit, though none makes a step within 0.5 s."""
    from faulty_robot import family

    slow = family("sleep", after=0)
    sampled = Processes(slow.make_envs, 1, silent=0.5)
    try:
        (collect,) = play(slow, sampled, slow.distribution.held_out(2), episodes=3, horizon=1)
    finally:
        sampled.close()
    assert collect.mask.all()


def test_what_cannot_be_sent_is_said_unless_its_name_is_known() -> None:
    from broken_robots import unpicklable

    said: list[str] = []
    with pytest.raises(WorkersError, match=r"the environments cannot be sent to worker processes.*lock.*--workers 0"):
        make_player(WorkerChoice(2), unpicklable(), "", 2, say=said.append)
    player = make_player(WorkerChoice(2), unpicklable(), "broken_robots:unpicklable", 2, say=said.append)
    assert isinstance(player, Processes)
    player.close()
    assert not said
    assert not multiprocessing.active_children()


# Side effects -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["raises", "exits", "hangs"])
def test_a_close_that_fails_is_a_warning(habits: Any, play: Any, how: str, said: set[str]) -> None:
    family = habits.family(habits.Leaves, "close") if how == "exits" else habits.family(habits.Closes, how)
    player = Processes(family.with_stepping(replace(family.stepping, timeout=0.5)).make_envs, 1)
    play(family, player)
    player.close()
    assert not multiprocessing.active_children()
    (line,) = said
    assert "close" in line


def test_a_diverged_episode_is_one_warning(habits: Any, play: Any, said: set[str]) -> None:
    play(habits.family(habits.LateSensor), 2, collects=3)
    (line,) = said
    assert line.startswith("an observation or a reward is not finite in float32; such episodes count as diverged")


def test_the_first_lines_of_environments_are_passed_on(
    habits: Any, play: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(guest, "_output", guest.LimitedOutput())
    play(habits.family(habits.Prints), 2, collects=4)
    print("ours")
    out, err = capfd.readouterr()
    assert out == "ours\n"
    lines = err.splitlines()
    assert lines[-1] == guest.NOT_SHOWN
    assert len(lines) == guest.SHOWN_LINES + 1
    assert set(lines[:-1]) == {"still here", "still there"}


def test_the_working_directory_and_handlers_of_an_environment_stay_its_own(
    habits: Any, play: Any, tmp_path: Path
) -> None:
    (tmp_path / "model.xml").write_text("<mujoco/>")
    folder, before = os.getcwd(), signal.getsignal(signal.SIGINT)
    collects = play(habits.family(habits.Handles, str(tmp_path)), 2, collects=2)
    assert all(collect.mask.all() for collect in collects)
    assert os.getcwd() == folder
    assert signal.getsignal(signal.SIGINT) is before


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone(pids: Any) -> bool:
    end = time.monotonic() + 10.0
    while time.monotonic() < end and any(map(alive, pids)):
        time.sleep(0.02)
    return not any(map(alive, pids))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("how", ["closed", "killed"])
def test_processes_of_environments_end_with_their_worker(habits: Any, play: Any, how: str) -> None:
    family = habits.family(habits.Point)
    maker = replace(family.make_envs.maker, make_env=habits.OwnProcess)
    family = family.with_single_envs(replace(family.make_envs, maker=maker))
    player = Processes(family.make_envs, 2)
    (collect,) = play(family, player)
    engines, workers = (set(collect.all_observations[:, :, 0, i].astype(int).ravel().tolist()) for i in (0, 1))
    assert len(engines) == 2 * len(workers)  # of two rows; one worker may play both blocks
    assert all(map(alive, engines | workers))
    if how == "killed":
        for worker in workers:
            os.kill(worker, signal.SIGKILL)
        assert gone(workers)
    player.close()
    assert gone(engines | workers)


def test_an_exception_in_this_process_is_no_error_of_a_block(play: Any) -> None:
    from faulty_robot import family

    with pytest.raises(EnvError, match=r"raised RuntimeError in step .the gripper is stuck.*task: goal = 0\.25$"):
        play(family("raise"), 0, [Task.of("faulty", goal=0.25), Task.of("faulty", goal=0.5)], horizon=10)
