"""Environments of one's own through the command line: training, going on, evaluating, and breaking down."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import metarl.scripts.catalogue
from metarl.checkpoint import list_checkpoints
from metarl.storage import read_tensors

ROOT = Path(__file__).resolve().parents[2]
PENDULUM = ("gym:Pendulum-v1", "--vary", "g=uniform(5,15)")
CART = ("gym:CartPole-v1", "--vary", "gravity=uniform(2,20)", "--vary", "force_mag=uniform(5,15)")
SMALL = {"pearl": ("--agent.gradient-steps", "2", "--agent.warmup-iterations", "1", "--agent.batch", "8")}


@pytest.fixture(autouse=True)
def robots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "tests" / "robots")
    monkeypatch.syspath_prepend(ROOT / "docs" / "examples")


def config(out: Path) -> Any:
    return json.loads((out / "config.json").read_text())


def final_bytes(out: Path) -> dict[str, bytes]:
    tensors, _ = read_tensors(list_checkpoints(out / "checkpoints")[-1])
    return {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}


@pytest.mark.parametrize("agent", ["maml-trpo", "rl2", "pearl"])
@pytest.mark.parametrize("family", [PENDULUM, CART, ("reach:make_family",)], ids=["pendulum", "cart", "dict"])
def test_every_agent_trains_on_every_kind(run_metarl, tmp_path: Path, tiny, agent: str, family) -> None:
    out, more = tmp_path / "run", SMALL.get(agent, ())
    code, _, err = run_metarl("train", agent, *family, "--out", out, *tiny, *more, "--workers", "0")
    if (agent, family) == ("pearl", CART):
        assert code == 2
        assert "pearl: got 2 discrete actions, expected continuous actions" in err
        assert not out.exists()
        return
    assert code == 0, err
    own = ("--family", *family) if family[0].startswith("reach") else ()
    code, shown, err = run_metarl("evaluate", out, "--tasks", "2", "--adapt-steps", "1", *own)
    assert code == 0, err
    assert "2 held-out tasks" in shown


def test_what_varies_is_recorded_and_who_plays_changes_nothing(run_metarl, tmp_path: Path, tiny) -> None:
    base = ("train", "maml-trpo", *PENDULUM, *tiny, "--eval-every", "0", "--blocks", "2")
    for name, workers, iterations in (("a", "0", "4"), ("b", "2", "2")):
        words = ("--out", tmp_path / name, "--workers", workers, "--iterations", iterations, "--timeout", "50")
        assert run_metarl(*base, *words)[0] == 0
    assert config(tmp_path / "b")["family"] == "gym:Pendulum-v1?g=uniform(5,15)"
    assert config(tmp_path / "b")["stepping"] == {"timeout": 50.0}
    resume = ("train", "maml-trpo", "gym:Pendulum-v1", "--out", tmp_path / "b", "--resume")
    assert run_metarl(*resume, "--iterations", "3", "--workers", "1", "--timeout", "40")[0] == 0
    assert config(tmp_path / "b")["stepping"] == {"timeout": 40.0}
    assert run_metarl(*resume, "--iterations", "4", "--workers", "0")[0] == 0
    assert final_bytes(tmp_path / "a") == final_bytes(tmp_path / "b"), "who plays changes nothing"
    code, _, err = run_metarl(*resume, "--vary", "g=uniform(5,16)")
    assert code == 2
    assert "family" in err
    code, _, err = run_metarl("compare", tmp_path / "a", tmp_path / "b", "--tasks", "2", "--episodes", "2")
    assert code == 2
    assert "trained with the same settings, with the same seed 0" in err, "a time limit makes no other training"


def test_a_run_with_the_earlier_settings_of_workers_goes_on(run_metarl, tmp_path: Path, tiny) -> None:
    words = ("train", "rl2", *PENDULUM, *tiny, "--out", tmp_path / "run", "--workers", "0")
    assert run_metarl(*words)[0] == 0
    path = tmp_path / "run" / "config.json"
    recorded = config(tmp_path / "run")
    path.write_text(json.dumps({**recorded, "stepping": {"workers": "async", "processes": 2, "timeout": 30.0}}))
    code, _, err = run_metarl("evaluate", tmp_path / "run", "--tasks", "2")
    assert code == 0, err
    code, _, err = run_metarl(*words, "--resume", "--iterations", "3")
    assert code == 0, err
    assert config(tmp_path / "run")["stepping"] == {"timeout": 30.0}


@pytest.mark.parametrize(("before", "now"), [("sync", "use 0 (this process)"), ("async", "use auto, or a number of")])
def test_earlier_values_of_workers_are_refused_with_what_replaces_them(run_metarl, tiny, before: str, now: str) -> None:
    code, _, err = run_metarl("train", "rl2", *PENDULUM, *tiny, "--workers", before)
    assert code == 2
    (line,) = err.strip().splitlines()
    assert line.startswith(f"metarl: error: workers: got '{before}', a value of an earlier version; {now}")


def test_a_class_of_ones_own_is_named_again_to_be_evaluated(run_metarl, tmp_path: Path, tiny) -> None:
    family = "gym:windy_point:WindyPoint?wind=uniform(-0.5,0.5,size=2)"
    words = ("train", "maml-trpo", family, "--out", tmp_path / "run", *tiny, "--workers", "0")
    assert run_metarl(*words)[0] == 0
    code, _, err = run_metarl("evaluate", tmp_path / "run")
    assert code == 2
    assert "name it again with --family" in err
    assert run_metarl("evaluate", tmp_path / "run", "--tasks", "2", "--family", family)[0] == 0


def test_the_time_limit_of_calls_is_no_option_of_other_families(run_metarl, tiny) -> None:
    code, _, err = run_metarl("train", "maml-trpo", "point-robot", "--timeout", "5", *tiny)
    assert code == 2
    assert "--timeout" in err
    code, out, _ = run_metarl("train", "maml-trpo", "gym:Pendulum-v1", "--help")
    assert code == 0
    for word in ("--vary", "--workers", "--timeout", "uniform(LOW,HIGH)"):
        assert word in out


def test_few_choices_need_no_fixed_set_for_pearl(run_metarl, tmp_path: Path, tiny) -> None:
    words = ("train", "pearl", "gym:Pendulum-v1", "--vary", "g=choice(5,10)", "--out", tmp_path / "run", *tiny)
    code, _, err = run_metarl(*words, *SMALL["pearl"], "--workers", "0")
    assert code == 0, err
    assert config(tmp_path / "run")["training"]["train_tasks"] == 0
    assert run_metarl("evaluate", tmp_path / "run")[1].count("training tasks") == 2


def test_a_drawn_goal_with_a_choice_is_trained_from_a_fixed_set(run_metarl, tmp_path: Path, tiny) -> None:
    """Both agree on what is possible: the command and the agent, whose replay has room for so many tasks."""
    base = ("train", "pearl", "mixed_robot:make_family", *tiny, *SMALL["pearl"], "--tasks", "4")
    code, _, err = run_metarl(*base, "--out", tmp_path / "run", "--train-tasks", "5", "--agent.replay-tasks", "5")
    assert code == 0, err
    assert config(tmp_path / "run")["training"]["train_tasks"] == 5
    code, _, err = run_metarl(*base, "--out", tmp_path / "default")
    assert code == 0, err
    assert config(tmp_path / "default")["training"]["train_tasks"] == 100, "the preset's"
    code, _, err = run_metarl(*base, "--out", tmp_path / "few", "--train-tasks", "1")
    assert code == 2
    assert "train_tasks: got 1, but training tasks of 'crippled-vel' have 2 values of actuator_gear; use 2" in err
    assert not (tmp_path / "few").exists()


def test_a_family_that_cannot_be_made_does_not_hide_the_others(run_metarl, monkeypatch: pytest.MonkeyPatch) -> None:
    def make_family(name: str) -> Any:
        if name == "bandit":
            raise ImportError("no such simulator")
        return honest(name)

    honest = metarl.scripts.catalogue.make_family
    monkeypatch.setattr("metarl.scripts.catalogue.make_family", make_family)
    code, out, err = run_metarl("list", "--json")
    assert code == 0
    found = {f["name"] for f in json.loads(out.splitlines()[-1])["families"]}
    assert "point-robot" in found
    assert "bandit" not in found
    assert "warning: family 'bandit' cannot be made (ImportError: no such simulator)" in err


# metarl check ---------------------------------------------------------------------------------------------


def test_check_ends_with_0_1_or_2(run_metarl) -> None:
    code, out, err = run_metarl("check", "broken_robots:sound", "--json")
    assert (code, json.loads(out.splitlines()[-1])) == (0, {"family": "Sound", "problems": []}), err
    code, out, _ = run_metarl("check", "broken_robots:leaks", "--json")
    assert code == 1
    assert "leak: component 1" in out
    assert json.loads(out.splitlines()[-1])["problems"][0]["kind"] == "leak"
    code, out, _ = run_metarl("check", *PENDULUM)
    assert code == 0
    assert "no problems found" in out
    for words in (("check", "nonsense"), ("check", "gym:Pendulum-v1"), ("check", *PENDULUM, "--vary", "g")):
        code, _, err = run_metarl(*words)
        assert code == 2
        assert len(err.strip().splitlines()) == 1


def test_check_shows_the_traceback_of_an_environment_that_raises(run_metarl) -> None:
    code, out, err = run_metarl("check", "faulty_robot:breaking")
    assert code == 1
    assert "fault: the environment raised RuntimeError (the gripper is stuck), task: goal = " in out
    assert "in break_down" in err


# Breaking down --------------------------------------------------------------------------------------------


PATIENCE = 300
"""Seconds for what takes a few on a machine that does nothing else."""


@pytest.fixture
def start() -> Any:
    """Trains in a session of its own, none of whose processes outlives the test."""
    started: list[subprocess.Popen[str]] = []

    def train(out: Path, family: str, *more: str) -> subprocess.Popen[str]:
        words = [Path(sys.executable).parent / "metarl", "train", "maml-trpo", family, "--out", out, "--tasks", "2"]
        words += ["--episodes", "3", "--eval-every", "0", "--checkpoint-every", "1", *more]
        path = os.pathsep.join([str(ROOT / "tests" / "robots"), str(ROOT / "docs" / "examples")])
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": path,
            "FAULTY_MARK": str(out.parent / "broken"),
        }
        process = subprocess.Popen(
            [str(w) for w in words], stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
        )
        started.append(process)
        return process

    yield train
    for process in started:
        for pid in members(process.pid):
            os.kill(pid, signal.SIGKILL)
        process.communicate()


def members(session: int) -> list[int]:
    """Processes of a session, zombies left out."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


