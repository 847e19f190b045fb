"""Variations that act while an episode is played, against roll-outs made by hand."""

from __future__ import annotations

from pathlib import Path

import mujoco
import numpy as np
import pytest
from small_models import MODELS, edited

from metarl.envs.robots.effects import SENSOR_DEVIATIONS
from metarl.envs.robots.family import robot_family
from metarl.envs.robots.robot import RobotEnvs
from metarl.envs.robots.timing import Delay
from metarl.types import Task

STAY = "&height=0&tilt=180"


def made(spec: str, tasks: list[Task], episodes: int = 1, steps: int = 20) -> RobotEnvs:
    envs = robot_family(spec).make_envs(len(tasks), episodes, steps)
    assert isinstance(envs, RobotEnvs)
    envs.set_tasks(tasks)
    envs.reset(seed=0)
    return envs


def moves(rows: int, size: int, steps: int = 20) -> np.ndarray:
    return np.random.default_rng(1).uniform(-1, 1, (steps, rows, size)).astype(np.float32)


def spec_of(name: str, query: str) -> str:
    return f"mjcf:{MODELS / name}.xml?{query}{STAY if 'arm' not in name else ''}"


@pytest.mark.parametrize("name", ["torque_quadruped", "gravity_compensated_arm"])
def test_latency_plays_earlier_actions(name: str) -> None:
    spec = spec_of(name, "latency=uniform(0,5)" + ("&task=hold" if "arm" in name else ""))
    late = made(spec, [Task.of("f", latency=x) for x in (0.0, 1.0, 3.7)])
    prompt = made(spec, [Task.of("f", latency=0.0)] * 3)
    actions = moves(3, late.single_action_space.shape[0])
    for t in range(20):
        late.step(actions[t])
        prompt.step(earlier(actions, t))
        np.testing.assert_array_equal(late.batch.qpos, prompt.batch.qpos)


def earlier(actions: np.ndarray, t: int) -> np.ndarray:
    """The actions of rows that are 0, 1 and 3 steps late."""
    return np.stack([actions[t - k, row] if t >= k else 0 * actions[0, row] for row, k in enumerate((0, 1, 3))])


def test_delay_starts_anew_in_each_episode() -> None:
    delay, rows = Delay(1, 1, 2), np.array([0])
    delay.set(np.array([2.0]))
    for _ in range(2):
        delay.reset(rows)
        given = [delay(rows, np.array([t]), np.array([[t + 1.0]]))[0, 0] for t in range(5)]
        assert given == [0.0, 0.0, 1.0, 2.0, 3.0]


def test_push_changes_the_momentum_by_its_impulse(tmp_path: Path) -> None:
    text = edited(
        "servo_quadruped",
        ('<option timestep="0.002"', '<option timestep="0.002" gravity="0 0 0"'),
        (
            '<geom name="floor" type="plane" size="0 0 0.05"/>',
            '<geom name="floor" type="plane" size="0 0 1" pos="0 0 -9"/>',
        ),
    )
    (tmp_path / "robot.xml").write_text(text, encoding="utf-8")
    envs = made(f"mjcf:{tmp_path}/robot.xml?push=uniform(-5,5){STAY}", [Task.of("f", push=(0.45, 3.0, -4.0))])
    model, data = envs.batch.models[0], envs.batch.data[0]
    momenta = []
    for _ in range(20):
        mujoco.mj_subtreeVel(model, data)
        momenta.append(model.body_subtreemass[1] * data.subtree_linvel[1, :2])
        envs.step(np.zeros((1, 8), dtype=np.float32))
        mujoco.mj_forward(model, data)
    np.testing.assert_allclose(momenta[9], momenta[0], atol=1e-3)  # steps 0 to 8
    np.testing.assert_allclose(momenta[10] - momenta[9], [3.0, -4.0], atol=0.02)  # step 9, floor(0.45 * 20)
    np.testing.assert_allclose(momenta[19], momenta[10], atol=0.02)


@pytest.mark.parametrize("name", ["torque_quadruped", "servo_quadruped"])
def test_breaking_takes_the_force_of_one_actuator_from_its_moment_on(name: str) -> None:
    tasks = [Task.of("f", breaking=(0.5, 2.0)), Task.of("f", breaking=(0.0, 7.0))]
    envs = made(spec_of(name, "breaking=uniform(0.1,0.9)"), tasks, episodes=2)
    assert envs.task_bytes == envs.models[0].nbuffer, "another copy of the model, without the actuator"
    actions = moves(4, 8)
    for t in range(20):
        envs.step(actions[t])
        force = envs.batch.outputs["force"]
        dead = np.zeros((4, 8), dtype=np.bool_)
        dead[:2, 2], dead[2:, 7] = t >= 10, True
        np.testing.assert_array_equal(force == 0.0, dead)
    envs.reset(seed=0)
    assert envs.batch.models[0].actuator_gainprm[2, 0] != 0.0


def test_broken_rows_equal_a_simulation_whose_gain_is_set_to_zero_on_the_way() -> None:
    envs = made(spec_of("servo_quadruped", "breaking=uniform(0.1,0.9)"), [Task.of("f", breaking=(0.5, 1.0))])
    model = envs.setup.loaded.model
    data = mujoco.MjData(model)
    mujoco.mj_resetDataKeyframe(model, data, envs.setup.key)
    data.qpos[:], data.qvel[:] = envs.batch.qpos[0], envs.batch.qvel[0]
    mujoco.mj_forward(model, data)
    gain, bias = model.actuator_gainprm.copy(), model.actuator_biasprm.copy()
    for t, action in enumerate(moves(1, 8)):
        envs.step(action)
        data.ctrl[:] = envs.setup.actions.controls(action.astype(np.float64))[0]
        if t == 10:
            model.actuator_gainprm[1], model.actuator_biasprm[1] = 0.0, 0.0
        mujoco.mj_step(model, data, envs.setup.frame_skip)
        np.testing.assert_array_equal(envs.batch.qpos[0], data.qpos)
    model.actuator_gainprm[:], model.actuator_biasprm[:] = gain, bias


def test_sensor_noise_has_the_deviation_of_each_unit_times_the_factor() -> None:
    query = "sensor_noise=uniform(0,3)"
    clean, noisy = (made(spec_of("servo_quadruped", query), [Task.of("f", sensor_noise=x)], 200) for x in (0.0, 2.0))
    errors = []
    for action in moves(200, 8):
        exact, seen = clean.step(action)[0], noisy.step(action)[0]
        np.testing.assert_array_equal(clean.batch.qpos, noisy.batch.qpos)  # it only changes what is seen
        errors.append(seen - exact)
    found = np.array(errors).reshape(4000, -1)
    for feature, error in zip(noisy.setup.sensors.features, found.T, strict=True):
        deviation = 2.0 * SENSOR_DEVIATIONS[feature.unit] if feature.measured else 0.0
        assert error.std() == pytest.approx(deviation, rel=0.06)
        assert abs(error.mean()) <= 5 * deviation / np.sqrt(4000)
    measured = [one.measured for one in noisy.setup.sensors.features]
    assert measured == [True] * 25 + [False] * 11


def test_noise_of_a_row_does_not_depend_on_when_others_end() -> None:
    spec = f"mjcf:{MODELS}/torque_quadruped.xml?sensor_noise=uniform(0.5,2)&height=0.9"
    tasks = robot_family(spec).distribution.train_tasks(2)
    one, two = made(spec, tasks), made(spec, tasks)
    two.end(np.array([False, True]))
    for action in moves(2, 8, 8):
        np.testing.assert_array_equal(one.step(action)[0][0], two.step(action)[0][0])
