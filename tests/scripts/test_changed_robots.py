"""Runs whose robot's file has changed, or has moved, since the training."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from metarl.files import write_json
from metarl.runs import RunConfig

MODELS = Path(__file__).resolve().parents[1] / "robots" / "models"
QUERY = "motor_strength=uniform(0.7,1.1)&task=hold"
TINY = ("--tasks", "2", "--episodes", "2", "--horizon", "10", "--eval-every", "0", "--workers", "0", "--track", "none")
SMALL = ("--tasks", "2", "--episodes", "2", "--workers", "0")
OTHER = "has changed since the training"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a robot's file and a run on it, to be copied."""
    from metarl.scripts.cli import main

    folder = tmp_path_factory.mktemp("trained")
    (folder / "robots").mkdir()
    robot = Path(shutil.copy(MODELS / "gravity_compensated_arm.xml", folder / "robots" / "arm.xml"))
    words = ("train", "multitask", f"mjcf:{robot}?{QUERY}", "--out", str(folder / "arm"), *TINY, "--iterations", "1")
    assert main(words) == 0
    return folder


@pytest.fixture
def robot(trained: Path, tmp_path: Path) -> Path:
    """A copy of a robot's file that may be edited."""
    shutil.copytree(trained / "robots", tmp_path / "robots")
    return tmp_path / "robots" / "arm.xml"


@pytest.fixture
def run(trained: Path, robot: Path, tmp_path: Path) -> Path:
    """A run on the robot."""
    out = Path(shutil.copytree(trained / "arm", tmp_path / "arm"))
    write_json(out / "config.json", {**config_of(out), "family": f"mjcf:{robot}?{QUERY}"})
    return out


def config_of(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "config.json").read_text(encoding="utf-8"))
    return found


def train(run_metarl: Any, robot: Path, out: Path, *words: str, iterations: int) -> tuple[int, str, str]:
    family = f"mjcf:{robot}?{QUERY}"
    answer: tuple[int, str, str] = run_metarl(
        "train", "multitask", family, "--out", out, *TINY, "--iterations", str(iterations), *words
    )
    return answer


def edit(robot: Path) -> None:
    text = robot.read_text(encoding="utf-8")
    assert "mass=" in text
    first = text.index('mass="') + len('mass="')
    robot.write_text(text[:first] + "1" + text[first:], encoding="utf-8")


