"""What runs beside the environment: one row of the batch, and the part of the batch that one worker process holds.

A row reports after every call one array `[O + 4]`: the flattened observation, then reward, terminated, truncated,
and success (not a number where the environment says nothing about it). So a whole part travels back as one array.
"""

from __future__ import annotations

import faulthandler
import os
import shutil
import signal
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import parent_process
from pathlib import Path
from typing import Any, Literal, TypeAlias

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from metarl.custom.safe_path import forget_safe_path
from metarl.types import Floats, Task

Env: TypeAlias = gymnasium.Env[Any, Any]
VERDICT = 4
"""Numbers of a report after its observation: reward, terminated, truncated, success."""
SUCCESS_KEYS = ("success", "is_success")
"""Under which of an environment's infos an episode's success is looked for."""
LEAVE = -1
"""In place of a seed: do not reset this row."""


class EnvError(RuntimeError):
    """An environment of the user's own raised, died, hung, or returned what it must not.

    Args:
        message: One line: what happened, in which task.
        trace: The environment's own traceback, or an empty text where there is none.
    """

    def __init__(self, message: str, trace: str = "") -> None:
        super().__init__(message, trace)
        self.message, self.trace = message, trace

    def __str__(self) -> str:
        return self.message


def describe(task: Task | None) -> str:
    """A task in words, every number to its last digit."""
    if task is None:
        return "no task yet"
    return ", ".join(
        f"{name} = {values[0]!r}" if len(values) == 1 else f"{name} = ({', '.join(map(repr, values))})"
        for name, values in task.parameters
    )


@dataclass(frozen=True, kw_only=True)
class Maker:
    """How to get an environment that plays a task.

    Args:
        make_env: Makes an environment; gets the parameters in `arguments` as keywords.
        delivery: How the others reach it: `attributes` sets each on the bare environment, `set_task` calls
            `env.set_task(values)`, `options` hands `{"task": values}` to every reset. `values` is a dict from
            name to a float, or to an array where a parameter has several components.
        arguments: Parameters that `make_env` takes: a new environment is made whenever the task changes.
        integers: Parameters handed over as `int`.
    """

    make_env: Callable[..., Env]
    delivery: Literal["attributes", "set_task", "options"]
    arguments: tuple[str, ...] = ()
    integers: tuple[str, ...] = ()

    def values(self, task: Task) -> dict[str, Any]:
        """The task as an environment gets it."""

        def value(name: str, numbers: tuple[float, ...]) -> Any:
            if len(numbers) > 1:
                return np.array(numbers)
            return int(numbers[0]) if name in self.integers else numbers[0]

        return {name: value(name, numbers) for name, numbers in task.parameters}

    def play(self, env: Env | None, task: Task) -> Env:
        """An environment that plays the task: the same one, told about it, where that is enough."""
        values = self.values(task)
        if env is None or self.arguments:
            if env is not None:
                env.close()
            env = self.make_env(**{name: values[name] for name in self.arguments})
        if self.delivery == "attributes":
            for name in values.keys() - set(self.arguments):
                setattr(env.unwrapped, name, values[name])
        elif self.delivery == "set_task":
            env.get_wrapper_attr("set_task")(values)
        elif self.delivery == "options":
            if not isinstance(env, TaskInOptions):
                env = TaskInOptions(env)
            env.task_values = values
        return env


