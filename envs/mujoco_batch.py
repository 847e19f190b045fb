"""Batches of MuJoCo simulations: persistent data, a thread pool, and arrays over the whole batch.

`mujoco.mj_step` releases the interpreter lock, so a few Python threads keep all cores busy. Each row owns one `MjData`
for its whole life, which keeps warm starts and contacts. Its physics then equals, bit for bit, that of Gymnasium's
environment with the same state and actions. If dynamics vary, each task of the batch owns a model, which `set_tasks`
changes in place.
"""

from __future__ import annotations

import copy
import logging
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import mujoco
import numpy as np
from gymnasium import spaces

from metarl.envs.camera import TRACKING, Camera, View
from metarl.envs.controls import control_space
from metarl.envs.models import actuator_names, find_keyframe, load_model, warn_outside_limits
from metarl.envs.scattered import Scattered
from metarl.envs.variation import Variation
from metarl.envs.workers import Workers
from metarl.types import Bools, Floats, Task
from metarl.vector import TaskVecEnv

FATAL_WARNINGS = [
    int(w)
    for w in (
        mujoco.mjtWarning.mjWARN_BADQPOS,
        mujoco.mjtWarning.mjWARN_BADQVEL,
        mujoco.mjtWarning.mjWARN_BADQACC,
        mujoco.mjtWarning.mjWARN_BADCTRL,
    )
]
"""MuJoCo warnings that mark a simulation as diverged.

MuJoCo resets its state, or, after a control beyond 1e10 (BADCTRL), sets all controls to 0.
"""

Output = Callable[[Any], np.ndarray]
"""A function that returns a view of some numbers of an `MjData`, such as `lambda data: data.xpos[1]`."""

DATA_BYTES = 160_000
"""Lower bound of an `MjData`'s bytes outside of its buffer, mostly solver statistics."""
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Simulation:
    """The simulation of one row, for benchmarks that step it with MuJoCo alone.

    Args:
        model: `MjModel`.
        data: `MjData`.
        frame_skip: Physics steps per environment step.
        after: MuJoCo's function of model and data that an environment step calls after them, or None.
    """

    model: Any
    data: Any
    frame_skip: int
    after: Callable[[Any, Any], None] | None = None


