"""Families whose actuators die within the episode."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from metarl.envs.breaking import Breaking
from metarl.envs.hopper import Hopper
from metarl.envs.mujoco_batch import MujocoTaskEnv
from metarl.registry import make_family
from metarl.types import Task

ROBOTS = ("half-cheetah", "ant")
GEARS = {"half-cheetah": (1, 1, 0, 1, 1, 1), "ant": (1, 1, 1, 1, 0, 0, 1, 1)}


def played(name: str, task: Task, steps: int, horizon: int = 20):
    """Joint positions `[steps, E, nq]`, rewards `[steps, E]` and ends under random actions; `E` is 2."""
    envs = make_family(name).make_envs(1, 2, horizon)
    assert isinstance(envs, MujocoTaskEnv)
    envs.set_tasks([task])
    envs.reset(seed=3)
    rng, seen = np.random.default_rng(0), []
    for _ in range(steps):
        actions = rng.uniform(-1.2, 1.2, envs.action_space.shape).astype(np.float32)
        _, rewards, terminated, _, _ = envs.step(actions)
        seen.append((envs.batch.qpos.copy(), rewards, terminated))
    envs.close()
    return [np.array(column) for column in zip(*seen, strict=True)]


@pytest.mark.parametrize("robot", ROBOTS)
def test_a_robot_that_breaks_at_once_is_the_crippled_one_bit_for_bit(robot: str) -> None:
    gear = GEARS[robot]
    broken = played(f"{robot}-breaking", Task.of("t", actuator_gear=gear, break_at=0.0), 20)
    crippled = played(f"{robot}-crippled", Task.of("t", actuator_gear=gear), 20)
    for mine, theirs in zip(broken, crippled, strict=True):
        assert np.array_equal(mine, theirs)


@pytest.mark.parametrize("robot", ROBOTS)
def test_the_actuators_work_until_the_step_of_the_break_and_not_after(robot: str) -> None:
    early, late = (Task.of("t", actuator_gear=GEARS[robot], break_at=at) for at in (0.4, 0.999))
    one, other = (played(f"{robot}-breaking", task, 12)[0] for task in (early, late))
    assert np.array_equal(one[:8], other[:8]), "0.4 of 20 steps are 8"
    assert not np.array_equal(one[8], other[8])


def test_rows_of_a_task_break_at_their_own_step() -> None:
    envs = make_family("half-cheetah-breaking").make_envs(1, 2, 10)
    assert isinstance(envs, Breaking)
    envs.set_tasks([Task.of("t", actuator_gear=GEARS["half-cheetah"], break_at=0.35)])
    envs.reset(seed=0)
    for _ in range(3):
        assert not envs._dead(np.arange(2)).any()
        envs.step(np.ones((2, 6), dtype=np.float32))
    assert envs._dead(np.arange(2))[:, 2].all()
    envs.reset(options={"reset_mask": np.array([True, False])})
    assert envs._dead(np.arange(2)).any(axis=1).tolist() == [False, True]
    envs.close()


def test_the_reward_charges_the_action_of_a_dead_actuator() -> None:
    family = make_family("half-cheetah-breaking")
    envs = family.make_envs(1, 2, 10)
    envs.set_tasks([Task.of("t", actuator_gear=GEARS["half-cheetah"], break_at=0.0)])
    envs.reset(seed=0)
    start = envs.batch.qpos[:1].copy(), envs.batch.qvel[:1].copy()
    for row in range(2):
        envs.batch.reset(np.array([row]), *start)
    actions = np.zeros((2, 6), dtype=np.float32)
    actions[1, 2] = 1.0
    seen, rewards, *_ = envs.step(actions)
    assert np.array_equal(seen[0], seen[1])
    assert rewards[0] - rewards[1] == pytest.approx(0.05, abs=1e-12)
    envs.close()


def test_actuators_that_push_at_control_zero_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "servos.xml"
    path.write_text(Path(Hopper.model_path).read_text().replace("<motor ", "<position "))
    servos: type[Breaking] = type("Servos", (Breaking, Hopper), {"model_path": str(path)})
    with pytest.raises(ValueError, match="got a model with other actuators than motors"):
        servos(1, 1, 5)