def test_commands_warn_of_another_robot_and_record_which_one(
    run_metarl, run: Path, robot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("metarl.scripts.report.use_off_screen_rendering", lambda: None)
    trained = RunConfig.read(run).family_digest
    report = ("report", run, "--tasks", "2", "--no-films", "--workers", "0", "--out")
    assert run_metarl(*report, tmp_path / "one.html")[0] == 0
    edit(robot)
    code, _, err = run_metarl("evaluate", run, *SMALL, "--out", tmp_path / "evaluated")
    assert code == 0, err
    (line,) = [line for line in err.splitlines() if line.startswith("warning: ")]
    assert line.startswith(f"warning: the robot of {run} {OTHER}: mjcf:{robot}?")
    assert line.endswith("results are of another robot")
    value = json.loads((tmp_path / "evaluated" / "evaluation.json").read_text(encoding="utf-8"))
    assert value["family_digest"] not in ("", trained)
    code, _, err = run_metarl("compare", run, *SMALL)
    assert (code, err.count(OTHER)) == (0, 1)
    code, _, err = run_metarl(*report, tmp_path / "two.html")
    assert code == 0, err
    assert OTHER in err
    assert f"evaluating {run}" in err  # the stored evaluation is of the robot before
    found = [json.loads(path.read_text(encoding="utf-8")) for path in run.glob("evaluation*/evaluation.json")]
    assert {one["family_digest"] for one in found} == {trained, value["family_digest"]}
    assert "evaluating" not in run_metarl(*report, tmp_path / "three.html")[2]


def test_a_page_has_the_name_of_the_file_and_no_path(
    run_metarl, run: Path, robot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("metarl.scripts.report.use_off_screen_rendering", lambda: "no OpenGL")
    assert run_metarl("report", run, "--tasks", "2", "--workers", "0", "--out", tmp_path / "page.html")[0] == 0
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "mjcf:arm.xml?motor_strength" in page
    assert str(tmp_path) not in page


def test_a_run_is_not_resumed_on_another_robot(run_metarl, run: Path, robot: Path) -> None:
    before, config = robot.read_text(encoding="utf-8"), (run / "config.json").read_text(encoding="utf-8")
    edit(robot)
    code, _, err = train(run_metarl, robot, run, "--resume", iterations=2)
    assert code == 2
    (line,) = [line for line in err.splitlines() if "error" in line]
    assert "another robot than that which" in line
    assert "restore it, or start a new run with another --out" in line
    assert (run / "config.json").read_text(encoding="utf-8") == config
    robot.write_text(before.replace("<worldbody>", "<!-- the same -->\n<worldbody>"), encoding="utf-8")
    code, _, err = train(run_metarl, robot, run, "--resume", iterations=2)
    assert code == 0, err


def test_a_run_is_resumed_on_the_same_robot_at_another_path(run_metarl, run: Path, robot: Path, tmp_path: Path) -> None:
    moved = Path(shutil.move(robot.parent, tmp_path / "renamed")) / robot.name
    code, _, err = train(run_metarl, moved, run, "--resume", iterations=2)
    assert code == 0, err
    assert RunConfig.read(run).family == f"mjcf:{moved}?{QUERY}"
    assert len((run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()) == 2
    edit(moved)
    further = Path(shutil.move(moved.parent, tmp_path / "further")) / robot.name
    code, _, err = train(run_metarl, further, run, "--resume", iterations=3)
    assert code == 2
    assert "another robot than that which" in err


@pytest.mark.parametrize(
    "command", [("evaluate",), ("compare",), ("render", "--out", "a.png"), ("export", "--out", "a"), ("report",)]
)
def test_a_file_that_moved_is_named_anew(
    run_metarl, run: Path, robot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("metarl.scripts.render.use_off_screen_rendering", lambda: None)
    monkeypatch.setattr("metarl.scripts.report.use_off_screen_rendering", lambda: None)
    monkeypatch.setattr("metarl.scripts.export.check_packages", lambda: None)
    moved = Path(shutil.move(robot, tmp_path / "moved.xml"))
    name, *words = command
    words += ["--out", "a.html"] if name == "report" else []
    code, _, err = run_metarl(name, run, *words)
    assert code == 2
    (line,) = err.strip().splitlines()
    assert f"got no file {robot}" in line
    assert line.endswith(f'if it was moved to NEW, name it anew: --family "mjcf:NEW?{QUERY}"')
    if name == "evaluate":
        code, _, err = run_metarl(name, run, *SMALL, "--family", f"mjcf:{moved}?{QUERY}")
        assert code == 0, err
        assert "warning" not in err


def test_early_runs_without_a_digest_are_read_as_before(run_metarl, run: Path, robot: Path) -> None:
    value = config_of(run)
    assert value.pop("family_digest")
    write_json(run / "config.json", value)
    edit(robot)
    code, _, err = run_metarl("evaluate", run, *SMALL)
    assert code == 0, err
    assert "warning" not in err
    assert train(run_metarl, robot, run, "--resume", iterations=2)[0] == 0
    write_json(run / "config.json", {**value, "family_digest": 1})
    code, _, err = run_metarl("evaluate", run, *SMALL)
    assert code == 2
    assert "family_digest: got 1, expected a text" in err


def test_a_digest_of_another_mujoco_says_nothing(run_metarl, run: Path, robot: Path) -> None:
    value = config_of(run)
    write_json(run / "config.json", {**value, "family_digest": "mujoco-0:0"})
    for code, _, err in (
        run_metarl("evaluate", run, *SMALL),
        train(run_metarl, robot, run, "--resume", iterations=2),
    ):
        assert code == 0, err
        assert "cannot be told: it was trained with mujoco-0, here is mujoco-" in err
