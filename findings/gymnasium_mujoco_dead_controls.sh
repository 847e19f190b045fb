#!/bin/sh
# Gymnasium's MujocoEnv gives an actuator without ctrlrange the action space [0, 0], though MuJoCo takes any control.
#
# Guess before the run: infinite bounds, since MuJoCo says with actuator_ctrllimited = 0 that there are none.
# Seen: 0 to 0. Every action of the space holds the joint still, and an agent that clips to the space cannot move it.
# check_env warns that "maximum and minimum values are equal", among recommendations, and names no actuator.
# Ends with 1 as soon as Gymnasium behaves otherwise.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "gymnasium[mujoco]==1.4.0" mujoco==3.3.0 numpy==2.4.6
cd "$folder"
cat > arm.xml <<'XML'
<mujoco>
  <worldbody>
    <body>
      <joint name="free" axis="0 0 1" damping="1"/><geom size="0.1"/>
      <body pos="1 0 0"><joint name="bounded" axis="0 0 1" range="-90 90" damping="1"/><geom size="0.1"/></body>
    </body>
  </worldbody>
  <actuator>
    <position joint="free" kp="5"/>
    <position joint="bounded" kp="5" inheritrange="1"/>
  </actuator>
</mujoco>
XML
venv/bin/python - <<'PYTHON'
import warnings
from pathlib import Path

import gymnasium
import numpy as np
from gymnasium.envs.mujoco import MujocoEnv
from gymnasium.utils.env_checker import check_env


class Arm(MujocoEnv):
    metadata = {"render_modes": ["human", "rgb_array", "depth_array", "rgbd_tuple"], "render_fps": 100}

    def __init__(self):
        seen = gymnasium.spaces.Box(-np.inf, np.inf, (4,), np.float64)
        super().__init__(str(Path("arm.xml").resolve()), 5, observation_space=seen)

    def reset_model(self):
        self.set_state(self.init_qpos, self.init_qvel)
        return self.seen()

    def seen(self):
        return np.concatenate([self.data.qpos, self.data.qvel])

    def step(self, action):
        self.do_simulation(action, self.frame_skip)
        return self.seen(), 0.0, False, False, {}


env = Arm()
print(env.action_space, "limited:", env.model.actuator_ctrllimited)
assert env.model.actuator_ctrllimited.tolist() == [0, 1]
assert env.action_space.low[0] == env.action_space.high[0] == 0.0
assert env.action_space.low[1] < -1.5
env.reset(seed=0)
env.step(np.array([1.0, 0.0]))
assert abs(env.data.qpos[0]) > 1e-6, "MuJoCo takes a control outside of the space"
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    check_env(env, skip_render_check=True)
messages = [str(warning.message) for warning in said]
print("check_env:", messages)
assert any("maximum and minimum values are equal" in message for message in messages)
assert not any("ctrl" in message or "free" in message for message in messages)
PYTHON
