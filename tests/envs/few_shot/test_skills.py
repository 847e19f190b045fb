"""`skills`: pieces of trajectories of Meta-World's scripted policies."""

from __future__ import annotations

import hashlib
import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from metarl.envs.few_shot import skill_recordings
from metarl.envs.few_shot.skill_recordings import FULL, Size, recorded, recordings
from metarl.envs.few_shot.skills import LENGTH, UNITS, skills
from metarl.envs.metaworld.classes import MANIPULATIONS
from metarl.registry import find_family
from metarl.types import Floats

ONE = Size(("reach-v3",), episodes=2, frames=3)


def windows(frames: Floats) -> dict[bytes, tuple[int, int, int]]:
    """Class, episode and first frame of every piece, by its numbers."""
    classes, episodes, length, _ = frames.shape
    return {
        frames[c, e, start : start + LENGTH].tobytes(): (c, e, start)
        for c in range(classes)
        for e in range(episodes)
        for start in range(length - LENGTH + 1)
    }


def test_all_classes_are_split_36_to_14() -> None:
    tasks = skills().distribution
    assert FULL.classes == tuple(sorted(MANIPULATIONS))
    assert (len(tasks.train), len(tasks.withheld)) == (36, 14)
    assert sorted(tasks.train + tasks.withheld) == list(range(50))
    seen = {one for task in tasks.sample(300, np.random.default_rng(0)) for one in task["classes"]}
    held_out = {one for task in tasks.held_out() for one in task["classes"]}
    assert seen == set(tasks.train)
    assert held_out == set(tasks.withheld)


@pytest.mark.usefixtures("small_skills")
def test_examples_are_pieces_of_distinct_episodes_of_their_class() -> None:
    family = find_family("skills:ways=2,shots=2,queries=3")
    assert family.spaces.x_shape == (LENGTH * len(UNITS),)
    assert family.most_shots == 2
    known = windows(family.draw.__self__.frames)
    tasks = [*family.distribution.held_out(4), *family.distribution.train_tasks(4)]
    support, query = family.draw(tasks, 2, 3, np.random.default_rng(0))
    assert support.x.shape == (8, 1, 4, 110)
    assert query.y.shape == (8, 1, 6, 2)
    starts = set()
    for m, task in enumerate(tasks):
        episodes = []
        for part in (support, query):
            for x, y in zip(part.x[m, 0], part.y[m, 0], strict=True):
                number, episode, start = known[x.tobytes()]
                assert number == task["classes"][int(y.argmax())]
                episodes.append((number, episode))
                starts.add(start)
        assert len(set(episodes)) == len(episodes) == 10
    assert len(starts) == 5
    np.testing.assert_array_equal(support.y[0, 0], np.tile(np.eye(2), (2, 1)))


@pytest.mark.usefixtures("small_skills")
def test_the_same_generator_draws_the_same_pieces() -> None:
    drawn = []
    for _ in range(2):
        family = find_family("skills:ways=2,shots=2,queries=2")
        drawn.append(family.draw(family.distribution.held_out(3), 2, 2, np.random.default_rng(7)))
    np.testing.assert_array_equal(drawn[0][0].x, drawn[1][0].x)
    np.testing.assert_array_equal(drawn[0][1].x, drawn[1][1].x)


def test_training_classes_are_normalised(small_skills: Size) -> None:
    family = find_family("skills:ways=2,shots=2,queries=2")
    frames, train = family.draw.__self__.frames, list(family.distribution.train)
    rows, raw = frames[train].reshape(-1, 11), recordings(small_skills)
    np.testing.assert_allclose(rows.mean(axis=0), 0.0, atol=1e-5)
    np.testing.assert_allclose(rows.std(axis=0), 1.0, atol=1e-3)
    mean, deviation = (getattr(raw[train].reshape(-1, 11).astype(np.float64), name)(axis=0) for name in ("mean", "std"))
    np.testing.assert_allclose(frames, (raw - mean) / deviation, atol=1e-4)


def plainly_recorded(name: str, episodes: int, frames: int) -> Floats:
    """The recording by a plain loop, with Meta-World's rewards."""
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS
    from metaworld.policies import ENV_POLICY_MAP

    rng = np.random.default_rng(int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], "little"))
    env: Any = ALL_V3_ENVIRONMENTS[name]()
    env._partially_observable, env._freeze_rand_vec, env._set_task_called, env.seeded_rand_vec = True, False, True, True
    env.seed(int(rng.integers(2**31)))
    policy: Any = ENV_POLICY_MAP[name]()
    rows = []
    for _ in range(episodes):
        noise, (observation, _) = rng.uniform(0.0, 0.5), env.reset()
        for step in range(5 * frames):
            shown = observation.copy()
            shown[36:] = np.resize(env._target_pos, 3)
            scripted = np.array(policy.get_action(shown), dtype=np.float64)
            action = np.clip(scripted + rng.normal(scale=noise, size=4), -1.0, 1.0)
            if step % 5 == 0:
                rows.append(np.concatenate([observation[:7], action]))
            observation = env.step(action)[0]
    return np.array(rows, dtype=np.float32).reshape(episodes, frames, 11)


