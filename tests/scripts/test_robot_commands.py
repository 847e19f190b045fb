"""Robots from MJCF files on the command line: what is refused, and runs from training to a picture."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from metarl.scripts.off_screen import use_off_screen_rendering

MODELS = Path(__file__).resolve().parents[1] / "robots" / "models"
WALKER = f"mjcf:{MODELS}/servo_quadruped.xml?payload=uniform(0,2)&motor_strength=uniform(0.7,1.1)"
TINY = ("--tasks", "2", "--episodes", "2", "--horizon", "10", "--iterations", "1", "--eval-every", "0")


@pytest.mark.parametrize(
    ("family", "said"),
    [
        ("mjcf:missing.xml?payload=uniform(0,1)", "got no file missing.xml"),
        ("mjcf:notes.xml?payload=uniform(0,1)", "expected a MuJoCo XML file"),
        ("mjcf:bare.xml?payload=uniform(0,1)", "got a model without actuators"),
        (f"mjcf:{MODELS}/servo_quadruped.xml?weight=uniform(0,1)", "neither a variation nor an option"),
        (f"mjcf:{MODELS}/servo_quadruped.xml?payload=uniform(0,1)&keyframe=sit", "expected 'home'"),
        (
            f"mjcf:{MODELS}/gravity_compensated_arm.xml?goal=uniform([5,5,5],[6,6,6])",
            "got a goal that cannot be reached, expected one nearer",
        ),
        ("menagerie:unitree_go2?payload=uniform(0,1)", "expected one of its folders with XML files: it has none"),
    ],
)
@pytest.mark.parametrize("command", ["train", "check"])
def test_refusals_are_one_line_and_write_nothing(
    run_metarl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, family: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MENAGERIE_ROOT", str(tmp_path))
    (tmp_path / "notes.xml").write_text("not XML", encoding="utf-8")
    (tmp_path / "bare.xml").write_text("<mujoco><worldbody/></mujoco>", encoding="utf-8")
    words = ("train", "rl2", family, "--out", "run") if command == "train" else ("check", family)
    code, _, err = run_metarl(*words)
    assert code == 2
    (line,) = err.strip().splitlines()
    assert said in line
    assert not (tmp_path / "run").exists()


def test_a_robot_is_trained_and_evaluated(run_metarl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(MODELS)
    out, family = tmp_path / "run", WALKER.replace(f"{MODELS}/", "")
    code, _, err = run_metarl("train", "rl2", family, "--out", out, *TINY)
    assert code == 0, err
    assert "note: task=walk, 50 actions per second; episodes start from the keyframe 'home'" in err
    assert "note: actions: 8 joint targets within 0.4 rad of home" in err
    saved = json.loads((out / "config.json").read_text(encoding="utf-8"))
    assert saved["family"] == WALKER  # the full path, so that the run can be evaluated from anywhere
    assert saved["agent_config"]["units"] == 32  # the preset of robots that walk
    monkeypatch.chdir(tmp_path)
    code, said, err = run_metarl("evaluate", out, "--tasks", "2", "--episodes", "2", "--json")
    assert code == 0, err
    assert json.loads(said.splitlines()[-1])["family"] == WALKER


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("payload=uniform(0,2)", r"'payload' from 0 to 2: hand is gravity compensated \(gravcomp=1\), so another mass"),
        ("latency=uniform(0,0.5)", r"'latency': other values .* A reason: both ends are a delay of 0 env steps"),
        ("motor_strength=uniform(0.7,1.1)", ""),
    ],
)
def test_a_training_says_first_which_variation_is_silent_and_why(run_metarl, tmp_path: Path, query: str, said: str):
    family = f"mjcf:{MODELS}/gravity_compensated_arm.xml?{query}&task=hold"
    code, _, err = run_metarl("train", "multitask", family, "--out", tmp_path / "run", *TINY, "--workers", "0")
    assert code == 0, err
    warnings = [line for line in err.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == bool(said)
    assert all(re.search(f"{said}.*; see metarl check", line) for line in warnings)


def test_results_do_not_depend_on_the_number_of_workers(run_metarl, tmp_path: Path) -> None:
    noisy = f"{WALKER}&sensor_noise=uniform(0,1)&latency=uniform(0,3)&push=uniform(-5,5)&breaking=uniform(0.2,0.8)"
    returns = []
    for workers in ("0", "2"):
        out = tmp_path / workers
        code, _, err = run_metarl(
            "train", "multitask", noisy, "--out", out, *TINY, "--blocks", "2", "--workers", workers
        )
        assert code == 0, err
        line = json.loads((out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[0])
        returns.append([value for key, value in sorted(line.items()) if "return" in key])
    assert returns[0]
    assert returns[0] == returns[1]


def test_an_own_reward_is_never_imported_from_a_file(
    run_metarl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_gait_reward.py").write_text("def reward(state):\n    return -state.power\n", encoding="utf-8")
    family, out = f"{WALKER}&task=my_gait_reward:reward", tmp_path / "run"
    code, _, err = run_metarl("train", "multitask", family, "--out", out, *TINY, "--workers", "0")
    assert code == 0, err
    code, _, err = run_metarl("evaluate", out, "--tasks", "2", "--episodes", "2")
    assert code == 2
    assert "is code of your own; name it again with --family" in err
    assert run_metarl("evaluate", out, "--tasks", "2", "--episodes", "2", "--family", family)[0] == 0


def test_pictures_show_the_robot_and_its_goal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    problem = use_off_screen_rendering()
    if problem:
        pytest.skip(problem)
    code = f"""
from metarl.registry import make_family
from metarl.types import Task

for query in ("site=tip&tolerance=0.1", "task=hold&payload=uniform(0,1)"):
    family = make_family("mjcf:{MODELS}/gravity_compensated_arm.xml?" + query)
    envs = family.make_envs(1, 1, 5)
    envs.set_tasks([Task.of("f", goal=(0.3, -0.3, 0.9), payload=0.5)])
    envs.reset(seed=0)
    picture = envs.render_row(0, 200, 150).astype(int)
    envs.close()
    print(((picture[..., 0] > 120) & (picture[..., 1] < 70) & (picture[..., 2] < 70)).sum(), picture.std() > 10)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (red, varied), without = (line.split() for line in done.stdout.splitlines())
    assert int(red) > 20
    assert varied == "True"
    assert without == ["0", "True"]


def test_usage_and_list_mention_robots(run_metarl) -> None:
    assert "mjcf:PATH?payload=uniform(0,5)" in run_metarl("train", "--help")[1]
    listed = re.sub(r"\s+", " ", run_metarl("list")[1])
    assert "menagerie:" in listed
