"""Families of MJCF files: the four small robots, against a plain environment with one simulation."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import pytest
from small_models import MODELS, NAMES, edited, text_of

from metarl.envs.robots.family import full_name, preset_name, robot_family
from metarl.envs.robots.goals import beyond_reach
from metarl.envs.robots.robot import RobotEnvs
from metarl.scripts.reference.robots import PlainRobotEnv, plain_robot, robot_setup
from metarl.tasks import Family
from metarl.types import Task

EVERY = (
    "payload=uniform(0,2)&floor_friction=uniform(0.4,1.2)&motor_strength=uniform(0.7,1.1)&latency=uniform(0,4)"
    "&push=uniform(-8,8)&breaking=uniform(0.2,0.8)"
)
OF_ARM = EVERY.replace("floor_friction=uniform(0.4,1.2)&", "")


def family_of(name: str, query: str) -> Family:
    return robot_family(f"mjcf:{MODELS / name}.xml?{query}")


def played(family: Family, tasks: list[Task], episodes: int = 2, steps: int = 25, seed: int = 0) -> dict[str, Any]:
    """An episode of random actions in every row."""
    envs = family.make_envs(len(tasks), episodes, steps)
    envs.set_tasks(tasks)
    first, _ = envs.reset(seed=seed)
    rng = np.random.default_rng(seed)
    actions = rng.uniform(-1.2, 1.2, (steps, envs.num_envs, envs.single_action_space.shape[0])).astype(np.float32)
    kept: dict[str, list[np.ndarray]] = {"observations": [first], "rewards": [], "terminated": []}
    for action in actions:
        observation, reward, terminated, _, infos = envs.step(action)
        terms = sum(values for key, values in infos.items() if key.startswith("reward/"))
        np.testing.assert_allclose(terms, reward, atol=1e-12)
        for key, value in zip(kept, (observation, reward, terminated), strict=True):
            kept[key].append(value)
    envs.close()
    return {"actions": actions, **{key: np.array(value) for key, value in kept.items()}}


def started(plain: PlainRobotEnv, envs: RobotEnvs, row: int) -> np.ndarray:
    return plain.start(envs.batch.qpos[row].copy(), envs.batch.qvel[row].copy())


@pytest.mark.parametrize("name", NAMES)
def test_batch_equals_plain_loops_over_single_simulations(name: str) -> None:
    family = family_of(name, OF_ARM if "arm" in name else EVERY.replace("floor_friction", "joint_damping"))
    tasks, steps = family.distribution.train_tasks(3), 25
    batch = played(family, tasks, steps=steps)
    envs = family.make_envs(3, 2, steps)
    assert isinstance(envs, RobotEnvs)
    envs.set_tasks(tasks)
    envs.reset(seed=0)
    for row in range(6):
        plain = PlainRobotEnv(envs.setup, tasks[row // 2], steps)
        observation = started(plain, envs, row)
        np.testing.assert_allclose(batch["observations"][0, row], observation, atol=1e-12)
        for t in range(steps):
            observation, reward, over, _, _ = plain.step(batch["actions"][t, row])
            np.testing.assert_allclose(batch["observations"][t + 1, row], observation, rtol=1e-12, atol=1e-12)
            np.testing.assert_allclose(batch["rewards"][t, row], reward, rtol=1e-12, atol=1e-12)
            assert batch["terminated"][t, row] == over
            if over:
                break
    envs.close()


@pytest.mark.parametrize("name", NAMES)
def test_results_depend_neither_on_threads_nor_on_other_rows(name: str) -> None:
    family = family_of(name, f"{OF_ARM}&sensor_noise=uniform(0.5,2)")
    tasks = family.distribution.train_tasks(2)
    one, again = played(family, tasks), played(pickle.loads(pickle.dumps(family)), tasks)
    for key in one:
        np.testing.assert_array_equal(one[key], again[key])
    other = played(family, [tasks[0], family.distribution.train_tasks(3)[2]])
    np.testing.assert_array_equal(one["rewards"][:, :2], other["rewards"][:, :2])
    np.testing.assert_array_equal(one["observations"][:, :2], other["observations"][:, :2])


@pytest.mark.parametrize("name", NAMES)
def test_first_observation_does_not_tell_the_task(name: str) -> None:
    family = family_of(name, OF_ARM)
    one, two = (played(family, [task], steps=1) for task in family.distribution.train_tasks(2))
    np.testing.assert_array_equal(one["observations"][0], two["observations"][0])
    assert (one["observations"][1] != two["observations"][1]).any()


def test_a_body_that_reaches_is_seen_at_its_frame_wherever_its_mass_lies() -> None:
    family = family_of("gravity_compensated_arm", "com_shift=uniform(-0.05,0.05)&site=hand&goal_range=0.5")
    one, two = (played(family, [task], steps=1) for task in family.distribution.train_tasks(2))
    np.testing.assert_array_equal(one["observations"][0], two["observations"][0])


@pytest.mark.parametrize(
    ("name", "size", "actions", "note"),
    [
        ("torque_quadruped", 8 + 8 + 3 + 3 + 3 + 8 + 3, 8, "8 torques"),
        ("servo_quadruped", 8 + 8 + 3 + 3 + 3 + 8 + 3, 8, "8 joint targets within 0.4 rad"),
        ("contact_pairs", 8 + 8 + 3 + 3 + 3 + 8 + 3, 8, "8 joint targets within 0.4 rad"),
        ("gravity_compensated_arm", 4 + 4 + 3 + 4, 4, "4 joint targets within 1 rad"),
    ],
)
def test_features_have_names_and_units(name: str, size: int, actions: int, note: str) -> None:
    family = family_of(name, "payload=uniform(0,1)")
    setup = robot_setup(family)
    assert setup is not None
    assert len(setup.sensors.features) == size
    assert note in " ".join(family.notes)
    spaces = family.spaces()
    assert spaces.observation_units == tuple(one.unit for one in setup.sensors.features)
    assert set(spaces.observation_units) <= {"rad", "rad/s", "m", "m/s", "1"}
    assert spaces.action_size == actions
    assert spaces.action_low == (-1.0,) * actions
    assert family.single_envs is None


def test_action_is_a_target_around_home_for_servos_and_a_share_of_the_torque_for_motors() -> None:
    servo = robot_setup(family_of("servo_quadruped", "payload=uniform(0,1)&scale=0.3"))
    motor = robot_setup(family_of("torque_quadruped", "payload=uniform(0,1)&scale=0.5"))
    assert servo is not None
    assert motor is not None
    np.testing.assert_allclose(servo.actions.controls(np.full((1, 8), 0.5))[0], [0.85, -1.25] * 4)
    np.testing.assert_allclose(servo.actions.controls(np.full((1, 8), 100.0))[0], [2.2, -0.5] * 4)  # their ranges
    np.testing.assert_allclose(motor.actions.controls(np.full((1, 8), 0.5))[0], np.full(8, 0.25))


def test_pd_holds_a_robot_with_motors_that_torques_at_home_let_lie_down() -> None:
    heights = {}
    for action in ("torque", "pd"):
        family = family_of("torque_quadruped", f"payload=uniform(0,0.1)&height=0&tilt=180&action={action}")
        envs = family.make_envs(1, 1, 100)
        assert isinstance(envs, RobotEnvs)
        envs.set_tasks(family.distribution.train_tasks(1))
        envs.reset(seed=0)
        for _ in range(100):
            envs.step(np.zeros((1, 8), dtype=np.float32))
        heights[action] = float(envs.batch.qpos[0, 2])
        envs.close()
    assert heights["torque"] < 0.15
    assert heights["pd"] == pytest.approx(0.326, abs=0.03)


def test_pd_has_the_torque_of_a_servo_with_the_motors_limit() -> None:
    family = family_of("torque_quadruped", "payload=uniform(0,1)&action=pd&kp=40&kd=2")
    setup = robot_setup(family)
    assert setup is not None
    model, data = setup.loaded.model, mujoco.MjData(setup.loaded.model)
    data.qpos[:] = setup.qpos
    data.qvel[6:] = 0.5
    data.ctrl[:] = setup.actions.controls(np.zeros((1, 8)))[0] + 0.1
    mujoco.mj_forward(model, data)
    np.testing.assert_allclose(data.qfrc_actuator[6:], 40 * 0.1 - 2 * 0.5, atol=1e-9)
    data.ctrl[:] += 10.0
    mujoco.mj_forward(model, data)
    np.testing.assert_allclose(data.qfrc_actuator[6:], [24.0, 30.0] * 4)  # gear times the largest control


def test_pose_without_keyframe_is_within_limits_and_on_the_floor(tmp_path: Path) -> None:
    text = edited("servo_quadruped", ('<geom name="floor" type="plane" size="0 0 0.05"/>', ""))
    text = text[: text.index("<keyframe>")] + "</mujoco>"
    path = tmp_path / "robot.xml"
    path.write_text(text, encoding="utf-8")
    family = robot_family(f"mjcf:{path}?payload=uniform(0,1)")
    setup = robot_setup(family)
    assert setup is not None
    said = " ".join(family.notes)
    assert "no keyframe" in said
    assert "moved into its range" in said  # knees have -2.5 to -0.5, their initial position is 0
    assert "the file has no floor" in said
    model, data = setup.loaded.model, mujoco.MjData(setup.loaded.model)
    data.qpos[:] = setup.qpos
    mujoco.mj_kinematics(model, data)
    feet = [data.geom(foot).xpos[2] - 0.02 for foot in ("FL", "FR", "RL", "RR")]
    np.testing.assert_allclose(feet, 0.0, atol=1e-9)
    np.testing.assert_allclose(setup.qpos[[8, 10, 12, 14]], -0.5)


def test_keyframe_sets_activations_and_ball_joints_are_named(tmp_path: Path) -> None:
    text = edited(
        "servo_quadruped",
        (
            '<position name="FL_hip" class="hip" joint="FL_hip"/>',
            '<position name="FL_hip" class="hip" joint="FL_hip" timeconst="0.5"/>',
        ),
        (
            '<site name="imu" pos="0 0 0"/>',
            '<body name="tail"><joint name="wag" type="ball"/><geom size="0.01" mass="0.1" pos="-0.3 0 0"/></body>',
        ),
        ("0.326 1 0 0 0  0.7", "0.326 1 0 0 0  1 0 0 0  0.7"),
        ('ctrl="0.7', 'act="0.6" ctrl="0.7'),
    )
    (tmp_path / "robot.xml").write_text(text, encoding="utf-8")
    family = robot_family(f"mjcf:{tmp_path}/robot.xml?payload=uniform(0,1)")
    assert "ball joints are not observed: wag" in family.notes
    envs = family.make_envs(1, 1, 5)
    assert isinstance(envs, RobotEnvs)
    envs.set_tasks(family.distribution.train_tasks(1))
    envs.reset(seed=0)
    assert envs.batch.data[0].act.tolist() == [0.6]
    assert len(envs.observation_names) == len(envs.observation_units) == 36
    assert envs.observation_names[0] == "position of FL_hip relative to home"
    envs.close()


def test_falling_ends_an_episode() -> None:
    family = family_of("torque_quadruped", "payload=uniform(0,0.1)&height=0.8")
    out = played(family, family.distribution.train_tasks(1), steps=100)
    assert out["terminated"].any(axis=0).all()
    forever = family_of("torque_quadruped", "payload=uniform(0,0.1)&height=0&tilt=180")
    assert not played(forever, forever.distribution.train_tasks(1), steps=100)["terminated"].any()


def test_goal_is_a_place_that_the_site_reaches() -> None:
    family = family_of("gravity_compensated_arm", "payload=uniform(0,0.1)&site=tip&goal_range=0.5")
    setup = robot_setup(family)
    assert setup is not None
    names = [parameter.name for parameter in family.distribution.parameters]
    assert names == ["payload", "goal"]
    goal = next(p for p in family.distribution.parameters if p.name == "goal")
    u = np.array([[0.5, 0.5, 0.5, 0.5], [0.25, 0.5, 0.75, 0.5]])
    data = mujoco.MjData(setup.loaded.model)
    for place, pose in zip(goal.transform(u), 0.5 * (2 * u - 1) + setup.qpos, strict=True):
        data.qpos[:] = pose
        mujoco.mj_forward(setup.loaded.model, data)
        np.testing.assert_allclose(place, data.site("tip").xpos, atol=1e-12)
    low = family_of("gravity_compensated_arm", "site=tip&goal_range=2.5&keyframe=home")
    heights = np.array([task["goal"][2] for task in low.distribution.train_tasks(200)])
    assert heights.min() >= 0.03
    assert len(np.unique(heights)) == 200  # poses in the floor are moved towards home, not cut off at its height
    boxed = family_of("gravity_compensated_arm", "goal=uniform([0.3,-0.1,0.4],[0.5,0.1,0.6])")
    goals = np.array([task["goal"] for task in boxed.distribution.train_tasks(20)])
    assert (goals >= [0.3, -0.1, 0.4]).all()
    assert (goals < [0.5, 0.1, 0.6]).all()


def test_goals_beyond_the_links_are_noted_or_refused() -> None:
    # The site is at most 0.05 + 0.3 + 0.25 + 0.06 m from the first hinge, which is at (0, 0, 0.4).
    near = family_of("gravity_compensated_arm", "site=tip&goal=uniform([-0.3,-0.3,0.1],[0.3,0.3,0.8])")
    assert not any("out of reach" in note for note in near.notes)
    half = family_of("gravity_compensated_arm", "site=tip&goal=uniform([-0.001,-0.001,0.4],[0.001,0.001,1.72])")
    (note,) = (note for note in half.notes if "out of reach" in note)
    assert note.startswith(
        "goals are up to 1.32 m from the joint turn at (0, 0, 0.4), the site at most 0.66 m: about 5"
    )
    with pytest.raises(ValueError, match=r"got a goal that cannot be reached.* about 100 % .*out of reach\Z"):
        family_of("gravity_compensated_arm", "site=tip&goal=uniform([5,5,5],[6,6,6])")
    own = family_of("gravity_compensated_arm", "site=tip&goal_range=2.5")
    goals = np.array([task["goal"] for task in own.distribution.train_tasks(100)])
    assert np.linalg.norm(goals - [0, 0, 0.4], axis=1).max() <= 0.66


SLIDE_ARM = """
<mujoco><worldbody><body><joint name="rail" type="slide" axis="1 0 0" {limits}/><geom size="0.1"/>
  <body pos="0 0 0.5"><joint name="swing"/><geom size="0.1"/><site name="tip" pos="0 0 0.5"/></body>
