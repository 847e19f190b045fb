"""What environments of users do besides stepping, and what becomes of it: the right thing, or one clear line."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from metarl import Task, gymnasium_family, uniform
from metarl.gymnasium_envs import rows
from metarl.gymnasium_envs.check.contract import check_family
from metarl.measure import settled
from metarl.own_code import guest
from metarl.own_code.errors import EnvError
from metarl.vector import random_actions

ROBOTS = Path(__file__).resolve().parents[2] / "robots"
TASK = Task.of("habit", goal=(0.5, 0.0))


@pytest.fixture(autouse=True)
def said(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The warnings of this test; modules of robots are found by name."""
    monkeypatch.syspath_prepend(ROBOTS)
    monkeypatch.setattr(guest, "_said", set())
    return guest._said


@pytest.fixture
def habits() -> Any:
    import habits

    return habits


@pytest.fixture
def batch() -> Any:
    """One task in E rows of a family, stepped by `workers`; closed at the end."""
    with contextlib.ExitStack() as stack:

        def made(family: Any, workers: str = "sync", e: int = 1, **settings: Any) -> Any:
            stepping = replace(family.stepping, workers=workers, **settings)
            envs = family.with_stepping(stepping).make_envs(1, e, 5)
            stack.callback(envs.close)
            envs.set_tasks([TASK])
            return envs

        yield made


def steps(envs: Any) -> Any:
    rng = np.random.default_rng(0)
    return [envs.step(random_actions(envs.single_action_space, envs.num_envs, rng)) for _ in range(5)]


def played(envs: Any) -> Any:
    """One episode, and the end of the batch, whatever happens in it."""
    try:
        envs.reset(seed=0)
        return steps(envs)
    finally:
        envs.close()


BOTH = pytest.mark.parametrize("workers", ["sync", "async"])


@BOTH
def test_arrays_of_one_number_are_numbers(habits: Any, batch: Any, workers: str) -> None:
    plain, arrays = batch(habits.family(habits.Point)), batch(habits.family(habits.ArraysOfOne), workers)
    assert np.array_equal(plain.reset(seed=0)[0], arrays.reset(seed=0)[0])
    for one, two in zip(steps(plain), steps(arrays), strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one[:4], two[:4], strict=True))
        assert two[4]["success"][0] == (two[0][0, 0] > 0.0)


def test_a_success_that_is_none_is_unknown(habits: Any, batch: Any) -> None:
    envs = batch(habits.family(habits.SuccessIsNone))
    envs.reset(seed=0)
    assert all("success" not in infos for *_, infos in steps(envs))


@pytest.mark.parametrize("told_by", ["succeed", lambda info: info["succeed"]])
def test_success_may_have_another_name(habits: Any, batch: Any, told_by: Any) -> None:
    envs = batch(habits.family(habits.Says, success=told_by))
    assert envs.reports_success
    envs.reset(seed=0)
    assert all(infos["success"].all() for *_, infos in steps(envs))


@BOTH
@pytest.mark.parametrize(
    ("what", "line"),
    [
        ("old reset", r"reset returned an array of shape \(2,\), expected \(observation, info\)"),
        ("old step", "step returned 4 values, expected 5: observation, reward, terminated, truncated, info"),
        ("nothing", "reset: got the observation None, expected one of Box"),
        ("whole", "reset: got the observation .*0.5 is no uint8"),
        ("choice", "reset: got the observation .*is not in MultiDiscrete"),
        ("no reward", "step: the reward is None, expected a single number"),
        ("rewards", r"step: the reward is an array of shape \(2,\), expected a single number"),
        ("successes", r"info\['success'\] is an array of shape \(2,\).*gymnasium_family\(\.\.\., success="),
    ],
)
def test_a_wrong_answer_is_one_line_with_its_task(habits: Any, batch: Any, what: str, line: str, workers: str) -> None:
    envs = batch(habits.family(habits.Says, what), workers)
    with pytest.raises(EnvError, match=line + r".*row 0, task: goal = \(0\.5, 0\.0\)") as caught:
        played(envs)
    assert not caught.value.trace, "the environment raised nothing"


def test_check_says_the_old_api_and_takes_numpys_truth_values(habits: Any) -> None:
    for what, words in (("old reset", "(observation, info)"), ("old step", "step returned 4 values, expected 5")):
        (problem,) = check_family(habits.family(habits.Says, what))
        assert problem.kind == "space"
        assert words in problem.message

    class NumpyFlags(habits.Point):  # type: ignore[misc]
        def flags(self) -> Any:
            return np.bool_(False), np.bool_(False)

    env = NumpyFlags()
    assert not [p for p in check_family(habits.family(lambda: env)) if p.kind == "gymnasium"]
    assert "step" not in vars(env)


