"""`TaskVecEnv`: M tasks times E environments behind one Gymnasium vector environment."""

from __future__ import annotations

import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from metarl.finite import NotFiniteError
from metarl.logs import warn_once
from metarl.types import Bools, Floats, Spaces, Task

logger = logging.getLogger(__name__)


ROW, CALLS, LIMIT = range(3)
"""Indices of the numbers of `TaskVecEnv.report_calls`."""
NUM_CALL_NUMBERS = 3

_core_limit: int | None = None


def available_cores() -> int:
    """Number of processor cores that this process may use."""
    if _core_limit is not None:
        return _core_limit
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def limit_cores(cores: int) -> None:
    """Makes `available_cores` return this number, in a process that shares the machine with others of the same run."""
    global _core_limit
    _core_limit = cores


def fixed_actions(space: spaces.Space[Any]) -> str:
    """A warning about action components with equal bounds; empty if every component can vary."""
    if not isinstance(space, spaces.Box):
        return ""
    low, high = np.ravel(space.low), np.ravel(space.high)
    fixed = np.flatnonzero(low == high)
    if not len(fixed):
        return ""
    numbers = ", ".join(map(str, fixed.tolist()))
    return (
        f"the action space allows component {numbers} of {len(low)} only the value {low[fixed[0]]:g}, so it has no "
        "effect; declare bounds (MuJoCo reports 0 to 0 for an actuator without ctrlrange)"
    )


@dataclass(frozen=True)
class ActionControls:
    """Controls of a robot's actuators at an action a: `clip(centre + scale * a, low, high)`.

    A servo's torque is `clip(kp (control - q) - kd q', -limit, limit)`, for the position q of its joint in rad or m and
    the control in the same unit.

    Args:
        centre: `[A]`.
        scale: `[A]`.
        low: Lowest controls, `[A]`; -inf without a bound.
        high: Highest controls, `[A]`.
        kind: `servo` (of the robot's file), `pd` (a servo that was made of a motor), `torque` or `other`, each.
        unit: Unit of each control, such as `rad` or `24 N m`; `1` if unknown.
        kp: Stiffness, `[A]`, N m/rad or N/m; NaN if there is none.
        kd: Damping, `[A]`, N m s/rad or N s/m; likewise.
        limit: Largest torque or force of a servo, `[A]`, N m or N; likewise, inf without a limit.
    """

    centre: Floats
    scale: Floats
    low: Floats
    high: Floats
    kind: tuple[str, ...]
    unit: tuple[str, ...]
    kp: Floats
    kd: Floats
    limit: Floats


@dataclass(frozen=True)
class HomePose:
    """The pose that observed joint positions are relative to.

    Args:
        joints: Names of the joints.
        positions: Their positions, `[J]`.
        units: `rad` or `m`, each.
        site: The part whose position is observed, such as `site tip`; empty for none.
    """

    joints: tuple[str, ...]
    positions: Floats
    units: tuple[str, ...]
    site: str


