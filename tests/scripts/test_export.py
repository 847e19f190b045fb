"""`metarl export`: what it writes, what the script plays, and what it refuses."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import pytest

import metarl
from metarl.checkpoint import list_checkpoints
from metarl.exporting.playing import environment
from metarl.runs import RunConfig
from metarl.scripts.families import family_name_of_run

NO_METARL = """
import sys
sys.modules |= {"metarl": None, "torch": None, "onnx": None, "gymnasium": None}
from pathlib import Path
from run_policy import Policy
policy = Policy(Path("."))
for _ in range(2):
    first = policy.act([0.1, -0.2])
    policy.observe(-0.5, False)
    print(first.tolist(), policy.act([0.2, 0.3]).tolist())
    policy.new_trial()
"""


@pytest.fixture(scope="session")
def trained_rl2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from metarl.scripts.cli import main

    out = tmp_path_factory.mktemp("rl2") / "run"
    words = "--iterations 1 --tasks 2 --episodes 2 --horizon 6 --eval-every 0 --agent.units 8"
    assert main(["train", "rl2", "point-robot", "--out", str(out), *words.split()]) == 0
    return out


@pytest.fixture(scope="session")
def exported_rl2(trained_rl2: Path) -> Path:
    from metarl.scripts.cli import main

    out = trained_rl2.parent / "robot"
    assert main(["export", str(trained_rl2), "--out", str(out), "--task", "3"]) == 0
    return out


def run_python(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *words]
    return subprocess.run(command, cwd=folder, env=os.environ, capture_output=True, text=True, check=False)


def returns_of_metarl(run: Path, contract: dict[str, Any], episodes: int) -> list[float]:
    """Returns of the agent's own mode in the environment of a contract, the same seeds."""
    agent, envs, returns = metarl.load(run), environment(contract), []
    state = agent.begin(envs.tasks, 1)
    for episode in range(episodes):
        seen, _ = envs.reset(seed=episode)
        builder = metarl.TrajectoryBuilder(1, 1, agent.spaces, seen, agent.recorded)
        while builder.unfinished:
            action, state = agent.act(state, builder.step, np.random.default_rng(0), mode=True)
            seen, reward, terminated, truncated, _ = envs.step(action.environment[0])
            builder.add(action, seen, reward, terminated, truncated)
        state = agent.adapt(state, builder.build())
        returns.append(float(builder.build().returns()[0, 0]))
    return returns


def test_the_script_earns_what_the_agent_earns(trained_rl2: Path, exported_rl2: Path) -> None:
    assert sorted(path.name for path in exported_rl2.iterdir()) == ["contract.json", "policy.onnx", "run_policy.py"]
    done = run_python(exported_rl2.parent, "robot/run_policy.py", "--play", "3")
    assert (done.returncode, done.stderr) == (0, "")
    contract = json.loads((exported_rl2 / "contract.json").read_text())
    earned = returns_of_metarl(trained_rl2, contract, 3)
    assert done.stdout.splitlines() == [f"episode {k + 1}: return {one:.2f}" for k, one in enumerate(earned)]


def test_the_script_needs_neither_metarl_nor_torch(exported_rl2: Path) -> None:
    done = run_python(exported_rl2, "-c", NO_METARL)
    assert done.returncode == 0, done.stderr
    one, again = done.stdout.splitlines()
    assert one == again, "a new trial forgets"
    lines = [line for line in (exported_rl2 / "run_policy.py").read_text().splitlines() if line.strip()]
    assert len(lines) <= 45


def test_the_contract_says_what_the_numbers_are(exported_rl2: Path) -> None:
    contract = json.loads((exported_rl2 / "contract.json").read_text())
    sizes = {one["name"]: one["shape"] for one in contract["inputs"]}
    assert sizes == {
        "observation": [2],
        "previous_action": [2],
        "previous_reward": [1],
        "done": [1],
        "memory": [9],
    }
    assert [(one["name"], one["shape"]) for one in contract["outputs"]] == [("action", [2]), ("next_memory", [9])]
    assert contract["action"]["low"] == pytest.approx([-0.1, -0.1])
    assert contract["memory"]["at_start"] == "zeros"
    assert contract["adaptation"].startswith("in the memory")
    assert contract["acts_by"].startswith("its mode in every step, also while it explores")
    assert contract["rate"]["steps_per_episode"] == 6
    task = metarl.make_family("point-robot").distribution.held_out(4)[3]
    assert contract["task"] == task.to_json()
    assert contract["task_parameters"][0]["hidden"] is True
    assert {"onnx", "onnxruntime", "torch"} <= set(contract["versions"]["packages"])


