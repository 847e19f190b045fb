from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest

from metarl.scripts import off_screen
from metarl.scripts.off_screen import use_off_screen_rendering

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def without_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skips the search for OpenGL, for families that do not need it, so that these tests run on any machine."""
    monkeypatch.setattr("metarl.scripts.render.use_off_screen_rendering", lambda: None)


@pytest.fixture
def robots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "tests" / "robots")
    monkeypatch.syspath_prepend(ROOT / "docs" / "examples")


def in_a_new_process(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a command in a new process, because MuJoCo reads MUJOCO_GL only when it is first imported."""
    code = "import sys; from metarl.scripts.cli import main; sys.exit(main())"
    env = {k: v for k, v in os.environ.items() if k != "MUJOCO_GL"} | {"OMP_NUM_THREADS": "1"} | environment
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, words)], env=env, capture_output=True, text=True, timeout=300
    )


def test_a_clip_shows_both_episodes_of_the_filmed_task(
    run_metarl, trained_run: Path, tmp_path: Path, without_probe
) -> None:
    words = ("render", trained_run, "--task", "2", "--adapt-steps", "2", "--width", "96", "--height", "64")
    code, out, err = run_metarl(*words, "--out", tmp_path / "clip.mp4", "--json")
    assert code == 0, err
    value = json.loads(out.splitlines()[-1])
    assert set(value) == {"agent", "family", "split", "task", "adapt_steps", "returns", "out"}
    assert (value["split"], value["adapt_steps"], len(value["returns"])) == ("test", 2, 2)
    assert "held-out task 2" in out
    assert "after 2 adaptation steps (4 episodes)" in out
    frames = iio.imread(tmp_path / "clip.mp4", plugin="pyav")
    assert frames.shape[0] == 13, "the start and 12 steps"
    assert len({frame.tobytes() for frame in frames}) > 5
    again = run_metarl(*words, "--out", tmp_path / "again.mp4", "--json")[1]
    assert json.loads(again.splitlines()[-1])["returns"] == value["returns"], "the same seed"


def test_a_picture_and_a_single_film_without_adaptation(
    run_metarl, trained_run: Path, tmp_path: Path, without_probe
) -> None:
    assert run_metarl("render", trained_run, "--out", tmp_path / "frame.png")[0] == 0
    assert run_metarl("render", trained_run, "--adapt-steps", "0", "--out", tmp_path / "one.png")[0] == 0
    two, one = (iio.imread(tmp_path / name).shape for name in ("frame.png", "one.png"))
    assert two[1] > 2 * 400 > one[1]
    assert one[0] >= two[0] > 3 * 300  # its title may need another line


def test_an_environment_of_ones_own_is_drawn_by_itself(run_metarl, tmp_path: Path, tiny, robots, without_probe) -> None:
    name = "drawn_robot:make_family"
    assert run_metarl("train", "rl2", name, "--workers", "1", "--out", tmp_path / "run", *tiny)[0] == 0
    words = ("render", tmp_path / "run", "--family", name, "--width", "30", "--height", "20")
    code, _, err = run_metarl(*words, "--out", tmp_path / "clip.gif")
    assert code == 0, err
    frames = iio.imread(tmp_path / "clip.gif")
    brightness = frames[:, -(8 + 20) + 2, 8 + 15].mean(axis=-1)  # near the upper edge of the left picture
    assert np.abs(brightness - 10 * np.arange(13)).max() < 6


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--out", "clip.avi"), ".mp4, .gif, .png"),
        (("--out", "taken.mp4"), "exists already"),
        (("--out", "nowhere/clip.mp4"), "create it first"),
        (("--out", "clip.mp4", "--task", "100"), "expected 0 to 99"),
        (("--out", "clip.mp4", "--width", "0"), "width"),
    ],
)
def test_bad_options_are_refused_in_one_line(
    run_metarl, trained_run: Path, tmp_path: Path, without_probe, words: tuple[str, ...], expected: str
) -> None:
    (tmp_path / "taken.mp4").write_bytes(b"mine")
    code, _, err = run_metarl("render", trained_run, *words)
    assert code == 2
    assert expected in err
    assert len(err.strip().splitlines()) == 1
    assert (tmp_path / "taken.mp4").read_bytes() == b"mine"
    assert not (tmp_path / "clip.mp4").exists()


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        ("bandit", "has no rendering"),
        ("drawn_robot:make_flat_family", "shape (20, 10)"),
        ("reach:make_family", "an argument render_mode"),
    ],
)
def test_a_family_that_cannot_be_rendered_says_why(
    run_metarl, tmp_path: Path, tiny, robots, without_probe, family: str, expected: str
) -> None:
    own = ("--family", family) if ":" in family else ()
    assert run_metarl("train", "rl2", family, "--out", tmp_path / "run", *tiny)[0] == 0
    code, _, err = run_metarl("render", tmp_path / "run", *own, "--out", tmp_path / "clip.mp4")
    assert code == 2
    assert expected in err.splitlines()[-1]
    assert not (tmp_path / "clip.mp4").exists()


