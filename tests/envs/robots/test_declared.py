"""Declarations of a robot for the contract of an exported policy: home, kinds of action, gains."""

from __future__ import annotations

from pathlib import Path

import mujoco
import numpy as np
import pytest

from metarl.envs.robots.family import robot_family
from metarl.envs.robots.robot import RobotEnvs

MODELS = Path(__file__).resolve().parent.parent.parent / "robots" / "models"
ARM = """<mujoco><worldbody><body name="upper"><joint name="elbow" axis="0 1 0"/><geom size="0.05" mass="1"/>
<body name="hand" pos="0.3 0 0"><joint name="slide" type="slide"/><geom size="0.05" mass="1"/>{site}</body></body>
</worldbody><actuator><motor joint="elbow" gear="{gear}" ctrlrange="-2 2"/><position joint="slide" kp="7"/></actuator>
</mujoco>"""


def envs_of(name: str) -> RobotEnvs:
    envs = robot_family(name).make_envs(1, 1, 5)
    assert isinstance(envs, RobotEnvs)
    return envs


def arm(tmp_path: Path, options: str, gear: float = 3.0, site: str = '<site name="tip"/>') -> RobotEnvs:
    (tmp_path / "arm.xml").write_text(ARM.format(gear=gear, site=site), encoding="utf-8")
    return envs_of(f"mjcf:{tmp_path}/arm.xml?payload=uniform(0,1)&goal=uniform([0,0,0],[1,1,1]){options}")


def test_a_made_servo_has_its_gains_and_the_robots_own_stays_one(tmp_path: Path) -> None:
    found = arm(tmp_path, "&action=pd&kp=20&kd=0.5").action_controls
    assert found is not None
    assert (found.kind, found.unit) == (("pd", "servo"), ("rad", "m"))
    assert found.kp == pytest.approx([20.0, 7.0])
    assert found.kd == pytest.approx([0.5, 0.0])
    assert found.limit == pytest.approx([6.0, np.inf]), "2 of the motor times its gear"


def test_a_motor_says_the_torque_of_its_control(tmp_path: Path) -> None:
    found = arm(tmp_path, "").action_controls
    assert found is not None
    assert (found.kind, found.unit) == (("torque", "servo"), ("3 N m", "m"))
    assert np.isnan(found.kp[0])
    plain = arm(tmp_path, "", gear=1.0).action_controls
    assert plain is not None
    assert plain.unit == ("N m", "m")


def test_the_gains_are_those_that_the_simulation_applies() -> None:
    family = robot_family(f"mjcf:{MODELS / 'torque_quadruped.xml'}?payload=uniform(0,1)&action=pd")
    envs = family.make_envs(1, 1, 5)
    assert isinstance(envs, RobotEnvs)
    found, home = envs.action_controls, envs.home_pose
    assert found is not None
    assert home is not None
    assert set(found.kind) == {"pd"}
    envs.set_tasks(family.distribution.train_tasks(1))
    envs.reset(seed=0)
    envs.step(np.full((1, 8), 0.3, np.float32))
    data, model = envs.batch.data[0], envs.setup.loaded.model
    joints = model.actuator_trnid[:, 0]
    q, speed = data.qpos[model.jnt_qposadr[joints]], data.qvel[model.jnt_dofadr[joints]]
    wanted = np.clip(found.kp * (data.ctrl - q) - found.kd * speed, -found.limit, found.limit)
    mujoco.mj_forward(model, data)
    assert data.actuator_force == pytest.approx(wanted, rel=1e-6)
    assert found.centre == pytest.approx(envs.setup.qpos[model.jnt_qposadr[joints]]), "targets are relative to home"


@pytest.mark.parametrize(("site", "part"), [('<site name="tip"/>', "site tip"), ("", "body hand")])
def test_the_part_that_reaches_is_named(tmp_path: Path, site: str, part: str) -> None:
    envs = arm(tmp_path, "", site=site)
    assert envs.home_pose is not None
    assert (envs.home_pose.site, envs.home_pose.joints, envs.home_pose.units) == (
        part,
        ("elbow", "slide"),
        ("rad", "m"),
    )
    names = ["position of elbow relative to home", "position of slide relative to home", "velocity of elbow"]
    assert list(envs.observation_names[:3]) == names
    assert f"position of the {part}, x of the world" in envs.observation_names
