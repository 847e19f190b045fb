"""The action space of a model: declared ranges, derived bounds, and warnings."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import mujoco
import numpy as np
import pytest

from metarl.envs.controls import control_space
from metarl.envs.locomotion import Locomotion
from metarl.envs.mujoco_batch import gymnasium_asset
from metarl.logs import warn_once
from metarl.types import Task
from metarl.vector import random_actions

MODEL = """
<mujoco>
  <option actuatorgroupdisable="{disabled}"/>
  <compiler angle="radian" autolimits="true"/>
  <worldbody>
    <body>
      <joint name="shoulder" axis="0 1 0" range="-1 2" damping="1"/>
      <geom size="0.1"/>
      <body pos="1 0 0">
        <joint name="turn" axis="0 0 1" damping="1"/>
        <geom size="0.1"/>
        <body pos="1 0 0">
          <joint name="wrist" axis="0 1 0" range="-1 1" actuatorfrcrange="-5 5" damping="1"/>
          <geom size="0.1"/>
          <site name="tip"/>
        </body>
      </body>
    </body>
  </worldbody>
  <tendon><fixed name="cable" range="-3 4"><joint joint="shoulder" coef="1"/></fixed></tendon>
  <actuator>{actuator}</actuator>
</mujoco>
"""
UNBOUNDED = (-math.inf, math.inf)


def model_with(actuator: str, disabled: str = ""):
    return mujoco.MjModel.from_xml_string(MODEL.format(actuator=actuator, disabled=disabled))


@pytest.fixture(autouse=True)
def no_warnings_yet() -> None:
    warn_once.cache_clear()


@pytest.mark.parametrize(
    ("actuator", "bounds"),
    [
        ('<position joint="shoulder" kp="20" ctrlrange="-0.5 0.25"/>', (-0.5, 0.25)),
        ('<position joint="shoulder" kp="20" inheritrange="1"/>', (-1, 2)),
        ('<position joint="shoulder" kp="20"/>', (-1, 2)),
        ('<position joint="shoulder" kp="20" ctrllimited="false" ctrlrange="-9 9"/>', (-1, 2)),
        ('<position joint="shoulder" kp="20" dampratio="1" gear="-2"/>', (-4, 2)),
        ('<position joint="shoulder" kp="20" timeconst="0.1"/>', (-1, 2)),
        ('<position jointinparent="shoulder" kp="20"/>', (-1, 2)),
        ('<position tendon="cable" kp="20"/>', (-3, 4)),
        ('<general joint="shoulder" gainprm="30" biastype="affine" biasprm="6 -15 -1"/>', (-0.7, 0.8)),
        ('<position joint="turn" kp="20"/>', UNBOUNDED),
        ('<position site="tip" kp="20"/>', UNBOUNDED),
        ('<intvelocity joint="shoulder" kp="20" actrange="-1 1"/>', UNBOUNDED),
        ('<velocity joint="shoulder" kv="3"/>', UNBOUNDED),
        ('<motor joint="shoulder"/>', UNBOUNDED),
        ('<motor joint="shoulder" ctrlrange="-3 1"/>', (-3, 1)),
        ('<motor joint="shoulder" gear="10" forcerange="-4 7"/>', (-4, 7)),
        ('<motor joint="wrist" gear="2"/>', (-2.5, 2.5)),
        ('<motor joint="wrist" gear="2" forcerange="-1 7"/>', (-1, 2.5)),
        ('<muscle joint="shoulder"/>', (0, 1)),
    ],
)
def test_the_bounds_of_a_control(actuator: str, bounds: tuple[float, float]) -> None:
    space = control_space(model_with(actuator))
    assert space.dtype == np.float32
    assert space.low == pytest.approx(bounds[0])
    assert space.high == pytest.approx(bounds[1])


@pytest.mark.parametrize("bound", [0, 1])
def test_a_servo_without_a_range_is_held_at_its_joints_limits_by_the_bounds(bound: int) -> None:
    model = model_with('<general joint="shoulder" gainprm="300" gear="2" biastype="affine" biasprm="6 -150 -1"/>')
    model.opt.gravity[:] = 0.0
    space, data = control_space(model), mujoco.MjData(model)
    data.ctrl[:] = (space.low, space.high)[bound]
    mujoco.mj_step(model, data, 5000)
    assert data.qpos[0] == pytest.approx(model.jnt_range[0, bound], abs=1e-3)


@pytest.mark.parametrize("asset", ["half_cheetah", "ant", "humanoid", "walker2d_v5", "hopper", "swimmer", "pusher_v5"])
def test_declared_ranges_stay_as_they_are(asset: str) -> None:
    model = mujoco.MjModel.from_xml_path(gymnasium_asset(f"{asset}.xml"))
    space = control_space(model)
    assert np.array_equal(np.stack([space.low, space.high], axis=1), model.actuator_ctrlrange.astype(np.float32))


def test_controls_without_bounds_are_named_once(caplog: pytest.LogCaptureFixture) -> None:
    model = model_with('<motor name="lift" joint="shoulder"/><motor joint="turn"/><motor joint="wrist"/>')
    with caplog.at_level(logging.WARNING):
        control_space(model)
        control_space(model)
    (record,) = caplog.records
    assert "got no range for lift, turn, so" in record.message
    assert 'ctrlrange="LOW HIGH"' in record.message
    assert "\n" not in record.message


def test_disabled_controls_are_named_in_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    pair = '<motor name="a" joint="turn" ctrlrange="-1 1"/><motor name="b" joint="turn" ctrlrange="-1 1" group="2"/>'
    with caplog.at_level(logging.WARNING):
        control_space(model_with(pair))
        control_space(model_with(pair, disabled="2"))
    (record,) = caplog.records
    assert "got b disabled" in record.message


def test_a_model_without_actuators_is_one_clear_error() -> None:
    with pytest.raises(ValueError, match="got a model without actuators, expected at least one") as caught:
        control_space(model_with(""))
    assert "\n" not in str(caught.value)


def arm(tmp_path: Path, actuator: str) -> type[Locomotion]:
    """A custom robot."""
    (tmp_path / "arm.xml").write_text(MODEL.format(actuator=actuator, disabled=""))

    class Arm(Locomotion):
        model_path = str(tmp_path / "arm.xml")
        frame_skip = 5
        observation_size = 6
        skipped_positions = 0
        position_noise = velocity_noise = 0.0
        control_cost = 0.0

    return Arm


def test_every_control_of_a_robot_of_ones_own_acts(tmp_path: Path) -> None:
    """Servos and a motor, all without a control range."""
    kinds = '<position joint="shoulder" kp="20"/><position joint="wrist" kp="20"/><motor joint="turn"/>'
    envs = arm(tmp_path, kinds)(1, 1, 10)
    envs.set_tasks([Task("arm")])
    space = envs.single_action_space
    assert space.low.tolist() == [-1, -1, -math.inf]
    assert space.high.tolist() == [2, 1, math.inf]
    assert envs.spaces.action_high == (2, 1, math.inf)
    seen = []
    for action in np.vstack([np.zeros(3), 0.5 * np.eye(3)]):
        envs.reset(seed=0)
        seen.append(envs.step(action[None].astype(np.float32))[0][0])
    for moved in seen[1:]:
        assert not np.allclose(moved, seen[0], rtol=0, atol=1e-6)
    actions = random_actions(space, 6, np.random.default_rng(0))
    assert np.isfinite(actions).all()
    envs.close()


def test_a_control_so_large_that_mujoco_drops_it_is_a_diverged_simulation(tmp_path: Path) -> None:
    envs = arm(tmp_path, '<motor joint="turn"/>')(1, 2, 10)
    envs.set_tasks([Task("arm")])
    envs.reset(seed=0)
    *_, infos = envs.step(np.array([[1e11], [1.0]], dtype=np.float32))
    assert infos["diverged"].tolist() == [True, False]
    envs.close()