def children(pid: int) -> list[int]:
    """Processes below a process; workers have sessions of their own."""
    found = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return found + [below for child in found for below in children(child)]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def assert_nobody_left(session: int) -> None:
    end = time.monotonic() + PATIENCE / 10
    while members(session) and time.monotonic() < end:
        time.sleep(0.05)
    assert not members(session)


def wait_for_lines(process: subprocess.Popen[str], out: Path, lines: int) -> None:
    path = out / "metrics.jsonl"
    while process.poll() is None and not (path.exists() and path.read_bytes().count(b"\n") >= lines):
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("family", "workers", "words", "limit"),
    [
        ("raising", "0", "the gripper is stuck", "60"),
        ("raising", "2", "the gripper is stuck", "60"),
        ("exiting", "2", "died (exit code 3) in row ", "60"),
        pytest.param("hanging", "2", "no answer within the time limit of 5 s", "5", marks=pytest.mark.slow),
        pytest.param("stuck", "2", "hangs: no answer within the time limit of 5 s", "5", marks=pytest.mark.slow),
    ],
)
def test_what_breaks_ends_the_run_with_its_traceback_and_a_whole_checkpoint(
    start, tmp_path: Path, family: str, workers: str, words: str, limit: str
) -> None:
    process = start(tmp_path / "run", f"faulty_robot:{family}", "--workers", workers, "--timeout", limit)
    wait_for_lines(process, tmp_path / "run", 1)
    (tmp_path / "broken").touch()
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == (1 if workers == "2" else 2), err
    assert ("in break_down" in err) == (family != "exiting")
    *_, last = err.strip().splitlines()
    assert last.startswith("metarl: error: ")
    assert ("failed 3 times in worker processes" in last) == (workers == "2")
    assert words in last
    assert "task: goal = " in last
    assert ".safetensors, is intact" in last
    assert "--resume" in last
    assert read_tensors(list_checkpoints(tmp_path / "run" / "checkpoints")[-1])
    assert_nobody_left(process.pid)