def gymnasium_asset(name: str) -> str:
    """Path of an XML file that ships with Gymnasium, such as `half_cheetah.xml`."""
    return str(Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets" / name)


POSITION_UNITS: Mapping[int, tuple[tuple[str, ...], tuple[str, ...]]] = {
    int(mujoco.mjtJoint.mjJNT_FREE): (("m",) * 3 + ("1",) * 4, ("m/s",) * 3 + ("rad/s",) * 3),
    int(mujoco.mjtJoint.mjJNT_BALL): (("1",) * 4, ("rad/s",) * 3),
    int(mujoco.mjtJoint.mjJNT_SLIDE): (("m",), ("m/s",)),
    int(mujoco.mjtJoint.mjJNT_HINGE): (("rad",), ("rad/s",)),
}
"""Units of the positions (`1` for quaternions) and velocities of each joint type."""


def state_units(model: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Units of a model's positions, length `nq`, and velocities, length `nv`."""
    joints = [POSITION_UNITS[int(kind)] for kind in model.jnt_type]
    positions, velocities = ([unit for joint in joints for unit in joint[i]] for i in range(2))
    return tuple(positions), tuple(velocities)


class MujocoBatch:
    """`N` simulations, with their positions, velocities and further outputs as arrays over the batch.

    Args:
        models: `MjModel` of each of the `N` rows, equal except for values of their fields. Rows may share a model.
        frame_skip: Physics steps per environment step.
        threads: Number of physics threads; all available cores by default.
        outputs: Further outputs to copy from the data, by name. They hold values of the last physics step.
        contact_forces: Whether to compute contact forces on bodies (`cfrc_ext`) after each step, as Gymnasium's
            environments do.
        keyframe: Index of the keyframe from which a reset takes actuator activations; -1 for none.

    Attributes:
        qpos: Joint positions `[N, nq]`, rad or m; updated by `reset` and `step`.
        qvel: Joint velocities `[N, nv]`, rad/s or m/s; updated by `reset` and `step`.
        outputs: Further outputs by name, `[N, size]`; updated by `reset` and `step`.
    """

    def __init__(
        self,
        models: Sequence[Any],
        frame_skip: int,
        threads: int | None = None,
        *,
        outputs: Mapping[str, Output] | None = None,
        contact_forces: bool = False,
        keyframe: int = -1,
    ) -> None:
        self.models, self.frame_skip, self._keyframe = list(models), frame_skip, keyframe
        self.data = [mujoco.MjData(model) for model in self.models]
        self._contact_forces = contact_forces
        # Views into each row's data, created once: creating a view costs more than copying its numbers.
        self._controls = Scattered([[d.ctrl] for d in self.data])
        self._state = [(d.qpos, d.qvel) for d in self.data]
        self._warnings = Scattered([[d.warning.number] for d in self.data])
        named: dict[str, Output] = {"qpos": lambda d: d.qpos, "qvel": lambda d: d.qvel, **(outputs or {})}
        self._gathered = {name: Scattered([[view(d)] for d in self.data]) for name, view in named.items()}
        self.outputs = {name: gathered.array for name, gathered in self._gathered.items()}
        self.qpos, self.qvel = self.outputs["qpos"], self.outputs["qvel"]
        self._workers = Workers(threads)
        # `step` reports diverged rows; by default MuJoCo would also write a log file into the working folder.
        mujoco.set_mju_user_warning(lambda message: logger.debug("%s", message))

    def close(self) -> None:
        """Stops the threads."""
        self._workers.close()

    def _parallel(self, work: Callable[[Sequence[int]], None], rows: np.ndarray) -> None:
        """Runs `work` on the rows, split evenly over the threads; raises the first exception of a thread."""
        if self._workers.count == 1:
            work(rows.tolist())
            return
        self._workers.run(work, [part.tolist() for part in np.array_split(rows, self._workers.count) if len(part)])

    def _gather(self, rows: np.ndarray) -> None:
        for gathered in self._gathered.values():
            gathered.read(rows)

    def reset(self, rows: np.ndarray, qpos: Floats, qvel: Floats) -> None:
        """Sets the state of rows and runs `mj_forward`, as Gymnasium's `set_state` does.

        Args:
            rows: Indices of the rows, `[R]`.
            qpos: Joint positions, `[R, nq]`, rad or m.
            qvel: Joint velocities, `[R, nv]`, rad/s or m/s.
        """
        states = {int(row): (p, v) for row, p, v in zip(rows, qpos, qvel, strict=True)}

        def work(part: Sequence[int]) -> None:
            for i in part:
                model, data = self.models[i], self.data[i]
                mujoco.mj_resetDataKeyframe(model, data, self._keyframe)  # with -1 the same as mj_resetData
                self._state[i][0][:], self._state[i][1][:] = states[i]
                mujoco.mj_forward(model, data)

        self._parallel(work, rows)
        self._gather(rows)

    def step(self, rows: np.ndarray, ctrl: Floats) -> Bools:
        """Steps rows by `frame_skip` physics steps.

        Args:
            rows: Indices of the rows, `[R]`.
            ctrl: Controls, `[R, nu]`, in the actuators' units.

        Returns:
            `[R]`, True for diverged simulations: a state that is not finite, or a value so large that MuJoCo reset it.
        """
        self.set_controls(rows, ctrl)
        self.bare_physics(rows)
        self._warnings.read(rows)
        if not self._warnings.array.any() and np.isfinite(self.qpos).all() and np.isfinite(self.qvel).all():
            return np.zeros(len(rows), dtype=np.bool_)
        warned = np.any(self._warnings.array[rows][:, FATAL_WARNINGS], axis=1)
        # MuJoCo checks a state before it steps from it, so the state after the last physics step is checked here.
        finite = np.isfinite(self.qpos[rows]).all(axis=1) & np.isfinite(self.qvel[rows]).all(axis=1)
        return warned | ~finite

    def set_controls(self, rows: np.ndarray, ctrl: Floats) -> None:
        """Sets the controls `[R, nu]` for the next `bare_physics`."""
        self._controls.write(rows, ctrl)

    def bare_physics(self, rows: np.ndarray) -> None:
        """Steps rows with the controls that are set, and updates the outputs."""
        models, data, frame_skip, contact_forces = self.models, self.data, self.frame_skip, self._contact_forces
        mj_step, mj_rne_post_constraint = mujoco.mj_step, mujoco.mj_rnePostConstraint

        def work(part: Sequence[int]) -> None:
            for i in part:
                mj_step(models[i], data[i], frame_skip)
                if contact_forces:
                    mj_rne_post_constraint(models[i], data[i])

        self._parallel(work, rows)
        self._gather(rows)


class MujocoTaskEnv(TaskVecEnv):
    """A batch of environments of one robot. A subclass sets the class attributes and implements observation and reward.

    A reset starts from the model's initial state or a keyframe, plus noise, as in Gymnasium's v5 environments. Actions
    are the model's controls (`metarl.envs.controls`). All rows share one model. If a variation is given, each task has
    its own, changed in place when tasks are set.

    Args:
        num_tasks: `M`.
        episodes: `E`.
        horizon: `T`.
        variation: Dynamics that differ between tasks; none by default.
        threads: Number of physics threads; all available cores by default.

    Attributes:
        dt: Duration of an environment step, s.

    Raises:
        ValueError: A class attribute is missing, the model does not compile or has no actuators, or the variation
            does not fit the model.
    """

    required: ClassVar[tuple[str, ...]] = (
        "model_path",
        "frame_skip",
        "observation_size",
        "position_noise",
        "velocity_noise",
    )
    """Names of the class attributes that a subclass must set."""

    model_path: ClassVar[str]
    """Path of the MuJoCo XML file."""
    frame_skip: ClassVar[int]
    """Physics steps per environment step."""
    observation_size: ClassVar[int]
    """`O`, number of observation features."""
    position_noise: ClassVar[float]
    """Half-width of the uniform noise on initial joint positions, rad or m."""
    velocity_noise: ClassVar[float]
    """Half-width of the uniform noise on initial joint velocities (rad/s or m/s), or its standard deviation if
    `normal_velocities`."""
    normal_velocities: ClassVar[bool] = False
    """Whether the noise on initial velocities is normal instead of uniform."""
    outputs: ClassVar[Mapping[str, Output]] = {}
    """Outputs of each simulation besides positions and velocities, by name."""
    contact_forces: ClassVar[bool] = False
    """Whether contact forces on bodies (`cfrc_ext`) are computed."""
    view: ClassVar[View | None] = None
    """Camera of pictures; None for the model's camera `camera`."""
    camera: ClassVar[str] = TRACKING
    """Name of a camera of the model. If the default is missing from the model, pictures show the whole model."""
    keyframe: ClassVar[str | None] = None
    """Name of the keyframe that episodes start from; None for the model's initial state."""

    def __init__(
        self,
        num_tasks: int,
        episodes: int,
        horizon: int,
        *,
        variation: Variation | None = None,
        threads: int | None = None,
    ) -> None:
        self._check_constants()
        model = load_model(self.model_path)
        keyframe = find_keyframe(model, self.keyframe)
        super().__init__(
            num_tasks,
            episodes,
            horizon,
            spaces.Box(-np.inf, np.inf, (self.observation_size,), np.float64),
            control_space(model),
        )
        self._variation = None if variation is None else variation.bind(model)
        self.models = [model] * num_tasks if variation is None else [copy.copy(model) for _ in range(num_tasks)]
        self.batch = MujocoBatch(
            [model for model in self.models for _ in range(episodes)],
            self.frame_skip,
            threads,
            outputs=self.outputs,
            contact_forces=self.contact_forces,
            keyframe=keyframe,
        )
        self.row_bytes = DATA_BYTES + self.batch.data[0].nbuffer
        self.task_bytes = 0 if variation is None else model.nbuffer
        self.dt = self.step_seconds = model.opt.timestep * self.frame_skip
        self.action_names = actuator_names(model)
        self.metadata["render_fps"] = max(1, round(1.0 / self.dt))
        self._camera: Camera | None = None
        first = self.batch.data[0]
        mujoco.mj_resetDataKeyframe(model, first, keyframe)
        self._init_qpos, self._init_qvel = first.qpos.copy(), first.qvel.copy()
        own = not self.model_path.startswith(gymnasium_asset(""))  # their users cannot change Gymnasium's
        if own and type(self)._initial_states is MujocoTaskEnv._initial_states:
            warn_outside_limits(model, self._init_qpos)

    def _check_constants(self) -> None:
        """Raises ValueError if a class attribute is missing or `frame_skip` is no positive whole number."""
        missing = [name for name in self.required if not hasattr(type(self), name)]
        if missing:
            raise ValueError(f"{type(self).__name__}: got no {', '.join(missing)}, expected class attributes")
        if not isinstance(self.frame_skip, int) or self.frame_skip < 1:
            raise ValueError(
                f"{type(self).__name__}: got frame_skip {self.frame_skip!r}, expected a whole number of at least 1"
            )

    def _apply_tasks(self, tasks: Sequence[Task]) -> None:
        if self._variation is not None:
            for model, task in zip(self.models, tasks, strict=True):
                self._variation.apply(model, task)

    @property
    def varies_dynamics(self) -> bool:
        """Whether dynamics differ between tasks, so that observations after a step depend on the task."""
        return self._variation is not None

    def _initial_states(self, rows: np.ndarray, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """Initial joint positions `[rows, nq]` and velocities `[rows, nv]`."""
        shape_p, shape_v = (len(rows), len(self._init_qpos)), (len(rows), len(self._init_qvel))
        qpos = self._init_qpos + rng.uniform(-self.position_noise, self.position_noise, shape_p)
        scale = self.velocity_noise
        noise = scale * rng.standard_normal(shape_v) if self.normal_velocities else rng.uniform(-scale, scale, shape_v)
        return qpos, self._init_qvel + noise

    def _reset_rows(self, rows: np.ndarray, rng: np.random.Generator) -> None:
        self.batch.reset(rows, *self._initial_states(rows, rng))

    def _step_rows(self, rows: np.ndarray, actions: Floats) -> tuple[Floats, Bools, Bools, dict[str, np.ndarray]]:
        before = self._position(rows)
        diverged = self.batch.step(rows, self._controls(rows, actions))
        reward, terminated, terms = self._judge(rows, before, actions)
        return reward, terminated, diverged, terms

    def _controls(self, rows: np.ndarray, actions: Floats) -> Floats:
        """Controls `[rows, nu]` of the next step; the actions as given by default."""
        return actions

    def _position(self, rows: np.ndarray) -> Floats:
        """Position `[rows, D]` in m from which the reward computes the velocity over a step; a new array."""
        return self.batch.qpos[rows, :1]

    @abstractmethod
    def _judge(self, rows: np.ndarray, before: Floats, actions: Floats) -> tuple[Floats, Bools, dict[str, np.ndarray]]:
        """Reward, terminated and info terms, `[rows]` each, after a step.

        Args:
            rows: Indices of the rows.
            before: `_position` before the step, `[rows, D]` in m.
            actions: Actions as given, not clipped, `[rows, A]`.
        """

    def simulations(self) -> list[Simulation]:
        """The simulation of each row."""
        batch, after = self.batch, mujoco.mj_rnePostConstraint if self.contact_forces else None
        rows = zip(batch.models, batch.data, strict=True)
        return [Simulation(model, data, self.frame_skip, after) for model, data in rows]

    def render_row(self, row: int, width: int, height: int) -> np.ndarray:
        """A picture `[height, width, 3]` (bytes) of one row."""
        model = self.batch.models[row]
        if self._camera is None or self._camera.model is not model or self._camera.size != (width, height):
            if self._camera is not None:
                self._camera.close()
            self._camera = Camera(model, width, height, self.view, self.camera)
        return self._camera.picture(self.batch.data[row], self._mark(row))

    def _mark(self, row: int) -> Floats | None:
        """Position `[3]` in m of a ball that marks the task in pictures of a row; None for no ball."""
        return None

    def close_extras(self, **kwargs: Any) -> None:
        """Stops the threads and frees the camera."""
        self.batch.close()
        if self._camera is not None:
            self._camera.close()
