"""Batches of a robot from an MJCF file.

Actions become controls (`metarl.envs.robots.actions`), the simulations are stepped by `MujocoBatch`, and observation
and reward are computed from arrays over the whole batch (`metarl.envs.robots.state`, `metarl.envs.robots.rewards`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np
from gymnasium import spaces

from metarl.envs.camera import TRACKING, Camera, View
from metarl.envs.derived_constants import DerivedConstants
from metarl.envs.models import actuator_names
from metarl.envs.mujoco_batch import DATA_BYTES, MujocoBatch, Simulation
from metarl.envs.robots.actions import Actions
from metarl.envs.robots.declared import action_controls, home_pose
from metarl.envs.robots.effects import PLAYED, Effect, write_task
from metarl.envs.robots.loading import LoadedRobot
from metarl.envs.robots.pose import scalar_joints
from metarl.envs.robots.rewards import goal_distance
from metarl.envs.robots.spec import COMMAND, GOAL
from metarl.envs.robots.state import RobotState, Sensors
from metarl.envs.robots.timing import Breaking, Delay, Push, SensorNoise
from metarl.types import Bools, Floats, Task
from metarl.vector import TaskVecEnv

VELOCITY_NOISE = 0.02
"""Half-width of the uniform noise on initial velocities, rad/s or m/s."""
DISTANCE, NEAREST, ELEVATION = 3.0, 0.5, -15.0
"""Distance of the camera from a moving base, in initial heights of the base; lower bound, m; elevation, degrees."""

AROUND = 4.0
"""Distance of the camera from an arm, in sizes of the arm at home."""

RewardFunction = Callable[[RobotState], Mapping[str, Floats]]
"""Maps the state of `R` rows to weighted terms by name, `[R]` each, whose sum is the reward."""


@dataclass(frozen=True)
class Ends:
    """The states that end an episode.

    Args:
        down: Largest cosine between the base's z axis and the world's downward direction, negated tilt: an episode
            ends when `gravity_z` exceeds it.
        height: Lowest height of the base, m.
        beyond: Largest distance of a joint beyond its range, rad or m.
    """

    down: float = np.inf
    height: float = -np.inf
    beyond: float = np.inf

    def __call__(self, state: RobotState) -> Bools:
        """True for rows whose episode ends, `[R]`."""
        over: Bools = state.beyond > self.beyond
        if state.gravity.shape[1]:
            over = over | (state.gravity[:, 2] > self.down) | (state.height < self.height)
        return over


@dataclass(frozen=True)
class RobotSetup:
    """All that the environments of a robot's family share.

    Args:
        loaded: The model.
        qpos: Joint positions at home, `[nq]`.
        key: Index of the keyframe of activations; -1 for none.
        base: Index of the body that is pushed.
        effects: The named variations.
        actions: The mapping from actions to controls.
        sensors: Reads the state.
        reward: The reward.
        ends: The states that end an episode.
        command: The constant command, `[3]`, or `[0]` without one.
        varied: Names of the task's parameters.
        most_latency: Largest delay of a task, steps.
        tolerance: Distance to the goal that counts as success, m.
        start_noise: Half-width of the uniform noise on initial joint positions, rad or m.
        frame_skip: Physics steps per environment step.
    """

    loaded: LoadedRobot
    qpos: Floats
    key: int
    base: int
    effects: tuple[Effect, ...]
    actions: Actions
    sensors: Sensors
    reward: RewardFunction
    ends: Ends
    command: Floats
    varied: tuple[str, ...]
    most_latency: int
    tolerance: float
    start_noise: float
    frame_skip: int

    @property
    def writes(self) -> bool:
        """Whether some variation changes numbers of the model."""
        return any(name not in (COMMAND, GOAL, *PLAYED) for name in self.varied)


class RobotEnvs(TaskVecEnv):
    """A batch of a robot.

    Step infos, each `[N]`: the weighted terms of the reward as `reward/TERM`, and `success` for a robot that reaches.

    Args:
        num_tasks: `M`.
        episodes: `E`.
        horizon: `T`.
        setup: Everything about the robot.
        threads: Number of physics threads; all available cores by default.

    Attributes:
        dt: Duration of an environment step, s.
        observation_names: Name of each feature; `observation_units` has the units.
    """

    def __init__(
        self, num_tasks: int, episodes: int, horizon: int, *, setup: RobotSetup, threads: int | None = None
    ) -> None:
        self.setup, model = setup, setup.loaded.model
        features = setup.sensors.features
        size = len(setup.actions.centre)
        super().__init__(
            num_tasks,
            episodes,
            horizon,
            spaces.Box(-np.inf, np.inf, (len(features),), np.float64),
            spaces.Box(-1.0, 1.0, (size,), np.float32),
        )
        self.observation_units = tuple(feature.unit for feature in features)
        self.observation_names = tuple(feature.name for feature in features)
        self.action_names, self.action_units = actuator_names(model), ("1",) * size
        self.action_controls = action_controls(setup.loaded, setup.actions)
        self.home_pose = home_pose(setup.sensors)
        self.models = [copy.copy(model) for _ in range(num_tasks)] if setup.writes else [model] * num_tasks
        self.batch = MujocoBatch(
            [one for one in self.models for _ in range(episodes)],
            setup.frame_skip,
            threads,
            outputs=setup.sensors.outputs,
            keyframe=setup.key,
        )
        self.row_bytes = DATA_BYTES + self.batch.data[0].nbuffer
        copies = setup.writes + ("breaking" in setup.varied)
        self.task_bytes = copies * model.nbuffer
        self.dt = self.step_seconds = float(model.opt.timestep * setup.frame_skip)
        self.metadata["render_fps"] = max(1, round(1.0 / self.dt))
        self._constants = DerivedConstants(model) if setup.writes else None
        self._camera: Camera | None = None
        rows, varied = self.num_envs, setup.varied
        self._delay = Delay(rows, size, setup.most_latency) if "latency" in varied else None
        self._push = Push(self.batch, setup.base, self.dt) if "push" in varied else None
        self._breaking = Breaking(self.models, episodes) if "breaking" in varied else None
        self._noise = SensorNoise(rows, features) if "sensor_noise" in varied else None
        self._command = np.broadcast_to(setup.command, (rows, len(setup.command)))
        self._goal = np.zeros((rows, 0))
        self._action = np.zeros((rows, size))
        self._features = np.zeros((rows, len(features)))
        self._joints = scalar_joints(model, setup.sensors.base_joint)

    @property
    def varies_dynamics(self) -> bool:
        """Whether dynamics differ between tasks, so that observations after a step depend on the task."""
        return any(name not in (COMMAND, GOAL) for name in self.setup.varied)

    def _apply_tasks(self, tasks: Sequence[Task]) -> None:
        if self._constants is not None:
            for model, task in zip(self.models, tasks, strict=True):
                write_task(self.setup.effects, self._constants, model, task)
        if self._delay is not None:
            self._delay.set(self.task_values(tasks, "latency")[:, 0])
        if self._push is not None:
            self._push.set(self.task_values(tasks, "push"), self.horizon)
        if self._breaking is not None:
            self._breaking.set(np.array([task["breaking"] for task in tasks]), self.horizon)
        if self._noise is not None:
            self._noise.set(self.task_values(tasks, "sensor_noise"))
        if GOAL in self.setup.varied:
            self._goal = self.task_values(tasks, GOAL)
        if COMMAND in self.setup.varied:
            given = self.task_values(tasks, COMMAND)
            self._command = np.zeros((self.num_envs, 3))
            self._command[:, : given.shape[1]] = given

    def _reset_rows(self, rows: np.ndarray, rng: np.random.Generator) -> None:
        if self._breaking is not None:
            self._breaking.reset(self.batch, rows)
        self.batch.reset(rows, *self._initial_states(rows, rng))
        self._action[rows] = 0.0
        for played in (self._delay, self._push):
            if played is not None:
                played.reset(rows)
        if self._noise is not None:
            self._noise.draw(rng)
        self._features[rows] = self.setup.sensors.observation(self._state(rows, self._action[rows]))

    def _initial_states(self, rows: np.ndarray, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """Initial positions `[rows, nq]` and velocities `[rows, nv]`: home, with noise on hinges and slides."""
        model, noise = self.setup.loaded.model, self.setup.start_noise
        qpos, qvel = np.tile(self.setup.qpos, (len(rows), 1)), np.zeros((len(rows), model.nv))
        index = self._joints
        places, speeds = model.jnt_qposadr[index], model.jnt_dofadr[index]
        moved = qpos[:, places] + rng.uniform(-noise, noise, (len(rows), len(index)))
        low, high = model.jnt_range[index].T
        qpos[:, places] = np.where(model.jnt_limited[index].astype(np.bool_), np.clip(moved, low, high), moved)
        qvel[:, speeds] = rng.uniform(-VELOCITY_NOISE, VELOCITY_NOISE, (len(rows), len(index)))
        return qpos, qvel

    def _state(self, rows: np.ndarray, last_action: Floats) -> RobotState:
        return self.setup.sensors.read(
            self.batch,
            rows,
            action=self._action[rows],
            last_action=last_action,
            command=self._command[rows],
            goal=self._goal[rows],
            dt=self.dt,
        )

    def _step_rows(self, rows: np.ndarray, actions: Floats) -> tuple[Floats, Bools, Bools, dict[str, np.ndarray]]:
        last, elapsed = self._action[rows], self._elapsed[rows]
        self._action[rows] = np.clip(actions, -1.0, 1.0)
        acting = self._action[rows] if self._delay is None else self._delay(rows, elapsed, self._action[rows])
        if self._push is not None:
            self._push(rows, elapsed)
        if self._breaking is not None:
            self._breaking(self.batch, rows, elapsed)
        diverged = self.batch.step(rows, self.setup.actions.controls(acting))
        with np.errstate(over="ignore", invalid="ignore"):  # numbers of a diverged simulation
            state = self._state(rows, last)
            terms = self.setup.reward(state)
            self._features[rows] = self.setup.sensors.observation(state)
            reward, over = np.sum(list(terms.values()), axis=0), self.setup.ends(state)
        if self._noise is not None:
            self._noise.draw(self.np_random)
        infos = {f"reward/{name}": np.where(diverged, 0.0, values) for name, values in terms.items()}
        if state.goal.shape[1]:
            infos["success"] = goal_distance(state) < self.setup.tolerance
        return reward, over, diverged, infos

    def _observe(self, rows: np.ndarray) -> Floats:
        return self._features[rows] if self._noise is None else self._features[rows] + self._noise.errors(rows)

    def simulations(self) -> list[Simulation]:
        """The simulation of each row."""
        rows = zip(self.batch.models, self.batch.data, strict=True)
        return [Simulation(model, data, self.setup.frame_skip) for model, data in rows]

    def render_row(self, row: int, width: int, height: int) -> np.ndarray:
        """A picture `[height, width, 3]` (bytes) of one row, with all geoms of the file."""
        if self._camera is None or self._camera.size != (width, height):
            if self._camera is not None:
                self._camera.close()
            drawn = self.setup.loaded.drawn()
            self._drawn = mujoco.MjData(drawn)
            self._camera = Camera(drawn, width, height, self._view(drawn), TRACKING)
        self._drawn.qpos[:] = self.batch.data[row].qpos
        mujoco.mj_forward(self._camera.model, self._drawn)
        goal = self._goal[row] if self._goal.shape[1] else None
        return self._camera.picture(self._drawn, goal, 0.5 * self.setup.tolerance)

    def _view(self, model: Any) -> View:
        """A camera that follows a free base, or that shows the whole arm."""
        joint, data = self.setup.sensors.base_joint, self._drawn
        if joint >= 0:
            height = float(model.qpos0[model.jnt_qposadr[joint] + 2])
            return View(int(model.jnt_bodyid[joint]), max(DISTANCE * height, NEAREST), ELEVATION)
        data.qpos[:] = self.setup.qpos
        mujoco.mj_kinematics(model, data)
        size = float(np.ptp(data.xpos[1:], axis=0).max())
        return View(1, max(AROUND * size, NEAREST), ELEVATION)

    def close_extras(self, **kwargs: Any) -> None:
        """Stops the threads and frees the camera."""
        self.batch.close()
        if self._camera is not None:
            self._camera.close()