def test_a_robot_has_names_units_and_a_rate(run_metarl, tmp_path: Path) -> None:
    words = "--iterations 1 --tasks 2 --episodes 2 --horizon 6 --eval-every 0 --agent.hidden 4"
    run, out = tmp_path / "run", tmp_path / "robot"
    assert run_metarl("train", "multitask", "half-cheetah-vel", "--out", run, *words.split())[0] == 0
    code, said, err = run_metarl("export", run, "--out", out, "--json")
    assert (code, err) == (0, "")
    assert json.loads(said.splitlines()[-1])["bytes"] == (out / "policy.onnx").stat().st_size
    contract = json.loads((out / "contract.json").read_text())
    names, units = contract["observation"]["names"], contract["observation"]["units"]
    assert len(names) == len(units) == 17
    assert (names[0], units[0]) == ("position of rootz", "m")
    assert (names[-1], units[-1]) == ("velocity of ffoot", "rad/s")
    assert contract["action"]["names"] == ["bthigh", "bshin", "bfoot", "fthigh", "fshin", "ffoot"]
    assert contract["rate"]["hertz"] == pytest.approx(20.0)
    assert contract["normalisation"]["formula"] == "clip((x - mean) / deviation, -10, 10)"
    agent = metarl.load(run)
    assert contract["normalisation"]["mean"] == pytest.approx(agent._input_moments.mean.tolist(), rel=1e-6)
    assert contract["normalisation"]["deviation"] == pytest.approx(agent._input_moments.deviation.tolist(), rel=1e-6)


def test_parameters_are_adapted_before_they_are_written(run_metarl, trained_run: Path) -> None:
    code, out, err = run_metarl("export", trained_run, "--out", "robot", "--episodes", "3")
    assert (code, err) == (0, "")
    assert "in the parameters: 3 episodes of `task`" in out
    assert run_metarl("export", trained_run, "--out", "again", "--episodes", "3")[0] == 0
    assert run_metarl("export", trained_run, "--out", "before", "--adapt-steps", "0")[0] == 0
    graphs = [Path(name, "policy.onnx").read_bytes() for name in ("robot", "again", "before")]
    assert graphs[0] == graphs[1], "the same seed"
    assert graphs[0] != graphs[2]
    said = json.loads(Path("before/contract.json").read_text())["adaptation"]
    assert said == "none: the parameters are those of the run"
    assert not list(Path().glob(".*")), "nothing is left beside"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("run", "got no --out (PATH Folder to create). See metarl export --help"),
        ("run --out run", "--out: got run, which exists already; expected another name"),
        ("run --out no/robot", "--out: got no/robot, but folder no does not exist; create it first"),
        (
            "run --out robot --task 100",
            "--task: got 100, expected 0 to 99: 'point-robot' has no more tasks in --split test",
        ),
        ("run --out robot --task x", "--task: got 'x', expected a whole number. See metarl export --help"),
        (
            "run --out robot --family half-cheetah-dir",
            f"export: the agent was built for 2 observations, actions from {(-0.10000000149011612,) * 2} to "
            f"{(0.10000000149011612,) * 2} and horizon 12, but 'half-cheetah-dir' has 17 observations, actions from "
            f"{(-1.0,) * 6} to {(1.0,) * 6} and horizon 12",
        ),
    ],
)
def test_bad_input_is_one_line(run_metarl, trained_run: Path, capsys, words: str, said: str) -> None:
    capsys.readouterr()
    before = sorted(Path().rglob("*"))
    assert run_metarl("export", *words.split()) == (2, "", f"metarl: error: {said}\n")
    assert sorted(Path().rglob("*")) == before


def test_a_bad_run_is_refused_as_by_an_evaluation(run_metarl, trained_run: Path, capsys) -> None:
    capsys.readouterr()
    for path in list_checkpoints(trained_run / "checkpoints"):
        path.write_bytes(b"cut short")
    for run in ("nowhere", "run"):
        refused = run_metarl("export", run, "--out", "robot")
        assert refused == run_metarl("evaluate", run)
        assert refused[0] == 2
        assert len(refused[2].splitlines()) == 1
    assert not Path("robot").exists()


