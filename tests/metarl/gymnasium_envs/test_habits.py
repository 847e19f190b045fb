"""Side effects of users' environments (processes, handlers, output, sys.exit): undone, or one clear line."""

from __future__ import annotations

import io
import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metarl.gymnasium_envs import rows
from metarl.own_code import guest
from metarl.own_code.errors import EnvError

ROBOTS = Path(__file__).resolve().parents[2] / "robots"


@pytest.mark.parametrize(("kind", "task_by"), [("ChangesItsTask", "set_task"), ("ChangesItsOptions", "options")])
def test_an_array_changed_in_place_is_whole_again_in_the_next_episode(
    habits: Any, batch: Any, kind: str, task_by: Any
) -> None:
    envs = batch(habits.family(getattr(habits, kind), task_by=task_by))
    rewards = []
    for _ in range(2):
        envs.reset(seed=0)
        rewards.append([reward for _, reward, *_ in habits.steps(envs)])
    assert np.array_equal(*rewards)


@pytest.mark.parametrize("where", ["set_task", "reset", "step"])
def test_sys_exit_ends_the_run_with_a_traceback_and_one_line(habits: Any, batch: Any, where: str) -> None:
    family = habits.family(habits.Leaves)
    leaving = replace(family.make_envs.maker, make_env=habits.partial(habits.Leaves, where))
    envs = batch(family.with_single_envs(replace(family.make_envs, maker=leaving)))
    place = "reset" if where == "set_task" else where
    with pytest.raises(EnvError, match=rf"called sys\.exit\(3\) in {place}, row 0, task") as caught:
        habits.played(envs)
    assert "in leave" in caught.value.trace


def test_sys_exit_when_it_is_made_is_said(habits: Any) -> None:
    with pytest.raises(EnvError, match=r"called sys\.exit when it was made"):
        habits.family(habits.Leaves, "set_task")


@pytest.mark.parametrize("how", ["raises", "hangs", "exits"])
def test_a_close_that_fails_is_a_warning_of_one_line(
    habits: Any, batch: Any, how: str, capfd: pytest.CaptureFixture[str], within: Any
) -> None:
    family = habits.family(habits.Leaves, "close") if how == "exits" else habits.family(habits.Closes, how)
    habits.Closes.hung = 0
    capfd.readouterr()
    guest._said.clear()
    envs = batch(family, e=3, timeout=0.5)
    envs.reset(seed=0)
    habits.steps(envs)
    with within(5.0):
        envs.close()
    if how == "hangs":
        assert habits.Closes.hung == 1, "the second and third close are not waited for"
    (line,) = capfd.readouterr().err.strip().splitlines()
    assert line.startswith("warning: ")
    assert "close" in line


def test_a_close_that_raises_hides_nothing(habits: Any, batch: Any) -> None:
    envs = batch(habits.family(habits.Closes, "lost"))
    with pytest.raises(EnvError, match=r"ConnectionError in step .the simulator is gone.") as caught:
        habits.played(envs)
    assert "in step" in caught.value.trace


def test_ctrl_c_and_the_working_directory_stay_ours(
    habits: Any, batch: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model.xml").write_text("<mujoco/>")
    monkeypatch.setattr(guest, "_folder", None)
    before, folder = signal.getsignal(signal.SIGINT), os.getcwd()
    envs = batch(habits.family(habits.Handles, str(tmp_path)))
    for seed in range(2):
        envs.reset(seed=seed)  # the environment finds its file again
        habits.steps(envs)
        assert signal.getsignal(signal.SIGINT) is before
        assert os.getcwd() == folder


def test_prints_of_environments_do_not_bury_what_a_command_says(
    habits: Any, batch: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(guest, "_output", guest.LimitedOutput())
    envs = batch(habits.family(habits.Prints), e=3)
    for seed in range(4):
        envs.reset(seed=seed)
        habits.steps(envs)
    envs.reset(seed=4)
    print("ours")
    out, err = capfd.readouterr()
    assert out == "ours\n"
    assert err.splitlines() == ["still here", "still there"] * (guest.SHOWN_LINES // 2) + [guest.NOT_SHOWN]


def test_limited_output_passes_on_whole_texts_until_the_limit() -> None:
    target = io.StringIO()
    output = guest.LimitedOutput(2).onto(target)
    for text in ("a", "b\n", "c\nd\n", "e\n"):
        output.write(text)
    assert target.getvalue() == f"ab\nc\n{guest.NOT_SHOWN}\n"


def test_a_time_limit_within_another_leaves_that_one_running(within: Any) -> None:
    def wait() -> None:
        with guest.time_limit(0.4):
            with guest.time_limit(5.0):
                pass
            time.sleep(10.0)

    with within(5.0), pytest.raises(guest.NoAnswerError, match=r"time limit of 0\.4 s"):
        wait()


def test_check_and_what_looks_at_an_environment_wait_for_no_close(
    habits: Any, said: set[str], monkeypatch: pytest.MonkeyPatch, within: Any
) -> None:
    monkeypatch.setattr("metarl.gymnasium_envs.rows.FAREWELL_SECONDS", 0.2)
    env = habits.Closes("hangs")
    env.step(np.zeros(1, np.float32))
    with within(5.0):
        rows.farewell(env)
    assert any("hangs in close" in line for line in said)


# Exceptions that are odd themselves -------------------------------------------------------------------------


class MuteError(Exception):
    """An exception that cannot tell its message."""

    def __str__(self) -> str:
        raise RuntimeError("no")


def test_an_exception_that_cannot_tell_its_message_is_named() -> None:
    assert rows.what_it_did(MuteError(), "step") == "the environment raised MuteError in step"
    assert rows.what_it_did(ValueError("two\nlines"), "step") == "the environment raised ValueError in step (two lines)"
