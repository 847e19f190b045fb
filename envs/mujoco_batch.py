"""Many MuJoCo simulations stepped as one batch: persistent data, a pool of threads, whole-batch arrays.

`mujoco.mj_step` releases the interpreter lock, so a few Python threads keep every core in physics. Each row owns
an `MjData` for its whole life, which keeps warm starts and contacts, and makes a row's physics equal, bit for
bit, to that of Gymnasium's environment with the same state and actions.
"""

from __future__ import annotations

import logging
import os
from abc import abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gymnasium
import mujoco
import numpy as np
from gymnasium import spaces

from metarl.types import Bools, Floats
from metarl.vector import TaskVecEnv

FATAL_WARNINGS = [
    int(w)
    for w in (
        mujoco.mjtWarning.mjWARN_BADQPOS,
        mujoco.mjtWarning.mjWARN_BADQVEL,
        mujoco.mjtWarning.mjWARN_BADQACC,
    )
]
"""The warnings after which a simulation's state means nothing any more (MuJoCo has reset it by then)."""

logger = logging.getLogger(__name__)


def gymnasium_asset(name: str) -> str:
    """Path of a model that ships with Gymnasium, such as `half_cheetah.xml`."""
    return str(Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets" / name)


def available_cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


class MujocoBatch:
    """`N` simulations of one model, with their positions and velocities as arrays over the batch.

    Args:
        model: The model, shared by all rows.
        num_rows: `N`.
        frame_skip: Physics steps per environment step.
        threads: Threads to step with; all available cores by default.

    Attributes:
        qpos: `[N, nq]`, refreshed by `reset` and `step`.
        qvel: `[N, nv]`, likewise.
    """

    def __init__(self, model: Any, num_rows: int, frame_skip: int, threads: int | None = None) -> None:
        self.model, self.frame_skip = model, frame_skip
        self.data = [mujoco.MjData(model) for _ in range(num_rows)]
        self.qpos, self.qvel = np.zeros((num_rows, model.nq)), np.zeros((num_rows, model.nv))
        # Views into each row's data, taken once: looking them up costs more than copying them.
        self._ctrl = [d.ctrl for d in self.data]
        self._qpos_views, self._qvel_views = [d.qpos for d in self.data], [d.qvel for d in self.data]
        self._warning_views = [d.warning.number for d in self.data]
        self._warnings = np.zeros((num_rows, len(self._warning_views[0])), dtype=self._warning_views[0].dtype)
        self._threads = threads or available_cores()
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="mujoco")
        # A blown-up row is reported by `step`; MuJoCo's own log file would only land in the user's folder.
        mujoco.set_mju_user_warning(lambda message: logger.debug("%s", message))

    def close(self) -> None:
        """Ends the threads."""
        self._pool.shutdown(wait=True)

    def _parallel(self, work: Callable[[Sequence[int]], None], rows: np.ndarray) -> None:
        """Runs `work` on the rows, split evenly over the threads; raises what a thread raised."""
        parts = [part.tolist() for part in np.array_split(rows, self._threads) if len(part)]
        for future in [self._pool.submit(work, part) for part in parts]:
            future.result()

    def _gather(self) -> None:
        """Copies positions and velocities out of the rows: one call each, far cheaper than one per row."""
        np.concatenate(self._qpos_views, out=self.qpos.reshape(-1))
        np.concatenate(self._qvel_views, out=self.qvel.reshape(-1))

    def reset(self, rows: np.ndarray, qpos: Floats, qvel: Floats) -> None:
        """Puts rows into a state and runs `mj_forward`, as Gymnasium's `set_state` does.

        Args:
            rows: Indices of the rows, `[R]`.
            qpos: `[R, nq]`.
            qvel: `[R, nv]`.
        """
        states = {int(row): (p, v) for row, p, v in zip(rows, qpos, qvel, strict=True)}

        def work(part: Sequence[int]) -> None:
            for i in part:
                mujoco.mj_resetData(self.model, self.data[i])
                self._qpos_views[i][:], self._qvel_views[i][:] = states[i]
                mujoco.mj_forward(self.model, self.data[i])

        self._parallel(work, rows)
        self._gather()

    def step(self, rows: np.ndarray, ctrl: Floats) -> Bools:
        """Steps rows by `frame_skip` physics steps.

        Args:
            rows: Indices of the rows, `[R]`.
            ctrl: Controls, `[R, nu]`.

        Returns:
            `[R]`, True where the simulation blew up (not a number, or a huge value) and MuJoCo reset it.
        """
        self.set_controls(rows, ctrl)
        self.bare_physics(rows)
        np.concatenate(self._warning_views, out=self._warnings.reshape(-1))
        return np.any(self._warnings[rows][:, FATAL_WARNINGS], axis=1)

    def set_controls(self, rows: np.ndarray, ctrl: Floats) -> None:
        """Sets the controls `[R, nu]` that `bare_physics` then steps with.

        Not left to the threads: the longer one holds the interpreter lock between two steps, the longer the
        others wait for it (measured: a tenth of the whole step).
        """
        views = self._ctrl
        for i, values in zip(rows.tolist(), ctrl, strict=True):
            views[i][:] = values

    def bare_physics(self, rows: np.ndarray) -> None:
        """Steps rows, and copies out what an observation needs: the floor under the cost of a step."""
        model, data, frame_skip, mj_step = self.model, self.data, self.frame_skip, mujoco.mj_step

        def work(part: Sequence[int]) -> None:
            for i in part:
                mj_step(model, data[i], frame_skip)

        self._parallel(work, rows)
        self._gather()


