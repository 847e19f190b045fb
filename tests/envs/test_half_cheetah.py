from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from metarl.envs.half_cheetah import HalfCheetah
from metarl.envs.locomotion import DIRECTION, speed
from metarl.envs.mujoco_batch import MujocoBatch
from metarl.types import Task

STEPS = 300


HalfCheetahDir = partial(HalfCheetah, goal=DIRECTION)
HalfCheetahVel = partial(HalfCheetah, goal=speed(0.0, 2.0))


def velocity_tasks(*velocities: float) -> list[Task]:
    return [Task.of("half-cheetah-vel", velocity=v) for v in velocities]


def test_observations_and_velocities_equal_gymnasiums_bit_for_bit() -> None:
    envs = HalfCheetahVel(2, 2, STEPS)
    envs.set_tasks(velocity_tasks(0.5, 1.5))
    rng = np.random.default_rng(0)
    envs.reset(seed=1)
    singles = [gymnasium.make("HalfCheetah-v5") for _ in range(4)]
    first = [single.reset(seed=i)[0] for i, single in enumerate(singles)]
    starts = [(single.unwrapped.data.qpos.copy(), single.unwrapped.data.qvel.copy()) for single in singles]
    envs.batch.reset(np.arange(4), *map(np.array, zip(*starts, strict=True)))
    assert np.array_equal(envs._observe(np.arange(4)), first)
    for _ in range(STEPS):
        actions = rng.uniform(-1.2, 1.2, (4, 6)).astype(np.float32)
        observations, _, terminated, _, infos = envs.step(actions)
        for i, single in enumerate(singles):
            observation, _, _, _, info = single.unwrapped.step(actions[i])
            assert np.array_equal(observation, observations[i])
            assert info["x_velocity"] == infos["x_velocity"][i]
        assert not terminated.any()
    for env in (envs, *singles):
        env.close()


def test_the_reset_noise_is_gymnasiums() -> None:
    """Positions: uniform within 0.1 of the initial state; velocities: normal with standard deviation 0.1."""
    envs = HalfCheetahVel(50, 20, 1)
    envs.set_tasks(velocity_tasks(*[1.0] * 50))
    envs.reset(seed=0)
    qpos, qvel = envs.batch.qpos - envs._init_qpos, envs.batch.qvel
    assert np.abs(qpos).max() <= 0.1
    assert np.abs(qpos).max() > 0.099
    assert np.allclose(qpos.std(axis=0), 0.1 / np.sqrt(3), atol=0.004)
    assert np.allclose(qvel.std(axis=0), 0.1, atol=0.01)
    envs.close()


def test_rewards_follow_their_formulas() -> None:
    actions = np.random.default_rng(1).uniform(-1, 1, (4, 6)).astype(np.float32)
    cost = 0.05 * (actions.astype(float) ** 2).sum(axis=1)
    envs = HalfCheetahVel(2, 2, 9)
    envs.set_tasks(velocity_tasks(0.5, 3.0))
    envs.reset(seed=0)
    _, rewards, _, _, infos = envs.step(actions)
    assert np.allclose(rewards, -np.abs(infos["x_velocity"] - [0.5, 0.5, 3.0, 3.0]) - cost, rtol=0, atol=1e-12)
    envs.close()
    envs = HalfCheetahDir(2, 2, 9)
    envs.set_tasks([Task.of("half-cheetah-dir", direction=d) for d in (-1, 1)])
    envs.reset(seed=0)
    _, rewards, _, _, infos = envs.step(actions)
    assert np.allclose(rewards, np.array([-1, -1, 1, 1]) * infos["x_velocity"] - cost, rtol=0, atol=1e-12)
    envs.close()


@pytest.mark.parametrize("threads", [1, 3])
def test_the_number_of_threads_changes_nothing(threads: int) -> None:
    results = []
    for count in (2, threads):
        envs = HalfCheetahVel(3, 3, 50, threads=count)
        envs.set_tasks(velocity_tasks(0.1, 1.0, 2.0))
        envs.reset(seed=4)
        actions = np.random.default_rng(2).uniform(-1, 1, (50, 9, 6)).astype(np.float32)
        results.append([envs.step(a)[0] for a in actions])
        envs.close()
    assert np.array_equal(*results)


@pytest.mark.parametrize("poison", ["position", "velocity", "acceleration"])
def test_a_diverged_simulation_ends_only_its_own_episode(tmp_path: Path, monkeypatch, poison: str) -> None:
    monkeypatch.chdir(tmp_path)
    envs, twin = HalfCheetahVel(1, 3, 20), HalfCheetahVel(1, 3, 20)
    for one in (envs, twin):
        one.set_tasks(velocity_tasks(1.0))
        one.reset(seed=0)
    data = envs.batch.data[1]
    if poison == "position":
        data.qpos[3] = np.nan
    elif poison == "velocity":
        data.qvel[3] = 1e15
    else:
        data.qfrc_applied[3] = 1e18
    last = envs._observations[1].copy()
    action = np.zeros((3, 6), dtype=np.float32)
    observation, rewards, terminated, truncated, infos = envs.step(action)
    expected = twin.step(action)
    assert infos["diverged"].tolist() == terminated.tolist() == [False, True, False]
    assert not truncated.any()
    assert rewards[1] == 0.0
    assert np.array_equal(observation[1], last), "its last sound observation"
    for row in (0, 2):
        assert np.array_equal(observation[row], expected[0][row])
        assert rewards[row] == expected[1][row]
    observation, _, terminated, _, infos = envs.step(action)
    assert not infos["diverged"].any()
    assert np.isfinite(observation).all()
    data.qfrc_applied[3] = 0.0
    envs.reset(seed=1)
    assert not envs.step(action)[4]["diverged"].any(), "a reset makes the row sound again"
    assert os.listdir(tmp_path) == [], "MuJoCo wrote no log file"
    for one in (envs, twin):
        one.close()


def test_a_state_that_is_not_finite_after_the_last_physics_step_is_detected_at_once(monkeypatch) -> None:
    envs = HalfCheetahVel(1, 3, 20)
    envs.set_tasks(velocity_tasks(1.0))
    first, _ = envs.reset(seed=0)
    physics = envs.batch.bare_physics

    def spoils(rows) -> None:
        physics(rows)
        envs.batch.qpos[0, 2], envs.batch.qvel[1, 4] = np.nan, np.nan

    monkeypatch.setattr(envs.batch, "bare_physics", spoils)
    seen, rewards, terminated, _, infos = envs.step(np.zeros((3, 6), dtype=np.float32))
    assert infos["diverged"].tolist() == terminated.tolist() == [True, True, False]
    assert np.array_equal(seen[:2], first[:2])
    assert rewards[:2].tolist() == [0.0, 0.0]
    assert np.isfinite(seen).all()
    envs.close()


def test_an_exception_in_a_thread_reaches_the_caller() -> None:
    batch = MujocoBatch(HalfCheetahVel(1, 2, 1).batch.models, 1)

    def work(part) -> None:
        raise RuntimeError(f"row {part[0]}")

    with pytest.raises(RuntimeError, match="row 0"):
        batch._parallel(work, np.arange(2))
    batch.close()
