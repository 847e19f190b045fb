"""A Gymnasium `MujocoEnv` with a servo without declared range."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.envs.mujoco import MujocoEnv

from metarl import Family, gymnasium_family, uniform

MODEL = """
<mujoco>
  <compiler angle="radian" autolimits="true"/>
  <worldbody>
    <body>
      <joint name="turn" axis="0 0 1" damping="1"/><geom size="0.1"/>
      <body pos="1 0 0"><joint name="bend" axis="0 0 1" range="-1 1" damping="1"/><geom size="0.1"/></body>
    </body>
  </worldbody>
  <actuator><position joint="turn" kp="5"/><position joint="bend" kp="5" inheritrange="1"/></actuator>
</mujoco>
"""


class StillArm(MujocoEnv):
    """Rewarded for turning the second joint to a hidden angle."""

    metadata = {"render_modes": ["human", "rgb_array", "depth_array", "rgbd_tuple"], "render_fps": 100}  # noqa: RUF012

    def __init__(self, angle: float = 0.0) -> None:
        self.angle = angle
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "arm.xml"
            path.write_text(MODEL)
            super().__init__(str(path), 5, observation_space=spaces.Box(-np.inf, np.inf, (4,), np.float64))

    def _seen(self) -> np.ndarray:
        return np.concatenate([self.data.qpos, self.data.qvel])

    def reset_model(self) -> np.ndarray:
        self.set_state(self.init_qpos + 0.01 * self.np_random.normal(size=2), self.init_qvel)
        return self._seen()

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.do_simulation(action, self.frame_skip)
        return self._seen(), -abs(float(self.data.qpos[1]) - self.angle), False, False, {}


def still() -> Family:
    angle = uniform("angle", -1.0, 1.0, meaning="angle of the second joint, rad")
    return gymnasium_family(StillArm, name="still-arm", parameters=[angle], horizon=20)