def test_a_robot_is_filmed_without_a_screen(run_metarl, tmp_path: Path, tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    problem = use_off_screen_rendering()
    if problem:
        pytest.skip(problem)
    assert run_metarl("train", "maml-trpo", "half-cheetah-dir", "--out", tmp_path / "run", *tiny)[0] == 0
    words = ("render", tmp_path / "run", "--out", tmp_path / "clip.mp4", "--width", "160", "--height", "120")
    done = in_a_new_process(*words, "--fps", "10")
    assert done.returncode == 0, done.stderr
    assert "training task 0 (direction = -1)" in done.stdout
    frames = iio.imread(tmp_path / "clip.mp4", plugin="pyav").astype(int)
    assert frames.shape[0] == 7, "12 steps of 0.05 s at 10 frames per second, and the start"
    left = frames[:, 26 + 44 : 26 + 44 + 120, 8 : 8 + 160]
    assert left.std() > 20, "more than one colour"
    assert np.abs(left[6] - left[0]).mean() > 1, "it moves"


def test_the_mark_of_a_goal_stands_where_the_goal_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    problem = use_off_screen_rendering()
    if problem:
        pytest.skip(problem)
    code = """
import numpy as np
from metarl.envs.ant import ant_dir_2d, ant_goal
from metarl.types import Task

def red(family, **parameters):
    envs = family.make_envs(1, 1, 5)
    envs.set_tasks([Task.of(family.name, **parameters)])
    envs.reset(seed=0)
    picture = envs.render_row(0, 200, 150).astype(int)
    envs.close()
    ys, xs = np.nonzero((picture[..., 0] > 120) & (picture[..., 1] < 70) & (picture[..., 2] < 70))
    return float(xs.mean()) if len(xs) else None

print(red(ant_goal(), place=(1.0, 0.0)), red(ant_goal(), place=(-1.0, 0.0)), red(ant_goal(), place=(0.0, -4.0)))
print(red(ant_dir_2d(), angle=0.0), red(ant_dir_2d(), angle=np.pi))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    right, left, behind_the_camera = done.stdout.splitlines()[0].split()
    assert float(left) < 90 < 110 < float(right), "the camera looks along y: x runs to the right"
    assert behind_the_camera == "None"
    ahead, back = map(float, done.stdout.splitlines()[1].split())
    assert back < 90 < 110 < ahead


def test_meta_world_is_drawn_as_it_draws_itself(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    problem = use_off_screen_rendering()
    if problem:
        pytest.skip(problem)
    code = """
import mujoco, numpy as np
from metarl.envs.metaworld.families import ml1
from metarl.scripts.reference.metaworld import started

family = ml1("push-v3")
envs = family.make_envs(2, 1, 20)
envs.set_tasks([next(t for t in family.distribution.train_tasks(100) if t["goal"][0] == goal) for goal in (0, 1)])
envs.reset(seed=0)
theirs, action = started("push-v3", 1), np.array([1.0, 0.5, -0.5, 1.0], dtype=np.float32)
for _ in range(10):
    envs.step(np.stack([-action, action]))
    theirs.step(action)
other, ours = (envs.render_row(row, 160, 120).astype(int) for row in (0, 1))
renderer = mujoco.Renderer(theirs.model, 120, 160)
renderer.update_scene(theirs.data, camera="corner2")
expected = renderer.render()[::-1, ::-1].astype(int)
print(np.abs(ours - expected).mean(), np.abs(other - expected).mean(), expected.std())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    same, other, contrast = map(float, done.stdout.split())
    assert contrast > 20
    assert same < 0.5 < other


def test_without_opengl_one_line_names_the_packages(trained_run: Path, run_metarl, tmp_path: Path, tiny) -> None:
    assert run_metarl("train", "maml-trpo", "half-cheetah-dir", "--out", tmp_path / "cheetah", *tiny)[0] == 0
    done = in_a_new_process("render", tmp_path / "cheetah", "--out", tmp_path / "a.png", MUJOCO_GL="none-such")
    assert done.returncode == 2
    assert "libosmesa6" in done.stderr
    assert "libegl1" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "a.png").exists()
    done = in_a_new_process("render", trained_run, "--out", tmp_path / "b.png", MUJOCO_GL="none-such")
    assert done.returncode == 0, f"a family that needs no OpenGL is drawn: {done.stderr}"


def test_backends_are_tried_in_turn_unless_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    def works(backend: str) -> bool:
        tried.append(backend)
        return backend == "osmesa"

    monkeypatch.setattr(off_screen, "_works", works)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("MUJOCO_GL", "")
    assert use_off_screen_rendering() is None
    assert (tried, os.environ["MUJOCO_GL"]) == (["egl", "osmesa"], "osmesa")
    monkeypatch.setenv("MUJOCO_GL", "egl")
    problem = use_off_screen_rendering()
    assert problem is not None
    assert tried[2:] == ["egl"]
    assert "egl" in problem
    assert "libosmesa6" in problem
    monkeypatch.setattr(sys, "platform", "darwin")
    assert use_off_screen_rendering() is None


def test_the_probe_sees_what_does_not_work() -> None:
    assert not off_screen._works("none-such")