class MujocoTaskEnv(TaskVecEnv):
    """A batch of one MuJoCo model's environments. A family adds tasks, observation and reward.

    Every reset starts from the model's initial state plus noise: uniform on positions, normal on velocities,
    as in Gymnasium's v5 environments.

    Args:
        num_tasks: `M`.
        episodes: `E`.
        horizon: `T`.
        model_path: The MuJoCo XML file.
        frame_skip: Physics steps per environment step.
        reset_noise_scale: Half-width of the position noise and standard deviation of the velocity noise.
        observation_size: `O`.
        threads: Threads to step with; all available cores by default.
    """

    def __init__(
        self,
        num_tasks: int,
        episodes: int,
        horizon: int,
        *,
        model_path: str,
        frame_skip: int,
        reset_noise_scale: float,
        observation_size: int,
        threads: int | None = None,
    ) -> None:
        model = mujoco.MjModel.from_xml_path(model_path)
        low, high = model.actuator_ctrlrange.astype(np.float32).T
        super().__init__(
            num_tasks,
            episodes,
            horizon,
            spaces.Box(-np.inf, np.inf, (observation_size,), np.float64),
            spaces.Box(low, high, dtype=np.float32),
        )
        self.batch = MujocoBatch(model, self.num_envs, frame_skip, threads)
        self.dt = model.opt.timestep * frame_skip
        self._init_qpos, self._init_qvel = self.batch.data[0].qpos.copy(), self.batch.data[0].qvel.copy()
        self._reset_noise_scale = reset_noise_scale

    def _reset_rows(self, rows: np.ndarray, rng: np.random.Generator) -> None:
        scale, model = self._reset_noise_scale, self.batch.model
        qpos = self._init_qpos + rng.uniform(-scale, scale, (len(rows), model.nq))
        qvel = self._init_qvel + scale * rng.standard_normal((len(rows), model.nv))
        self.batch.reset(rows, qpos, qvel)

    def _step_rows(self, rows: np.ndarray, actions: Floats) -> tuple[Floats, Bools, Bools, dict[str, np.ndarray]]:
        before = self.batch.qpos[rows]
        blown = self.batch.step(rows, actions)
        reward, terminated, terms = self._judge(rows, before, actions)
        return reward, terminated, blown, terms

    @abstractmethod
    def _judge(
        self, rows: np.ndarray, qpos_before: Floats, actions: Floats
    ) -> tuple[Floats, Bools, dict[str, np.ndarray]]:
        """Reward, terminated and info terms, `[rows]` each, after the physics; `qpos_before` is `[rows, nq]`."""

    def close_extras(self, **kwargs: Any) -> None:
        """Ends the threads."""
        self.batch.close()