@BOTH
def test_an_episode_whose_first_observation_is_no_number_diverges(
    habits: Any, batch: Any, workers: str, said: set[str]
) -> None:
    envs = batch(habits.family(habits.LateSensor), workers, e=2)
    first, _ = envs.reset(seed=0)
    assert np.isfinite(first).all()
    assert not envs.step(np.zeros((2, 1)))[4]["diverged"].any()
    again, _ = envs.reset(seed=1, options={"reset_mask": np.array([True, False])})
    assert np.array_equal(again[0], np.zeros(2))
    _, reward, terminated, _, infos = envs.step(np.zeros((2, 1)))
    assert infos["diverged"].tolist() == terminated.tolist() == [True, False]
    assert reward[0] == 0.0
    assert [line for line in said if "not finite" in line]
    assert np.isfinite(envs.reset(seed=2, options={"reset_mask": np.array([True, False])})[0]).all()
    assert not envs.step(np.zeros((2, 1)))[4]["diverged"].any()


def test_what_is_infinite_in_float32_diverges(habits: Any, batch: Any) -> None:
    envs = batch(habits.family(habits.Huge))
    observation, _ = envs.reset(seed=0)
    assert np.isfinite(observation.astype(np.float32)).all()
    assert envs.step(np.zeros((1, 1)))[4]["diverged"].all()


@pytest.mark.parametrize(("kind", "task_by"), [("ChangesItsTask", "set_task"), ("ChangesItsOptions", "options")])
def test_an_array_changed_in_place_is_whole_again_in_the_next_episode(
    habits: Any, batch: Any, kind: str, task_by: Any
) -> None:
    envs = batch(habits.family(getattr(habits, kind), task_by=task_by))
    rewards = []
    for _ in range(2):
        envs.reset(seed=0)
        rewards.append([reward for _, reward, *_ in steps(envs)])
    assert np.array_equal(*rewards)


@BOTH
@pytest.mark.parametrize("where", ["set_task", "reset", "step"])
def test_sys_exit_ends_the_run_with_a_traceback_and_one_line(habits: Any, batch: Any, where: str, workers: str) -> None:
    family = habits.family(habits.Leaves)
    leaving = replace(family.make_envs.maker, make_env=habits.partial(habits.Leaves, where))
    envs = batch(family.with_single_envs(replace(family.make_envs, maker=leaving)), workers)
    place = "reset" if where == "set_task" else where
    with pytest.raises(EnvError, match=rf"called sys\.exit\(3\) in {place}, row 0, task") as caught:
        played(envs)
    assert "in leave" in caught.value.trace


def test_sys_exit_when_it_is_made_is_said(habits: Any) -> None:
    with pytest.raises(EnvError, match=r"called sys\.exit when it was made"):
        habits.family(habits.Leaves, "set_task")


@BOTH
@pytest.mark.parametrize("how", ["raises", "hangs", "exits"])
def test_a_close_that_fails_is_a_warning_of_one_line(
    habits: Any, batch: Any, how: str, workers: str, capfd: pytest.CaptureFixture[str]
) -> None:
    family = habits.family(habits.Leaves, "close") if how == "exits" else habits.family(habits.Closes, how)
    capfd.readouterr()
    guest._said.clear()
    envs = batch(family, workers, e=3, timeout=0.5, **({"processes": 1} if workers == "async" else {}))
    envs.reset(seed=0)
    steps(envs)
    began = time.monotonic()
    envs.close()
    assert time.monotonic() - began < 5.0, "the second and third close are not waited for"
    (line,) = capfd.readouterr().err.strip().splitlines()
    assert line.startswith("warning: ")
    assert "close" in line
    assert not multiprocessing.active_children()


@BOTH
def test_a_close_that_raises_hides_nothing(habits: Any, batch: Any, workers: str) -> None:
    envs = batch(habits.family(habits.Closes, "lost"), workers)
    with pytest.raises(EnvError, match=r"ConnectionError in step .the simulator is gone.") as caught:
        played(envs)
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
        steps(envs)
        assert signal.getsignal(signal.SIGINT) is before
        assert os.getcwd() == folder


def test_workers_draw_different_numbers_of_numpys_own_generator_and_repeat_them(habits: Any, batch: Any) -> None:
    first = []
    for _ in range(2):
        envs = batch(habits.family(habits.GlobalNoise), "async", e=4, processes=2)
        first.append(envs.reset(seed=1)[0][:, 0])
    assert len(set(first[0])) == 4
    assert np.array_equal(*first)


