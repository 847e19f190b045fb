"""A robot's model and class: errors are one line, and episodes start from the initial state or a keyframe."""

from __future__ import annotations

import logging
from pathlib import Path

import mujoco
import numpy as np
import pytest

from metarl.envs import models
from metarl.envs.ant import Ant
from metarl.envs.camera import Camera
from metarl.envs.locomotion import FORWARD, Locomotion, locomotion_family
from metarl.envs.variation import Change, Uniform, Variation
from metarl.types import Task

MODEL = """
<mujoco>
  <compiler angle="radian" autolimits="true"/>
  <worldbody>
    <camera name="side" pos="0 -3 1"/>
    <body>
      <joint name="hip" axis="0 1 0" range="-1 1"/><geom size="0.1"/>
      <body pos="0 0 -0.3"><joint name="knee" axis="0 1 0" range="-2 -0.5"/><geom size="0.1"/></body>
    </body>
  </worldbody>
  <actuator>
    <position joint="hip" kp="9" ctrlrange="-1 1" timeconst="0.1"/>
    <position joint="knee" kp="9" ctrlrange="-2 -0.5" timeconst="0.1"/>
  </actuator>
  <keyframe>
    <key name="home" qpos="0.2 -1" qvel="0.1 0.3" act="0.2 -1" ctrl="0.2 -1"/>
  </keyframe>
</mujoco>
"""


@pytest.fixture(autouse=True)
def no_warnings_yet() -> None:
    models._warn_outside.cache_clear()


@pytest.fixture
def leg(tmp_path: Path) -> type[Locomotion]:
    """A custom robot whose initial state lies outside of the knee's range."""
    (tmp_path / "leg.xml").write_text(MODEL)

    class Leg(Locomotion):
        model_path = str(tmp_path / "leg.xml")
        frame_skip = 2
        observation_size = 3
        position_noise = velocity_noise = 0.0
        control_cost = 0.1

    return Leg


def test_a_start_outside_of_a_joints_range_is_logged_once(leg: type[Locomotion], caplog) -> None:
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            leg(1, 1, 5).close()
    (record,) = caplog.records
    assert "knee at 0 (-2 to -0.5); set the class attribute keyframe to 'home'" in record.message


def test_a_robot_of_gymnasium_is_as_it_is(caplog) -> None:
    with caplog.at_level(logging.WARNING):
        Ant(1, 1, 5).close()
    assert not caplog.records


def test_episodes_start_from_the_keyframe_with_its_activations(leg: type[Locomotion], caplog) -> None:
    leg.keyframe = "home"
    with caplog.at_level(logging.WARNING):
        envs = leg(1, 2, 5)
    assert not caplog.records
    envs.set_tasks([Task("leg")])
    action = np.array([[0.5, -1.5]] * 2, dtype=np.float32)
    for _ in range(2):  # the second time after a step
        envs.reset(seed=0)
        assert envs.batch.qpos.tolist() == [[0.2, -1.0]] * 2
        assert envs.batch.qvel.tolist() == [[0.1, 0.3]] * 2
        envs.step(action)
    model = mujoco.MjModel.from_xml_string(MODEL)
    data = mujoco.MjData(model)
    mujoco.mj_resetDataKeyframe(model, data, 0)
    mujoco.mj_forward(model, data)
    data.ctrl[:] = action[0]
    mujoco.mj_step(model, data, 2)
    assert np.array_equal(envs.batch.qpos, [data.qpos] * 2)
    envs.close()


@pytest.mark.parametrize(
    ("attribute", "value", "expected"),
    [
        ("keyframe", "hom", "keyframe: got 'hom', expected 'home'"),
        ("frame_skip", 0, "Leg: got frame_skip 0, expected a whole number of at least 1"),
        ("observation_size", 4, "Leg: got observation_size 4, expected 3: 2 positions without the first 1, 2 velocit"),
        ("model_path", "leg2.xml", "model_path: got 'leg2.xml', expected a model that MuJoCo can compile"),
        ("frame_skip", None, "Leg: got no frame_skip, expected class attributes"),
        ("control_cost", None, "Leg: got no control_cost, expected class attributes"),
    ],
)
def test_a_misfit_is_one_clear_error(leg: type[Locomotion], attribute: str, value, expected: str) -> None:
    if value is None:
        delattr(leg, attribute)
    else:
        setattr(leg, attribute, value)
    with pytest.raises(ValueError, match=expected.replace("(", r"\(")) as caught:
        leg(1, 1, 5, goal=FORWARD)
    assert "\n" not in str(caught.value)


def test_an_xml_that_does_not_compile_is_one_line(leg: type[Locomotion], tmp_path: Path) -> None:
    (tmp_path / "leg.xml").write_text(MODEL.replace("geom size", "goem size"))
    with pytest.raises(ValueError, match=r"leg.xml.*\(XML Error: Schema violation.*goem.*\)") as caught:
        locomotion_family("leg", leg, "kick", variation=Variation(Change("body_mass", Uniform(0.5, 2.0))))
    assert "\n" not in str(caught.value)


def test_a_camera_that_the_model_lacks_is_one_line() -> None:
    with pytest.raises(ValueError, match="camera: got 'front', expected one of the model's: 'side'"):
        Camera(mujoco.MjModel.from_xml_string(MODEL), 8, 8, name="front")