def test_a_memory_without_its_noise_is_said(run_metarl, trained_rl2: Path, trained_run: Path) -> None:
    code, out, err = run_metarl("export", trained_rl2, "--out", "quiet", "--json")
    assert (code, err) == (0, "")
    said = next(line for line in out.splitlines() if line.startswith("note: "))
    assert "acts by its mode, also while it explores, but it was trained with noise" in said
    assert f"metarl evaluate {trained_rl2} --actions mode-only" in said
    assert "--sample exports it with its noise" in said
    assert "trained with noise" in json.loads(out.splitlines()[-1])["acts_by"]
    _, out, _ = run_metarl("export", trained_rl2, "--out", "loud", "--sample")
    assert "note: " not in out
    assert json.loads(Path("loud/contract.json").read_text())["acts_by"] == "random numbers: the input `noise`"
    _, out, _ = run_metarl("export", trained_run, "--out", "gradient", "--adapt-steps", "0")
    assert "note: " not in out, "adapted from sampled episodes before"
    assert json.loads(Path("gradient/contract.json").read_text())["acts_by"] == "its mode"


def test_a_memory_needs_no_adaptation_episodes(run_metarl, trained_rl2: Path) -> None:
    code, _, err = run_metarl("export", trained_rl2, "--out", "robot", "--adapt-steps", "2")
    said = "--adapt-steps: got 2, but rl2 adapts by its memory while it acts; leave it out"
    assert (code, err) == (2, f"metarl: error: {said}\n")


def test_episodes_that_no_memory_holds_are_refused(run_metarl, trained_run: Path, monkeypatch, capsys) -> None:
    capsys.readouterr()
    monkeypatch.setattr("metarl.memory.free_memory", lambda: 2.0**20)
    code, out, err = run_metarl("export", trained_run, "--out", "robot", "--episodes", "100000")
    assert (code, out) == (2, "")
    assert "recording 100,000 episodes of 12 steps" in err


def test_without_the_packages_one_line_says_so(run_metarl, trained_run: Path, monkeypatch, capsys) -> None:
    capsys.readouterr()
    monkeypatch.setattr("metarl.exporting.graph.find_spec", lambda name: None)
    code, out, err = run_metarl("export", trained_run, "--out", "robot")
    assert (code, out) == (2, "")
    assert err == (
        "metarl: error: export: the package 'onnx' is not installed, expected onnx, onnxscript, onnxruntime; run: pip "
        'install "metarl-robots[export]"\n'
    )