def alive(pid: float) -> bool:
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{int(pid)}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def gone(pids: Any) -> bool:
    end = time.monotonic() + 10.0
    while time.monotonic() < end and any(map(alive, pids)):
        time.sleep(0.02)
    return not any(map(alive, pids))


def test_workers_may_start_processes_which_end_with_them(habits: Any, batch: Any) -> None:
    family = habits.family(habits.Point)
    maker = replace(family.make_envs.maker, make_env=habits.OwnProcess)
    family = family.with_single_envs(replace(family.make_envs, maker=maker))
    other = batch(habits.family(habits.Point), "async", e=2, processes=2)
    other.reset(seed=0)
    envs = batch(family, "async", e=2, processes=2)
    pids = envs.reset(seed=0)[0]
    assert all(map(alive, pids.ravel()))
    envs.close()
    assert gone(pids.ravel())
    steps(other)  # its workers are still there
    dying = batch(family, "async", e=2, processes=2)
    pids = dying.reset(seed=0)[0]
    os.kill(int(pids[0, 1]), signal.SIGKILL)
    with pytest.raises(EnvError, match=r"worker process died .signal SIGKILL"):
        steps(dying)
    assert gone(pids[:, 1])
    for engine in filter(alive, pids[:, 0]):
        os.kill(int(engine), signal.SIGKILL)


def test_workers_that_nobody_closed_end_with_the_process(tmp_path: Path) -> None:
    code = f"""
import sys
sys.path.insert(0, {str(ROBOTS)!r})
import habits
from metarl import Task
if __name__ == "__main__":
    envs = habits.family(habits.Point, workers="async").make_envs(1, 2, 5)
    envs.set_tasks([Task.of("habit", goal=(0.5, 0.0))])
    envs.reset(seed=0)
    print("done", flush=True)
    globals()["kept"] = [envs, envs.reset]
"""
    (tmp_path / "script.py").write_text(code)
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