class TaskVecEnv(VectorEnv[Floats, Floats, Any], ABC):
    """`N = M * E` environments, task-major, stepped as one batch; row `m * E + e` plays task `m`.

    The batch keeps the time limit and never resets rows by itself (Gymnasium's autoreset mode `DISABLED`). A done row
    is not stepped, and has reward 0, until `reset`. A family implements four methods: `_apply_tasks`, `_reset_rows`,
    `_step_rows` and `_observe`.

    Step infos, each `[N]`: `diverged` (the simulation diverged in this step; the row is terminated with reward 0 and
    its last finite observation), `success` if the family has it, and the family's own reward terms.

    Args:
        num_tasks: `M`.
        episodes: `E`, environments per task.
        horizon: `T`, steps after which an episode is truncated.
        observation_space: Observation space of one environment, a `Box` with one axis.
        action_space: Action space of one environment: a `Box` with one axis, or a `Discrete`.

    Raises:
        ValueError: A size is below 1, or the observation space is empty.
    """

    reports_success: bool = False
    """Whether infos report success. If they report it only when it happens, it is True after the first report."""
    single_observation_space: spaces.Box
    single_action_space: spaces.Box | spaces.Discrete
    row_bytes: int = 1024
    """Lower bound on the memory of one environment without its observations, bytes. Set it for families of large rows:
    a batch that exceeds the memory then raises an error before it is created."""
    task_bytes: int = 0
    """Lower bound on the memory that the environments of a task share, bytes."""
    observation_units: tuple[str, ...] = ()
    """Unit of each feature, as in `Spaces.observation_units`; empty if unknown."""
    observation_names: tuple[str, ...] = ()
    """Name of each feature, for the contract of an exported policy; empty if unknown."""
    action_names: tuple[str, ...] = ()
    """Name of each component of an action, likewise."""
    action_units: tuple[str, ...] = ()
    """Unit of each component of an action, likewise."""
    step_seconds: float | None = None
    """Duration of a step, s; None if steps have none, or if it is unknown."""
    action_controls: ActionControls | None = None
    """Controls of the robot's actuators at an action, likewise; None if actions are the controls themselves."""
    home_pose: HomePose | None = None
    """The pose that joint positions of the observation are relative to, likewise; None if they are absolute."""

    def __init__(
        self,
        num_tasks: int,
        episodes: int,
        horizon: int,
        observation_space: spaces.Box,
        action_space: spaces.Box | spaces.Discrete,
    ) -> None:
        for name, value in (("num_tasks", num_tasks), ("episodes", episodes), ("horizon", horizon)):
            if value < 1:
                raise ValueError(f"TaskVecEnv: got {name} = {value}, expected at least 1")
        if not observation_space.shape[0]:
            raise ValueError(
                "TaskVecEnv: got an empty observation space, expected at least one number, such as a constant"
            )
        self.num_tasks, self.episodes, self.horizon = num_tasks, episodes, horizon
        self.num_envs = num_tasks * episodes
        self.single_observation_space, self.single_action_space = observation_space, action_space
        self.observation_space = batch_space(observation_space, self.num_envs)
        self.action_space = batch_space(action_space, self.num_envs)
        self.metadata = {"autoreset_mode": AutoresetMode.DISABLED}
        self.tasks: tuple[Task, ...] = ()
        self._elapsed = np.zeros(self.num_envs, dtype=np.int64)  # [N]
        self._over = np.ones(self.num_envs, dtype=np.bool_)  # [N], True until the first reset
        self._observations = np.zeros((self.num_envs, *observation_space.shape), dtype=observation_space.dtype)

    def end(self, rows: Bools) -> None:
        """Ends the episodes of the rows whose entry `[N]` is True, until the next reset."""
        self._over = self._over | rows

    # Implemented by each family ---------------------------------------------------------------------------

    @abstractmethod
    def _apply_tasks(self, tasks: Sequence[Task]) -> None:
        """Applies the parameters of the `M` tasks."""

    @abstractmethod
    def _reset_rows(self, rows: np.ndarray, rng: np.random.Generator) -> None:
        """Starts an episode in the rows; draws the reset noise from `rng`."""

    @abstractmethod
    def _step_rows(self, rows: np.ndarray, actions: Floats) -> tuple[Floats, Bools, Bools, dict[str, np.ndarray]]:
        """Steps the rows with `actions` `[rows, A]`, or whole numbers `[rows]` if they are discrete.

        Returns reward, terminated, diverged and infos, `[rows]` each. Infos may hold `truncated`, for a row that
        reached its own time limit before the batch's. Draw noise from `self.np_random`.
        """

    @abstractmethod
    def _observe(self, rows: np.ndarray) -> Floats:
        """The observations of the rows, `[rows, O]`."""

    # ----------------------------------------------------------------------------------------------------

    @property
    def spaces(self) -> Spaces:
        """Sizes, bounds and units, for an agent.

        Raises:
            ValueError: `observation_units` has neither 0 nor `O` entries.
        """
        space, size = self.single_action_space, int(self.single_observation_space.shape[0])
        units = tuple(self.observation_units)
        if units and len(units) != size:
            raise ValueError(
                f"{type(self).__name__}: got {len(units)} observation_units, expected {size}, one for each number of "
                "an observation"
            )
        if isinstance(space, spaces.Discrete):
            first, last = float(space.start), float(space.start + space.n - 1)
            return Spaces(size, (first,), (last,), self.horizon, choices=int(space.n), observation_units=units)
        if complaint := fixed_actions(space):
            warn_once(logger, complaint)
        low, high = (tuple(map(float, bound)) for bound in (space.low, space.high))
        return Spaces(size, low, high, self.horizon, observation_units=units)

    def set_tasks(self, tasks: Sequence[Task]) -> None:
        """Sets the task of each group of `E` rows; every row has to be reset before the next step.

        Raises:
            ValueError: The number of tasks is not `M`.
        """
        if len(tasks) != self.num_tasks:
            raise ValueError(f"set_tasks: got {len(tasks)} tasks, expected {self.num_tasks}")
        self._apply_tasks(tasks)
        self.tasks = tuple(tasks)
        self._over[:] = True

    def report_calls(self, numbers: NDArray[np.int64]) -> None:
        """Reports calls of single environments, for the owner of a worker process; call it before the first reset.

        A batch that steps itself reports nothing.

        Args:
            numbers: `[3]`, written at each call: the row that is called, the number of calls so far, and the time limit
                of the call, ms (0 between calls).
        """

    def render_row(self, row: int, width: int, height: int) -> np.ndarray:
        """An image of the current state of one row.

        Args:
            row: Index of the environment, from 0 to `N - 1`.
            width: Width of the image, pixels.
            height: Height of the image, pixels.

        Returns:
            `[height, width, 3]`, red, green and blue from 0 to 255; in the environment's own size if that is fixed.

        Raises:
            ValueError: The environments have no rendering.
        """
        raise ValueError(f"render_row: {type(self).__name__} has no rendering; override render_row")

    def task_values(self, tasks: Sequence[Task], name: str) -> Floats:
        """One parameter of each row's task, `[N, size]`."""
        return np.repeat(np.array([task[name] for task in tasks]), self.episodes, axis=0)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Floats, dict[str, Any]]:
        """Starts new episodes in all rows, or in those of `options["reset_mask"]` `[N]`.

        Raises:
            RuntimeError: `set_tasks` was not called.
            ValueError: The mask has another shape or type.
        """
        if not self.tasks:
            raise RuntimeError("TaskVecEnv.reset: got no tasks; call set_tasks first")
        super().reset(seed=seed)
        mask = np.ones(self.num_envs, dtype=np.bool_) if options is None else options.get("reset_mask")
        if not isinstance(mask, np.ndarray) or mask.shape != (self.num_envs,) or mask.dtype != np.bool_:
            raise ValueError(f"reset_mask: got {mask!r}, expected a boolean array of shape ({self.num_envs},)")
        rows = np.flatnonzero(mask)
        self._reset_rows(rows, self.np_random)
        self._elapsed[rows] = 0
        self._over[rows] = False
        self._observations[rows] = self._observe(rows)
        return self._observations.copy(), {}

    def step(self, actions: Floats) -> tuple[Floats, Floats, Bools, Bools, dict[str, Any]]:
        """Steps every row whose episode is not done.

        Args:
            actions: `[N, A]`, or `[N]` if discrete; the actions of done rows are ignored.

        Returns:
            Observations `[N, O]`, rewards, terminated, truncated `[N]`, and infos. Rows that were done
            repeat their last observation with reward 0 and both flags False.

        Raises:
            ValueError: The shape is wrong, or a live row's action is no choice of the space.
            NotFiniteError: A live row's action is not finite.
        """
        actions = np.asarray(actions)
        space = self.single_action_space
        if actions.shape != self.action_space.shape:
            raise ValueError(f"step: got actions of shape {actions.shape}, expected {self.action_space.shape}")
        rows = np.flatnonzero(~self._over)
        live_actions = actions[rows]
        allowed = np.isfinite(live_actions)
        if isinstance(space, spaces.Discrete):
            among = (live_actions >= space.start) & (live_actions < space.start + space.n)
            allowed = allowed & among & (live_actions == np.rint(live_actions))
        if not allowed.all():
            row = rows[np.flatnonzero(~allowed.reshape(len(rows), -1).all(axis=1))[0]]
            kind = "not finite"
            if isinstance(space, spaces.Discrete):
                above = f" and not below {space.start}" if space.start else ""
                kind = f"no choice below {space.start + space.n}{above}"
            error = ValueError if isinstance(space, spaces.Discrete) else NotFiniteError
            raise error(f"step: got an action that is {kind} in row {row} (task {row // self.episodes})")
        if isinstance(space, spaces.Discrete):
            live_actions = live_actions.astype(np.int64)
        reward, ended, blown, terms = self._step_rows(rows, live_actions)
        self._elapsed[rows] += 1

        rewards = np.zeros(self.num_envs)
        terminated, truncated, diverged = (np.zeros(self.num_envs, dtype=np.bool_) for _ in range(3))
        sound = rows[~blown]
        self._observations[sound] = self._observe(sound)
        rewards[rows] = np.where(blown, 0.0, reward)
        terminated[rows] = ended | blown
        diverged[rows] = blown
        out_of_time = (self._elapsed[rows] >= self.horizon) | terms.pop("truncated", False)
        truncated[rows] = ~terminated[rows] & out_of_time
        self._over = self._over | terminated | truncated
        infos: dict[str, Any] = {"diverged": diverged}
        for name, values in terms.items():
            infos[name] = np.zeros((self.num_envs, *values.shape[1:]), dtype=values.dtype)
            infos[name][rows] = values
        self.reports_success = self.reports_success or "success" in infos
        if self.reports_success:
            infos.setdefault("success", np.zeros(self.num_envs, dtype=np.bool_))
        return self._observations.copy(), rewards, terminated, truncated, infos


def random_actions(space: spaces.Box | spaces.Discrete, rows: int, rng: np.random.Generator) -> np.ndarray:
    """Uniform random actions: `[rows, A]`, or `[rows]` if discrete; unbounded components are uniform on [-1, 1)."""
    if isinstance(space, spaces.Discrete):
        return rng.integers(space.n, size=rows) + int(space.start)
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    bounded = np.isfinite(low) & np.isfinite(high)
    uniform = rng.uniform(np.where(bounded, low, -1.0), np.where(bounded, high, 1.0), (rows, *low.shape))
    return np.clip(uniform, low, high).astype(space.dtype)