</body></worldbody><actuator><motor joint="rail"/><motor joint="swing"/></actuator></mujoco>
"""


@pytest.mark.parametrize(("limits", "share"), [('range="-1 2"', 1.0), ('range="-1 4"', 0.0), ("", 0.0)])
def test_a_slide_reaches_farther_by_its_travel(limits: str, share: float) -> None:
    model = mujoco.MjModel.from_xml_string(SLIDE_ARM.format(limits=limits))
    box = np.array([4.0, 0.0, 0.0]), np.array([4.5, 0.1, 0.1])
    found, words = beyond_reach(model, model.qpos0, ("site_xpos", 0), *box)
    assert found == share
    assert bool(words) == bool(share)


@pytest.mark.parametrize(
    ("name", "query", "noted"),
    [
        ("torque_quadruped", "", True),
        ("torque_quadruped", "&action=pd", False),
        ("torque_quadruped", "&action=torque", False),
        ("servo_quadruped", "", False),
        ("gravity_compensated_arm", "", False),
    ],
)
def test_targets_are_advised_where_a_free_robot_has_torque_motors(name: str, query: str, noted: bool) -> None:
    notes = family_of(name, f"payload=uniform(0,1){query}").notes
    assert ("torques; targets often learn more easily: action=pd" in notes) == noted


def test_command_is_observed_and_may_differ_between_tasks() -> None:
    family = family_of("servo_quadruped", "command=uniform(0.2,0.9)")
    (parameter,) = family.distribution.parameters
    assert not parameter.hidden
    tasks = family.distribution.train_tasks(3)
    out = played(family, tasks, episodes=1, steps=1)
    np.testing.assert_array_equal(out["observations"][0, :, -3], [task["command"][0] for task in tasks])
    np.testing.assert_array_equal(out["observations"][0, :, -2:], 0.0)


def test_names_of_presets_and_full_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(MODELS)
    assert full_name("mjcf:torque_quadruped.xml?payload=uniform(0,1)") == (
        f"mjcf:{MODELS}/torque_quadruped.xml?payload=uniform(0,1)"
    )
    assert full_name("mjcf:missing.xml") == "mjcf:missing.xml"
    assert preset_name(f"mjcf:{MODELS}/torque_quadruped.xml") == "robot-walk"
    assert preset_name(f"mjcf:{MODELS}/gravity_compensated_arm.xml") == "robot-reach"
    assert preset_name("menagerie:anything?task=hold") == "robot-hold"


def test_light_model_moves_as_the_whole_file() -> None:
    setup = robot_setup(family_of("servo_quadruped", "payload=uniform(0,1)"))
    assert setup is not None
    whole = mujoco.MjModel.from_xml_string(text_of("servo_quadruped"))
    data, light = mujoco.MjData(whole), mujoco.MjData(setup.loaded.model)
    for model, one in ((whole, data), (setup.loaded.model, light)):
        one.qpos[:] = setup.qpos
        one.ctrl[:] = setup.actions.controls(np.full((1, 8), 0.3))[0]
        mujoco.mj_step(model, one, 200)
    np.testing.assert_array_equal(data.qpos, light.qpos)


def test_plain_environment_starts_by_itself() -> None:
    family = family_of("servo_quadruped", "payload=uniform(0,1)")
    plain = plain_robot(family, family.distribution.held_out(1)[0])
    observation, _ = plain.reset(seed=3)
    assert plain.observation_space.contains(observation)
    assert np.abs(observation[:8]).max() <= 0.05