def test_auto_takes_this_process_where_workers_do_not_work(
    habits: Any, said: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("metarl.measure.available_cores", lambda: 2)
    monkeypatch.setattr("metarl.measure.MEASURED_SECONDS", 0.01)
    lock = threading.Lock()  # which no other process can have
    stepping = settled(habits.family(lambda: habits.Point() if lock else None, workers="auto"), 4)
    assert stepping is not None
    assert stepping.workers == "sync"
    (line,) = said
    assert "worker processes fail: the environment cannot be started" in line


@pytest.mark.parametrize(
    ("low", "high", "dtype", "expected"),
    [
        ([-np.inf, 0.0, -1.0, -np.inf], [1.0, np.inf, 1.0, np.inf], np.float32, None),
        ([np.finfo(np.float32).min], [np.finfo(np.float32).max], np.float32, (-np.inf, np.inf)),
        ([-1e308, 0.0], [1e308, 1e308], np.float64, None),
        ([-0.1], [0.1], np.float64, (-0.1, 0.1)),
    ],
)
def test_an_environment_gets_actions_of_its_space_whatever_its_bounds(
    habits: Any, batch: Any, low: Any, high: Any, dtype: Any, expected: Any
) -> None:
    from metarl.learning.experience.actions import ActionMap

    envs = batch(habits.family(habits.Bounded, low, high, dtype))
    if expected:
        assert (envs.spaces.action_low[0], envs.spaces.action_high[0]) == expected
    envs.reset(seed=0)
    for output in (-1e3, -1.0, 0.3, 1.0, 1e3):
        action = ActionMap(envs.spaces, 1.0).to_environment(np.full((1, len(low)), output, np.float32))
        assert np.isfinite(action).all()
        assert np.abs(action).max() <= 1e3
        envs.step(action)  # the environment asserts that it is in its space


class Graph(gymnasium.Env):
    """Of given spaces; it does nothing."""

    def __init__(self, observation: Any = None, action: Any = None) -> None:
        self.observation_space, self.action_space = observation, action

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return self.observation_space.sample(), {}

    def set_task(self, task: Any) -> None:
        pass


class NoSeed(Graph):
    def reset(self) -> Any:  # type: ignore[override]
        return self.observation_space.sample()


class Plain:
    set_task = Graph.set_task


class Custom(spaces.Space[Any]):
    """A space of the user's own, which nothing flattens."""


class OldGym(Plain):
    __module__ = "gym.core"


BOX = spaces.Box(-1.0, 1.0, (2,))


@pytest.mark.parametrize(
    ("env", "line"),
    [
        (Plain(), "got a Plain, expected a gymnasium.Env; let the class inherit from it"),
        (OldGym(), "old package gym: write `import gymnasium as gym`"),
        (None, "make_env returned None, expected a gymnasium.Env"),
        (Graph(None, BOX), "got none as observation_space of Graph"),
        (Graph(BOX, SimpleNamespace(shape=(2,))), "got a types.SimpleNamespace as action_space"),
        (NoSeed(BOX, BOX), "reset of NoSeed takes no seed"),
        (Graph(spaces.Graph(BOX, None), BOX), "expected one that flattens to numbers"),
        (Graph(spaces.Sequence(BOX), BOX), "expected one that flattens to numbers"),
        (Graph(spaces.Dict(a=BOX, b=spaces.Sequence(BOX)), BOX), "expected one that flattens to numbers"),
        (Graph(Custom(), BOX), "expected one that flattens to numbers"),
        (Graph(spaces.Box(-1.0, 1.0, (0,)), BOX), "got an observation space of no numbers"),
        (Graph(BOX, spaces.Box(-1.0, 1.0, (0,))), "got an action space of no numbers"),
        (Graph(BOX, spaces.Tuple([BOX, spaces.Discrete(2)])), "expected a Discrete, or a Box"),
    ],
)
def test_what_is_no_environment_of_ours_is_refused_in_one_line(env: Any, line: str) -> None:
    with pytest.raises(ValueError, match=line) as caught:
        gymnasium_family(lambda: env, name="x", parameters=[uniform("goal", -1.0, 1.0, meaning="")], task_by="set_task")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (np.full((2, 3, 3), 0.9, np.float32), 230),
        (np.full((2, 3, 3), 200.4), 200),
        (np.full((2, 3, 3), 7, np.int64), 7),
        (np.full((2, 3, 3), np.nan), "no colours"),
        (np.full((2, 3, 3), 300), "no colours"),
        (np.zeros((2, 3)), "shape"),
        (None, "returned None"),
    ],
)
def test_pictures_of_other_numbers_become_bytes_or_are_refused(
    habits: Any, batch: Any, frame: Any, expected: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(habits.Draws, "picture", frame)
    envs = batch(habits.family(habits.Draws))
    envs.reset(seed=0)
    if isinstance(expected, str):
        with pytest.raises(EnvError, match=expected):
            envs.render_row(0, 10, 10)
    else:
        picture = envs.render_row(0, 10, 10)
        assert picture.dtype == np.uint8
        assert (picture == expected).all()


@BOTH
def test_prints_of_environments_do_not_bury_what_a_command_says(
    habits: Any, batch: Any, workers: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(guest, "_output", guest.LimitedOutput())
    envs = batch(habits.family(habits.Prints), workers, e=3, **({"processes": 2} if workers == "async" else {}))
    for seed in range(4):
        envs.reset(seed=seed)
        steps(envs)
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


def test_a_time_limit_within_another_leaves_that_one_running() -> None:
    began = time.monotonic()

    def wait() -> None:
        with guest.time_limit(0.4):
            with guest.time_limit(5.0):
                pass
            time.sleep(10.0)

    with pytest.raises(guest.NoAnswerError, match=r"time limit of 0\.4 s"):
        wait()
    assert time.monotonic() - began < 5.0


def test_check_and_what_looks_at_an_environment_wait_for_no_close(
    habits: Any, said: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("metarl.gymnasium_envs.rows.FAREWELL_SECONDS", 0.2)
    began = time.monotonic()
    env = habits.Closes("hangs")
    env.step(np.zeros(1, np.float32))
    rows.farewell(env)
    assert time.monotonic() - began < 5.0
    assert any("hangs in close" in line for line in said)


# Exceptions that are odd themselves -------------------------------------------------------------------------


class MuteError(Exception):
    """An exception that cannot tell its message."""

    def __str__(self) -> str:
        raise RuntimeError("no")


def test_an_exception_that_cannot_tell_its_message_is_named() -> None:
    assert rows.what_it_did(MuteError(), "step") == "the environment raised MuteError in step"
    assert rows.what_it_did(ValueError("two\nlines"), "step") == "the environment raised ValueError in step (two lines)"


def test_a_keyboard_interrupt_of_the_environments_own_is_an_error_in_a_worker(batch, habits) -> None:
    envs = batch(habits.family(habits.Interrupts), "async", e=2, processes=1)
    with pytest.raises(EnvError, match="the environment raised KeyboardInterrupt in step, row 0, task: goal"):
        played(envs)
