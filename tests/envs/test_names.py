"""Names of observations and actions, and the duration of a step, for the contract of an exported policy."""

from __future__ import annotations

import mujoco
import pytest

from metarl.envs.models import actuator_names, state_names
from metarl.envs.mujoco_batch import state_units
from metarl.registry import make_family

FREE = """
<mujoco>
  <worldbody>
    <body name="trunk">
      <freejoint name="root"/><geom size="0.1"/>
      <body pos="0 0 -0.3"><joint name="knee" axis="0 1 0"/><geom size="0.1"/></body>
      <body pos="0 0 0.3"><joint type="ball"/><geom size="0.1"/></body>
      <site name="nose"/>
    </body>
  </worldbody>
  <actuator><motor joint="knee"/><motor name="lift" joint="knee"/><general site="nose" gear="1 0 0 0 0 0"/></actuator>
</mujoco>
"""


def test_each_number_of_a_state_has_a_name() -> None:
    model = mujoco.MjModel.from_xml_string(FREE)
    positions, velocities = state_names(model)
    assert (len(positions), len(velocities)) == (model.nq, model.nv) == tuple(map(len, state_units(model)))
    assert positions[:4] == (*(f"position of root {axis}" for axis in "xyz"), "position of root quaternion w")
    assert positions[7] == "position of knee"
    assert positions[-1] == "position of joint 2 quaternion z"
    assert velocities[3] == "velocity of root about x"
    assert velocities[6] == "velocity of knee"
    assert actuator_names(model) == ("knee", "lift", "actuator 2")


@pytest.mark.parametrize(
    ("family", "observations", "seconds"),
    [("half-cheetah-vel", 17, 0.05), ("ant-dir", 27, 0.05), ("hopper-vel", 11, 0.008), ("reacher-goal", 0, 0.02)],
)
def test_robots_name_what_they_observe_and_how_long_a_step_takes(family, observations, seconds) -> None:
    envs = make_family(family).make_envs(1, 1, 5)
    assert len(envs.observation_names) == observations
    assert len(envs.action_names) == envs.spaces.action_size
    assert envs.step_seconds == pytest.approx(seconds)


def test_steps_of_a_point_have_no_duration() -> None:
    envs = make_family("point-robot").make_envs(1, 1, 5)
    assert (envs.step_seconds, envs.observation_names, envs.action_units) == (None, (), ())