def test_a_killed_run_leaves_no_worker_even_one_that_hangs(start, tmp_path: Path) -> None:
    process = start(tmp_path / "run", "faulty_robot:hanging", "--workers", "2", "--timeout", "600")
    wait_for_lines(process, tmp_path / "run", 1)
    (tmp_path / "broken").touch()
    time.sleep(0.5)
    workers = children(process.pid)
    assert len(workers) > 2
    process.kill()
    process.communicate(timeout=PATIENCE)
    assert_nobody_left(process.pid)
    end = time.monotonic() + PATIENCE / 10
    while any(map(is_alive, workers)) and time.monotonic() < end:
        time.sleep(0.05)
    assert not [pid for pid in workers if is_alive(pid)]


def test_ctrl_c_reaches_the_workers_too_and_still_saves(start, tmp_path: Path) -> None:
    process = start(tmp_path / "run", "reach:make_family", "--workers", "2", "--iterations", "500")
    wait_for_lines(process, tmp_path / "run", 2)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, err
    assert "saved after iteration" in err
    assert "Traceback" not in err
    assert_nobody_left(process.pid)


@pytest.mark.bench_check
@pytest.mark.parametrize("agent", ["maml-trpo", "rl2", "pearl"])
@pytest.mark.parametrize("family", [PENDULUM, CART, ("reach:make_family",)], ids=["pendulum", "cart", "dict"])
def test_without_a_preset_an_iteration_takes_at_most_30_s(run_metarl, tmp_path: Path, agent: str, family) -> None:
    if (agent, family) == ("pearl", CART):
        pytest.skip("discrete actions")
    more = ("--agent.warmup-iterations", "1") if agent == "pearl" else ()
    code, _, err = run_metarl(
        "train", agent, *family, "--iterations", "2", "--eval-every", "0", "--out", tmp_path / "run", *more
    )
    assert code == 0, err
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["time/sample_s"] + rows[-1]["time/update_s"] <= 30