def test_code_of_ones_own_is_named_again(exported_rl2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    robot = Path(shutil.copytree(exported_rl2, tmp_path / "robot"))
    contract = json.loads((robot / "contract.json").read_text()) | {"family": "mine:points"}
    (robot / "contract.json").write_text(json.dumps(contract))
    (tmp_path / "mine.py").write_text(
        "from metarl.registry import make_family\nprint('mine')\ndef points():\n    return make_family('point-robot')\n"
    )
    monkeypatch.chdir(tmp_path)
    done = run_python(tmp_path, "robot/run_policy.py", "--play", "1")
    assert done.returncode == 1
    said = "--family: got none, but 'mine:points' is code of your own; name it again with --family"
    assert (done.stdout, done.stderr) == ("", f"run_policy.py: error: {said}\n")
    done = run_python(tmp_path, "robot/run_policy.py", "--play", "1", "--family", "mine:points")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("mine\nepisode 1: return ")


def test_playing_without_metarl_is_one_line(exported_rl2: Path) -> None:
    play = (
        "import sys, runpy\nsys.modules['metarl'] = None\n"
        "sys.argv = ['run_policy.py', '--play', '2']\nrunpy.run_path('run_policy.py', run_name='__main__')"
    )
    done = run_python(exported_rl2, "-c", play)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("run_policy.py: error: --play needs metarl: ")
    assert len(done.stderr.splitlines()) == 1


def test_a_robots_file_is_named_by_its_full_path(run_metarl, tmp_path: Path, monkeypatch) -> None:
    models = Path(__file__).resolve().parent.parent / "robots" / "models"
    monkeypatch.chdir(shutil.copytree(models, tmp_path / "models"))
    family = "mjcf:servo_quadruped.xml?payload=uniform(0,1)&horizon=5"
    words = ("--iterations", "1", "--tasks", "2", "--episodes", "1", "--workers", "0", "--track", "none")
    assert run_metarl("train", "multitask", family, "--out", tmp_path / "run", *words)[0] == 0
    code, _, err = run_metarl("export", tmp_path / "run", "--out", tmp_path / "robot", "--family", family)
    assert code == 0, err
    contract = json.loads((tmp_path / "robot" / "contract.json").read_text(encoding="utf-8"))
    assert contract["family"] == f"mjcf:{tmp_path}/models/servo_quadruped.xml?payload=uniform(0,1)&horizon=5"
    monkeypatch.chdir(tmp_path)
    environment(contract).close()


def test_a_gymnasium_family_keeps_its_variations(trained_rl2: Path) -> None:
    run = dataclasses.replace(RunConfig.read(trained_rl2), family="gym:CartPole-v1?gravity=uniform(8,11)")
    for named in (None, "gym:CartPole-v1"):
        assert family_name_of_run(run, named) == run.family


@pytest.mark.parametrize(
    "change", [{"family": 3}, {"rate": None}, {"rate": {"steps_per_episode": 0}}, {"task": {"family": "point-robot"}}]
)
def test_a_contract_that_makes_no_environment_is_one_line(exported_rl2: Path, change: dict[str, Any]) -> None:
    contract = json.loads((exported_rl2 / "contract.json").read_text()) | change
    with pytest.raises(
        SystemExit, match=r"^run_policy\.py: error: contract\.json: got no family, task or steps[^\n]*$"
    ):
        environment(contract)


@pytest.fixture
def agent_without_a_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    def write() -> None:
        (tmp_path / "mine.py").write_text(
            "from metarl.agents.maml_trpo import MamlTrpo\nclass Mine(MamlTrpo):\n    policy_step = None\n"
        )
        monkeypatch.syspath_prepend(tmp_path)

    return write


def test_an_agent_without_a_step_is_refused(run_metarl, tiny, agent_without_a_step) -> None:
    agent_without_a_step()
    assert run_metarl("train", "mine:Mine", "point-robot", "--out", "run", *tiny, "--workers", "0")[0] == 0
    code, _, err = run_metarl("export", "run", "--out", "robot", "--agent", "mine:Mine")
    assert code == 2
    assert err.endswith("which has no policy_step, expected one of metarl's agents\n"), err


def test_the_contract_of_a_robot_says_what_an_action_does_and_when(run_metarl, tmp_path: Path) -> None:
    model = Path(__file__).resolve().parent.parent / "robots" / "models" / "servo_quadruped.xml"
    words = ("--iterations", "1", "--tasks", "2", "--episodes", "1", "--workers", "0", "--track", "none")
    family = f"mjcf:{model}?payload=uniform(0,1)&latency=uniform(0,2)&horizon=10&scale=0.3"
    assert run_metarl("train", "multitask", family, "--out", tmp_path / "run", *words)[0] == 0
    code, _, err = run_metarl("export", tmp_path / "run", "--out", tmp_path / "robot")
    assert code == 0, err
    contract = json.loads((tmp_path / "robot" / "contract.json").read_text(encoding="utf-8"))
    assert contract["rate"]["step_seconds"] == pytest.approx(0.02)
    home = mujoco.MjModel.from_xml_path(str(model)).key("home").ctrl
    controls = contract["action"]["controls"]
    assert controls["centre"] == pytest.approx(home)
    assert controls["scale"] == pytest.approx([0.3] * len(home))
    assert len(set(contract["action"]["names"])) == len(home)
    assert (controls["kind"], controls["unit"]) == (["servo"] * len(home), ["rad"] * len(home))
    robot = mujoco.MjModel.from_xml_path(str(model))
    assert controls["gains"]["kp"] == pytest.approx(robot.actuator_gainprm[:, 0])
    assert controls["gains"]["kd"] == pytest.approx(-robot.actuator_biasprm[:, 2])
    at = {one["name"]: (one["position"], one["unit"]) for one in contract["home"]["joints"]}
    qpos = robot.key("home").qpos
    for name, (position, unit) in at.items():
        assert (position, unit) == (pytest.approx(qpos[robot.joint(name).qposadr[0]]), "rad")
    assert contract["observation"]["names"][: len(at)] == [f"position of {name} relative to home" for name in at]
    assert contract["home"]["site"] is None
    assert "U(0, 2)" in contract["delay"]
    done = run_python(tmp_path, "robot/run_policy.py")
    assert done.returncode == 0, done.stderr
    assert "--play N plays episodes" in done.stderr