class TaskInOptions(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Hands the task to every reset as `options["task"]`."""

    task_values: dict[str, Any]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """As the environment's own, with the task added."""
        return self.env.reset(seed=seed, options={**(options or {}), "task": self.task_values})


@dataclass(frozen=True)
class Layout:
    """How an environment's observations and actions become rows of numbers.

    Args:
        observation_space: The environment's own.
        action_space: The environment's own.
        units: Of the flattened observation's numbers, as `Spaces.observation_units` has them.
    """

    observation_space: spaces.Space[Any]
    action_space: spaces.Space[Any]
    units: tuple[str, ...] = ()

    @property
    def observation_size(self) -> int:
        """`O`."""
        return int(spaces.flatdim(self.observation_space))

    @property
    def action_size(self) -> int:
        """`A`; 1 for a choice."""
        return 1 if isinstance(self.action_space, spaces.Discrete) else int(np.prod(self.action_space.shape or (1,)))

    def flat(self, observation: Any) -> Floats:
        """An observation as `[O]`.

        Raises:
            ValueError: It has not the structure or the shape of its space.
        """
        try:
            row = np.asarray(spaces.flatten(self.observation_space, observation), dtype=np.float64)
        except (TypeError, KeyError, IndexError, ValueError, AttributeError) as error:
            raise ValueError(
                f"got the observation {observation!r}, expected one of {self.observation_space} ({error})"
            ) from error
        if row.shape != (self.observation_size,):
            raise ValueError(
                f"got an observation of {row.size} numbers, but its space {self.observation_space} has "
                f"{self.observation_size}; make the two agree"
            )
        return row

    def action(self, row: Floats) -> Any:
        """The environment's action from a row of the batch, `[A]`."""
        if isinstance(self.action_space, spaces.Discrete):
            return np.int64(row[0])
        return np.reshape(row, self.action_space.shape or ()).astype(self.action_space.dtype)


class TaskRow(gymnasium.Env[Floats, Floats]):
    """One row: makes its environment when its task arrives, and stands still when an action is not a number.

    Args:
        maker: How to get an environment for a task.
        layout: Its spaces.
        index: The row's place in the batch.
        progress: `[2]`: which row is at work, and how many calls have been made; written at each call.
    """

    def __init__(self, maker: Maker, layout: Layout, index: int, progress: Floats) -> None:
        self._maker, self._layout, self._index, self._progress = maker, layout, index, progress
        self.observation_space = spaces.Box(-np.inf, np.inf, (layout.observation_size + VERDICT,), np.float64)
        self.action_space = spaces.Box(-np.inf, np.inf, (layout.action_size,), np.float64)
        self._env: Env | None = None
        self._task: Task | None = None
        self._report = np.zeros(layout.observation_size + VERDICT)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Floats, dict[str, Any]]:
        """Takes its task from `options["tasks"]` `[N]` and its seed from `options["seeds"]` `[N]`."""
        assert options is not None
        task, row_seed = options["tasks"][self._index], int(options["seeds"][self._index])
        if row_seed != LEAVE:
            observation, _ = self._guarded("reset", self._start, task, row_seed)
            self._report = np.concatenate([observation, [0.0, 0.0, 0.0, np.nan]])
        return self._report, {}

    def _start(self, task: Task, seed: int) -> tuple[Floats, dict[str, Any]]:
        if self._env is None or task != self._task:
            self._task = task
            self._env = self._maker.play(self._env, task)
        observation, info = self._env.reset(seed=seed)
        return self._layout.flat(observation), info

    def step(self, action: Floats) -> tuple[Floats, float, bool, bool, dict[str, Any]]:
        """Steps its environment; the report says the rest."""
        if not np.isnan(action[0]):
            self._report = self._guarded("step", self._advance, action)
        return self._report, 0.0, False, False, {}

    def _advance(self, action: Floats) -> Floats:
        assert self._env is not None
        observation, reward, terminated, truncated, info = self._env.step(self._layout.action(action))
        success = next((info[key] for key in SUCCESS_KEYS if key in info), np.nan)
        verdict = [float(reward), float(bool(terminated)), float(bool(truncated)), float(success)]
        return np.concatenate([self._layout.flat(observation), verdict])

    def picture(self) -> np.ndarray:
        """What its environment draws, `[height, width, 3]`.

        Raises:
            EnvError: That raised, or is no picture.
        """
        assert self._env is not None
        frame = np.asarray(self._guarded("render", self._env.render))
        if frame.ndim != 3 or frame.shape[2] != 3:
            raise EnvError(
                f"the environment's render returned an array of shape {frame.shape}, expected [height, width, 3]; "
                'it was made with render_mode="rgb_array"'
            )
        return frame

    def _guarded(self, name: str, call: Callable[..., Any], *arguments: Any) -> Any:
        """Calls into the environment; what goes wrong there becomes an `EnvError` with its traceback."""
        self._progress[0] = self._index
        self._progress[1] += 1
        try:
            return call(*arguments)
        except Exception as error:
            raise EnvError(
                f"the environment raised {type(error).__name__} in {name} ({error}), "
                f"row {self._index}, task: {describe(self._task)}",
                traceback.format_exc(),
            ) from error

    def close(self) -> None:
        """Closes its environment."""
        if self._env is not None:
            self._env.close()
            self._env = None


