"""Studies of `metarl tune` that are killed or stopped, and studies of real trainings."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from metarl.scripts.child import MODULE, Child, wait_for_orphans

SPACE = ("--vary", "learning_rate=log(1e-4,1e-2)")
REAL = (
    "--iterations",
    "3",
    "--tasks",
    "3",
    "--episodes",
    "2",
    "--horizon",
    "8",
    "--eval-every",
    "1",
    "--eval-tasks",
    "3",
)
SMALL = ("--agent.units", "8", "--agent.encoder", "8", "--checkpoint-every", "1")


def parent(words: tuple[str, ...], module: str) -> subprocess.Popen[str]:
    """Runs `metarl WORDS` in a process of its own, whose trainings are a module."""
    heard = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)"
    fake = f"import metarl.scripts.child as c\nc.MODULE = {module!r}"
    program = f"{heard}\n{fake}\nfrom metarl.scripts.cli import main\nraise SystemExit(main({list(words)!r}))"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True, env=environment)


def wait_for_lines(process: subprocess.Popen[str], path: Path, lines: int) -> None:
    """Waits until a log has some lines (or the process is over)."""
    until = time.monotonic() + 120.0
    while process.poll() is None and time.monotonic() < until:
        if path.exists() and path.read_bytes().count(b"\n") >= lines:
            return
        time.sleep(0.01)
    raise AssertionError(f"{path} has no {lines} lines; {process.communicate()}")


def check_killed_and_resumed(out: Path, run: Callable[[], subprocess.Popen[str]], logs: tuple[str, ...]) -> None:
    """Kills a study while it trains: its trainings end, and the study goes on."""
    process = run()
    for log in logs:
        wait_for_lines(process, out / log, 2)
    process.kill()
    process.communicate()
    wait_for_orphans([(out / log).parent for log in logs], seconds=10.0)
    lengths = [(out / log).stat().st_size for log in logs]
    time.sleep(0.5)
    assert [(out / log).stat().st_size for log in logs] == lengths, "a training outlived its owner"


def test_a_study_whose_process_is_killed_goes_on(run_metarl, plan, tmp_path: Path, study, trials, states) -> None:
    plan(trial_0={"pause": 0.2}, trial_1={"pause": 0.2})
    words, out = study("--jobs", "2", "--prune-after", "1", number=4), tmp_path / "study"
    check_killed_and_resumed(
        out, lambda: parent(words, "fake_training"), ("trial-0/metrics.jsonl", "trial-1/metrics.jsonl")
    )
    assert states(out) == ["RUNNING", "RUNNING"]
    before = trials(out)
    code, _, err = run_metarl("tune", "rl2", "point-robot", "--out", "study", "--resume", "--trials", "4")
    assert code == 0, err
    after = trials(out)
    assert states(out) == ["COMPLETE"] * 4, "killed trials went on and were not counted twice"
    assert [one.params for one in after[:2]] == [one.params for one in before]
    for number in (0, 1):
        logged = (out / f"trial-{number}" / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(line)["iteration"] for line in logged] == [1, 2, 3, 4]


def test_a_training_that_outlives_its_owner_is_not_joined_by_another(
    run_metarl, plan, tmp_path: Path, monkeypatch, study
) -> None:
    plan(trial_0={"pause": 5.0})
    assert run_metarl(*study("--budget", "0.005", number=1))[0] == 0
    monkeypatch.setattr("metarl.scripts.tuning.search.wait_for_orphans", lambda f: wait_for_orphans(f, seconds=0.2))
    held = Child(["train", "--out", str(tmp_path / "study" / "trial-0")], tmp_path / "held.txt", one_thread=False)
    try:
        until = time.monotonic() + 20.0
        while "training" not in (tmp_path / "held.txt").read_text() and time.monotonic() < until:
            time.sleep(0.02)
        time.sleep(0.1)
        code, _, err = run_metarl("tune", "rl2", "point-robot", "--out", "study", "--resume", "--trials", "1")
    finally:
        held.kill()
    assert code == 2
    assert "trial-0, in which another process is training" in err


def test_ctrl_c_saves_the_study_and_says_how_to_go_on(run_metarl, plan, tmp_path: Path, study, states) -> None:
    plan(trial_0={"pause": 0.1}, trial_1={"pause": 0.1})
    words = study("--jobs", "2", "--iterations", "40", "--confirm", "2", number=3)
    process = parent(words, "fake_training")
    wait_for_lines(process, tmp_path / "study" / "trial-0" / "metrics.jsonl", 2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "go on with: metarl tune rl2 point-robot --out study --resume --trials 3 --jobs 2 --confirm 2" in err
    assert set(states(tmp_path / "study")) <= {"RUNNING", "WAITING"}
    page = (tmp_path / "study" / "tuning.md").read_text()
    assert "| unfinished |" in page
    assert "No trial is complete" in page
    wait_for_orphans([tmp_path / "study" / "trial-0"], seconds=1.0)


def test_a_second_ctrl_c_leaves_at_once(plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, study) -> None:
    monkeypatch.chdir(tmp_path)
    plan(trial_0={"pause": 30.0})
    process = parent(study("--jobs", "1", number=1), "fake_training")
    log = tmp_path / "study" / "trial-0" / "output.txt"
    until = time.monotonic() + 60.0
    while not (log.exists() and "training" in log.read_text()) and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "stopped at once; go on with: metarl tune" in err
    wait_for_orphans([tmp_path / "study" / "trial-0"], seconds=5.0)


# Real trainings ---------------------------------------------------------------------------------------------


def test_a_whole_study_of_trainings(run_metarl, tmp_path: Path, states) -> None:
    code, out, err = run_metarl(
        *("tune", "rl2", "point-robot", "--out", "study", "--trials", "3", "--jobs", "2", "--json"),
        *(*SPACE, *REAL, *SMALL, "--prune-after", "1"),
    )
    assert code == 0, err
    assert states(tmp_path / "study") == ["COMPLETE"] * 3
    value = json.loads(out.splitlines()[-1])
    again = ("--out", tmp_path / "again", "--track", "none")
    code, _, err = run_metarl(*value["words"], *again)
    assert code == 0, err
    mine = (tmp_path / "study" / f"trial-{value['best']['trial']}" / "metrics.jsonl").read_text().splitlines()
    theirs = (tmp_path / "again" / "metrics.jsonl").read_text().splitlines()
    for one, two in zip(map(json.loads, mine), map(json.loads, theirs), strict=True):
        assert {k: v for k, v in one.items() if "time" not in k} == {k: v for k, v in two.items() if "time" not in k}


@pytest.mark.slow
def test_the_best_and_the_preset_are_confirmed_by_fresh_seeds(run_metarl, tmp_path: Path) -> None:
    words = ("tune", "rl2", "point-robot", "--out", "study", "--trials", "3", "--jobs", "2")
    space = ("--vary", "learning_rate=choice(0.02,0.03)", "--seed", "5")
    code, out, err = run_metarl(*words, *space, *REAL, *SMALL, "--prune-after", "1", "--confirm", "2", "--json")
    assert code == 0, err
    value, page = json.loads(out.splitlines()[-1]), (tmp_path / "study" / "tuning.md").read_text()
    if value["best"]["trial"] == 0:
        assert "No trial beat the preset" in page
        return
    folder = tmp_path / "study" / "confirm"
    assert sorted(path.name for path in (folder / "preset").iterdir()) == ["seed-6", "seed-7"]
    found = json.loads(next(folder.glob("*/comparison.json")).read_text())
    assert (found["split"], found["tasks"]) == ("tune", 3)
    assert found["differences"][0]["difference"] == value["confirmed"]
    assert "best minus preset, 95 % interval over" in page
    assert ("confirmed" in page) or ("keep the preset" in page)
    began = time.monotonic()
    code, _, err = run_metarl(
        "tune", "rl2", "point-robot", "--out", "study", "--resume", "--trials", "3", "--confirm", "2"
    )
    assert code == 0, err
    assert (folder / "output.txt").read_text().count("picture:") == 1, "it is not compared again"
    assert time.monotonic() - began < 60.0


@pytest.mark.slow
def test_a_killed_study_of_trainings_ends_like_one_that_never_was(run_metarl, tmp_path: Path, trials) -> None:
    more = (*SPACE, *REAL, *SMALL, "--prune-after", "1", "--jobs", "2", "--iterations", "12")
    whole, killed = (
        ("tune", "rl2", "point-robot", "--out", out, "--trials", "2", *more) for out in ("whole", "killed")
    )
    assert run_metarl(*whole)[0] == 0
    logs = ("trial-0/metrics.jsonl", "trial-1/metrics.jsonl")
    check_killed_and_resumed(tmp_path / "killed", lambda: parent(killed, MODULE), logs)
    code, _, err = run_metarl("tune", "rl2", "point-robot", "--out", "killed", "--resume", "--trials", "2")
    assert code == 0, err
    assert [one.value for one in trials(tmp_path / "killed")] == [one.value for one in trials(tmp_path / "whole")]


@pytest.mark.slow
def test_an_environment_that_raises_fails_its_trials(run_metarl, tmp_path: Path, trials, states) -> None:
    (tmp_path / "falling.py").write_text(
        "import dataclasses\n"
        "from metarl.envs.point_robot import PointRobot, point_robot\n"
        "class Falls(PointRobot):\n"
        "    def _step_rows(self, rows, actions):\n"
        "        if self.num_envs >= 8:\n"
        "            raise RuntimeError('the arm fell off')\n"
        "        return super()._step_rows(rows, actions)\n"
        "def family():\n"
        "    return dataclasses.replace(point_robot(), name='falling', make_envs=Falls)\n"
    )
    words = ("tune", "rl2", "falling:family", "--out", "study", "--trials", "3", "--jobs", "1", "--blocks", "1")
    space = ("--vary", "tasks=choice(4,5)", "--tasks", "3")
    code, _, err = run_metarl(*words, *space, *REAL, *SMALL, "--prune-after", "1")
    assert code == 0, err
    assert states(tmp_path / "study") == ["COMPLETE", "FAIL", "FAIL"]
    assert all("the arm fell off" in trial.user_attrs["error"] for trial in trials(tmp_path / "study")[1:])