def test_recordings_are_episodes_of_meta_world() -> None:
    """The scripted policy of door-open-v3 writes to the observation that it is given."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        frames = recorded("door-open-v3", 2, 4)
    np.testing.assert_array_equal(frames, plainly_recorded("door-open-v3", 2, 4))
    assert not np.array_equal(frames[0, 0, 4:7], frames[1, 0, 4:7])  # each episode has positions of its own
    np.testing.assert_array_equal(recorded("door-open-v3", 1, 4)[0], frames[0])


def test_some_scripted_policies_write_to_the_observation() -> None:
    """If this fails, Meta-World was repaired, and the copy is no longer needed."""
    from metaworld.policies import ENV_POLICY_MAP

    policy: Any = ENV_POLICY_MAP["door-open-v3"]()
    observation = np.ones(39)
    policy.get_action(observation)
    assert observation[4] != 1.0


def no_recording(*_: Any) -> Floats:
    raise AssertionError("the cache was not used")


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a small cache of its own."""
    monkeypatch.setenv("METARL_CACHE", str(tmp_path / "cache"))
    recordings(ONE)
    [path] = (tmp_path / "cache" / "few_shot").iterdir()
    return path


@pytest.mark.usefixtures("cached")
def test_recordings_are_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(skill_recordings, "recorded", no_recording)
    frames = recordings(ONE)
    assert frames.shape == (1, 2, 3, 11)
    assert frames.dtype == np.float32
    with pytest.raises(AssertionError, match="not used"):
        recordings(Size(ONE.classes, episodes=2, frames=4))
    monkeypatch.setattr(skill_recordings, "FORMAT", 99)
    with pytest.raises(AssertionError, match="not used"):
        recordings(ONE)


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-7] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    "spoil",
    [
        flipped,
        lambda path: path.write_bytes(path.read_bytes()[:-50]),
        lambda path: path.write_bytes(b"{"),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(safetensors.numpy.save({"frames": np.zeros((1, 2, 3, 11), np.float32)})),
        lambda path: path.write_bytes(safetensors.numpy.save({"others": np.zeros(3)})),
    ],
)
def test_a_damaged_cache_is_recorded_again(cached: Path, spoil: Any, caplog: pytest.LogCaptureFixture) -> None:
    whole, frames = cached.read_bytes(), recordings(ONE)
    spoil(cached)
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(recordings(ONE), frames)
    assert "damaged (" in caplog.text
    assert "recording it again" in caplog.text
    assert cached.read_bytes() == whole
    assert [path.name for path in cached.parent.iterdir()] == [cached.name]


def test_a_folder_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("METARL_CACHE", str(tmp_path / "file"))
    assert recordings(ONE).shape == (1, 2, 3, 11)
    assert "cannot be written" in caplog.text


def test_progress_is_said_on_stderr(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("METARL_CACHE", str(tmp_path))
    recordings(ONE)
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"skills: recording reach-v3, class 1 of 1; cached in {tmp_path}\n")


def test_another_process_records_the_same(cached: Path, tmp_path: Path) -> None:
    code = """
from metarl.envs.few_shot.skill_recordings import Size, recordings
recordings(Size(("reach-v3",), episodes=2, frames=3))
"""
    env = {**os.environ, "METARL_CACHE": str(tmp_path / "other")}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, check=True)
    assert (tmp_path / "other" / "few_shot" / cached.name).read_bytes() == cached.read_bytes()


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("ways=50", "got ways=50, expected 2 to 14: it has 36 classes for training and 14 that are held out"),
        ("ways=1", "got ways=1, expected 2 to 14"),
        ("shots=16", "got 16 shots and 15 queries per class, expected at most 30 in total"),
        ("reach-v3", "got 'reach-v3', expected options such as ways=5,shots=5,queries=15"),
        ("ways=5,way=2", "got option 'way=2', expected ways=INT >= 1, shots=INT >= 1, queries=INT >= 1"),
    ],
)
def test_arguments_that_are_refused(argument: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        skills(argument)


@pytest.mark.usefixtures("small_skills")
def test_a_learner_trains_on_it(run_metarl: Any) -> None:
    options = ("--iterations", "2", "--tasks", "2", "--eval-every", "2", "--eval-tasks", "2")
    code, _, err = run_metarl("train", "maml", "skills:ways=2,shots=1,queries=2", *options, "--out", "run")
    assert code == 0, err


def test_the_command_line_refuses_more_ways_than_classes(run_metarl: Any) -> None:
    code, out, err = run_metarl("train", "maml", "skills:ways=50", "--out", "run")
    assert (code, out) == (2, "")
    assert "got ways=50, expected 2 to 14" in err
    assert len(err.strip().splitlines()) == 1