def make_rows(maker: Maker, layout: Layout, rows: range, progress: Floats) -> SyncVectorEnv[Floats, Floats]:
    """Gymnasium's vector environment over some rows of the batch; no environment is made yet."""

    def row(index: int) -> Callable[[], TaskRow]:
        return lambda: TaskRow(maker, layout, index, progress)

    return SyncVectorEnv([row(i) for i in rows], copy=False, autoreset_mode=AutoresetMode.DISABLED)


class Part(gymnasium.Env[Floats, Floats]):
    """The rows that one worker process holds, as a single environment of Gymnasium's `AsyncVectorEnv`.

    All parts of a batch have the same size; the last one may hold fewer rows, and its spare ones stay zero.

    Args:
        maker: How to get an environment for a task.
        layout: Its spaces.
        rows: The rows of the batch that it holds.
        size: Rows that it has room for.
        progress: As for `TaskRow`.
    """

    def __init__(self, maker: Maker, layout: Layout, rows: range, size: int, progress: Floats) -> None:
        self._rows = make_rows(maker, layout, rows, progress)
        shape = (size, layout.observation_size + VERDICT)
        self.observation_space = spaces.Box(-np.inf, np.inf, shape, np.float64)
        self.action_space = spaces.Box(-np.inf, np.inf, (size, layout.action_size), np.float64)
        self._report = np.zeros(shape)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Floats, dict[str, Any]]:
        """Resets its rows as `TaskRow.reset` does; a failure is handed back in the infos."""
        try:
            self._report[: self._rows.num_envs], _ = self._rows.reset(options=options)
        except EnvError as failure:
            return self._report, {"failure": failure}
        return self._report, {}

    def step(self, action: Floats) -> tuple[Floats, float, bool, bool, dict[str, Any]]:
        """Steps its rows; a failure is handed back in the infos."""
        try:
            self._report[: self._rows.num_envs] = self._rows.step(action[: self._rows.num_envs])[0]
        except EnvError as failure:
            return self._report, 0.0, False, False, {"failure": failure}
        return self._report, 0.0, False, False, {}

    def close(self) -> None:
        """Closes its rows."""
        self._rows.close()


@dataclass(frozen=True)
class PartMaker:
    """Makes a `Part`, in the worker process that will hold it.

    Args:
        maker: As for `Part`.
        layout: As for `Part`.
        rows: As for `Part`.
        size: As for `Part`.
        black_box: Files of the worker: `progress_file` and `trace_file` of it.
        owner: Process that the batch belongs to.
    """

    maker: Maker
    layout: Layout
    rows: range
    size: int
    black_box: Path
    owner: int

    def __call__(self) -> Part:
        """The part; in a worker process, that process is prepared first."""
        if os.getpid() == self.owner:  # Gymnasium asks there for the spaces
            return Part(self.maker, self.layout, self.rows, self.size, np.zeros(2, dtype=np.int64))
        prepare_worker(self.black_box)
        return Part(self.maker, self.layout, self.rows, self.size, open_progress(self.black_box))


def progress_file(black_box: Path) -> Path:
    """Where a worker writes its progress."""
    return black_box.with_suffix(".progress")


def trace_file(black_box: Path) -> Path:
    """Where a worker writes its traceback when it dies of a signal, or when it is asked to."""
    return black_box.with_suffix(".trace")


def read_trace(black_box: Path) -> str:
    """What a worker wrote there; empty while it wrote nothing."""
    lines = (
        trace_file(black_box).read_text(encoding="utf-8", errors="replace") if trace_file(black_box).exists() else ""
    )
    return "\n".join(line for line in lines.splitlines() if not line.startswith("Extension modules:"))


def open_progress(black_box: Path) -> Floats:
    """The progress that a worker writes and its owner reads: `[2]`, as for `TaskRow`."""
    return np.memmap(progress_file(black_box), dtype=np.int64, mode="r+", shape=(2,))


def prepare_worker(black_box: Path) -> None:
    """Makes a worker process leave Ctrl-C to its owner, end with it, and say where it is when it dies or hangs."""
    forget_safe_path()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    file = open(trace_file(black_box), "w", encoding="utf-8")  # noqa: SIM115  # stays open for the process
    faulthandler.enable(file=file, all_threads=False)
    faulthandler.register(signal.SIGUSR1, file=file, all_threads=False)
    threading.Thread(target=_end_with_owner, args=(black_box.parent,), daemon=True).start()


def _end_with_owner(folder: Path) -> None:
    """Ends this process when the one that started it does, even in the middle of a step, and clears up after it."""
    owner = parent_process()
    if owner is not None:
        owner.join()
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(1)
