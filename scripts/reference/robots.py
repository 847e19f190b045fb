"""A robot from an MJCF file as a plain Gymnasium environment for one task: one simulation, no arrays over rows."""

from __future__ import annotations

import copy
import math
from functools import partial
from typing import Any

import gymnasium
import mujoco
import numpy as np
from gymnasium import spaces

from metarl.envs.derived_constants import DerivedConstants
from metarl.envs.robots.effects import write_task
from metarl.envs.robots.robot import VELOCITY_NOISE, RobotEnvs, RobotSetup
from metarl.envs.robots.timing import without_force
from metarl.tasks import Family
from metarl.types import Task


class PlainRobotEnv(gymnasium.Env[np.ndarray, np.ndarray]):
    """One robot in one task, without sensor noise. Rewards are those of `metarl.envs.robots.rewards`, spelt out.

    Args:
        setup: Everything about the robot.
        task: The task.
        horizon: `T`.
    """

    def __init__(self, setup: RobotSetup, task: Task, horizon: int) -> None:
        self.setup, self.task, self.horizon = setup, task, horizon
        base = setup.loaded.model
        self.model = copy.copy(base)
        played = dict(task.parameters)
        write_task(setup.effects, DerivedConstants(base), self.model, task)
        self.broken = without_force(self.model, int(played["breaking"][1])) if "breaking" in played else None
        self.data = mujoco.MjData(self.model)
        self.delay = math.floor(played["latency"][0]) if "latency" in played else 0
        self.push = played.get("push")
        size, features = len(setup.actions.centre), len(setup.sensors.features)
        self.observation_space = spaces.Box(-np.inf, np.inf, (features,), np.float64)
        self.action_space = spaces.Box(-1.0, 1.0, (size,), np.float32)
        command = [float(x) for x in setup.command]
        if "command" in played:
            command = [*played["command"], 0.0, 0.0][:3]
        self.command, self.goal = command, played.get("goal")
        self.given: list[list[float]] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Starts at home, with noise on hinges and slides."""
        super().reset(seed=seed)
        qpos, qvel = self.setup.qpos.copy(), np.zeros(self.model.nv)
        for joint in self.setup.sensors.joints:
            place = self.model.jnt_qposadr[joint]
            qpos[place] += self.np_random.uniform(-self.setup.start_noise, self.setup.start_noise)
            if self.model.jnt_limited[joint]:
                qpos[place] = min(max(qpos[place], self.model.jnt_range[joint, 0]), self.model.jnt_range[joint, 1])
            qvel[self.model.jnt_dofadr[joint]] = self.np_random.uniform(-VELOCITY_NOISE, VELOCITY_NOISE)
        return self.start(qpos, qvel), {}

    def start(self, qpos: np.ndarray, qvel: np.ndarray) -> np.ndarray:
        """Starts an episode in a given state; returns the observation."""
        mujoco.mj_resetDataKeyframe(self.model, self.data, self.setup.key)
        self.data.qpos[:], self.data.qvel[:] = qpos, qvel
        mujoco.mj_forward(self.model, self.data)
        self.given = []
        return np.array(self._observation([0.0] * len(self.setup.actions.centre)))

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Steps the simulation."""
        steps, actions = len(self.given), self.setup.actions
        now = [min(max(float(a), -1.0), 1.0) for a in action]
        last = self.given[-1] if self.given else [0.0] * len(now)
        self.given.append(now)
        acting = self.given[steps - self.delay] if steps >= self.delay else [0.0] * len(now)
        for i, a in enumerate(acting):
            control = float(actions.centre[i]) + float(actions.half[i]) * a
            self.data.ctrl[i] = min(max(control, float(actions.low[i])), float(actions.high[i]))
        dt = self.setup.frame_skip * self.model.opt.timestep
        if self.push is not None:
            on = steps == math.floor(self.push[0] * self.horizon)
            for axis in range(2):
                self.data.xfrc_applied[self.setup.base, axis] = self.push[1 + axis] / dt if on else 0.0
        dead = self.broken is not None and steps >= math.floor(self.task["breaking"][0] * self.horizon)
        model = self.broken if dead else self.model
        for _ in range(self.setup.frame_skip):
            mujoco.mj_step(model, self.data)
        reward = self._reward(now, last)
        return np.array(self._observation(now)), reward, self._over(), len(self.given) >= self.horizon, {}

    def _base(self) -> tuple[list[float], list[float], list[float], float]:
        """Downward direction, angular and linear velocity in the base's frame, and height."""
        joint = self.setup.sensors.base_joint
        if joint < 0:
            return [], [], [], 0.0
        place, speed = int(self.model.jnt_qposadr[joint]), int(self.model.jnt_dofadr[joint])
        back, down, linear = np.zeros(4), np.zeros(3), np.zeros(3)
        quaternion = self.data.qpos[place + 3 : place + 7].copy()
        mujoco.mju_normalize4(quaternion)
        mujoco.mju_negQuat(back, quaternion)
        mujoco.mju_rotVecQuat(down, np.array([0.0, 0.0, -1.0]), back)
        mujoco.mju_rotVecQuat(linear, self.data.qvel[speed : speed + 3].copy(), back)
        angular = self.data.qvel[speed + 3 : speed + 6].tolist()
        return down.tolist(), angular, linear.tolist(), float(self.data.qpos[place + 2])

    def _joints(self) -> tuple[list[float], list[float]]:
        """Positions relative to home, and velocities."""
        joints, model = self.setup.sensors.joints, self.model
        places = [int(model.jnt_qposadr[j]) for j in joints]
        positions = [float(self.data.qpos[p] - self.setup.qpos[p]) for p in places]
        return positions, [float(self.data.qvel[model.jnt_dofadr[j]]) for j in joints]

    def _site(self) -> list[float]:
        site = self.setup.sensors.site
        return [] if site is None else getattr(self.data, site[0])[site[1]].tolist()

    def _observation(self, action: list[float]) -> list[float]:
        positions, velocities = self._joints()
        down, angular, linear, _ = self._base()
        seen = linear if self.setup.sensors.base_velocity else []
        command = self.command if self.setup.sensors.commanded else []
        return [*positions, *velocities, *down, *angular, *seen, *self._site(), *action, *command]

    def _reward(self, action: list[float], last: list[float]) -> float:
        positions, velocities = self._joints()
        down, angular, linear, _ = self._base()
        weights = self.setup.reward.weights  # type: ignore[attr-defined]
        power = sum(
            abs(float(f * v)) for f, v in zip(self.data.actuator_force, self.data.actuator_velocity, strict=True)
        )
        terms = {
            "alive": 1.0,
            "energy": -power,
            "smoothness": -sum((a - b) ** 2 for a, b in zip(action, last, strict=True)),
            "effort": -sum(a**2 for a in action),
            "posture": -sum(q**2 for q in positions),
            "stillness": -sum(v**2 for v in velocities),
        }
        if linear:
            terms |= {
                "upright": -(down[0] ** 2 + down[1] ** 2),
                "bounce": -(linear[2] ** 2),
                "roll": -(angular[0] ** 2 + angular[1] ** 2),
            }
        if linear and self.setup.sensors.commanded:
            error = math.hypot(linear[0] - self.command[0], linear[1] - self.command[1])
            terms |= {
                "velocity": math.exp(-((error / 0.25) ** 2)),
                "progress": -error,
                "turn": math.exp(-(((angular[2] - self.command[2]) / 0.5) ** 2)),
            }
        if self.goal is not None:
            distance = math.dist(self._site(), self.goal)
            terms |= {"distance": -distance, "near": math.exp(-distance / 0.05)}
        return sum(weight * terms[name] for name, weight in weights.items())

    def _over(self) -> bool:
        down, _, _, height = self._base()
        ends, beyond = self.setup.ends, 0.0
        for joint in self.setup.sensors.joints:
            if self.model.jnt_limited[joint]:
                low, high = self.model.jnt_range[joint]
                at = float(self.data.qpos[self.model.jnt_qposadr[joint]])
                beyond = max(beyond, low - at, at - high)
        fallen = bool(down) and (down[2] > ends.down or height < ends.height)
        return fallen or beyond > ends.beyond


def robot_setup(family: Family) -> RobotSetup | None:
    """The setup of a robot's family; None for any other family."""
    make = family.make_envs
    if not isinstance(make, partial) or make.func is not RobotEnvs:
        return None
    setup: RobotSetup = make.keywords["setup"]
    return setup


def plain_robot(family: Family, task: Task) -> PlainRobotEnv:
    """The plain environment of a task of a robot's family.

    Raises:
        ValueError: The family is no robot's.
    """
    setup = robot_setup(family)
    if setup is None:
        raise ValueError(f"family {family.name!r}: got no robot's family, expected mjcf:PATH or menagerie:NAME")
    return PlainRobotEnv(setup, task, family.horizon)
