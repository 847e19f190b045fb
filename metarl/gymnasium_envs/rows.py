"""One row of a batch: makes its environment, passes it the task, and reads its return values.

After every call a row reports one array `[O + 4]`: the flattened observation, reward, terminated, truncated and success
(NaN if the environment does not report it).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from multiprocessing import parent_process
from typing import Any, Literal, TypeAlias

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from numpy.typing import NDArray

from metarl.gymnasium_envs import answers
from metarl.gymnasium_envs.answers import AnswerError, Success
from metarl.own_code.errors import EnvError
from metarl.own_code.guest import NoAnswerError, guest, say_once, time_limit, words_of
from metarl.own_code.modules import own_trace
from metarl.parameters import describe
from metarl.types import Floats, Task
from metarl.vector import CALLS, ROW

Env: TypeAlias = gymnasium.Env[Any, Any]
VERDICT = 4
"""Numbers after the observation in a report: reward, terminated, truncated, success."""
FAREWELL_SECONDS = 5.0
"""Time limit for closing an inspected environment, s; a slower one is left open."""
LEAVE = -1
"""Value instead of a seed for a row that is not reset."""


@dataclass(frozen=True, kw_only=True)
class Maker:
    """Makes an environment, and passes it a task.

    Args:
        make_env: Makes an environment from the parameters in `arguments`, as keywords.
        delivery: Way that it receives the other parameters: `attributes` sets each on the unwrapped environment,
            `set_task` calls `env.set_task(values)`, `options` passes `{"task": values}` to every reset. `values` is a
            dict from name to float, or to an array for several components.
        arguments: Parameters that `make_env` takes; a change of task then makes a new environment.
        integers: Parameters passed as `int`.
    """

    make_env: Callable[..., Env]
    delivery: Literal["attributes", "set_task", "options"]
    arguments: tuple[str, ...] = ()
    integers: tuple[str, ...] = ()

    def values(self, task: Task) -> dict[str, Any]:
        """The values of a task as an environment receives them."""

        def value(name: str, numbers: tuple[float, ...]) -> Any:
            if len(numbers) > 1:
                return np.array(numbers)
            return int(numbers[0]) if name in self.integers else numbers[0]

        return {name: value(name, numbers) for name, numbers in task.parameters}

    def play(self, env: Env | None, task: Task, values: dict[str, Any] | None = None) -> Env:
        """An environment with the task: the previous one if it can receive the task, otherwise a new one.

        Args:
            env: The previous environment, if any.
            task: The task.
            values: The values of the task, if the caller keeps them to detect changes of their arrays.
        """
        values = self.values(task) if values is None else values
        if env is None or self.arguments:
            if env is not None:
                close_env(env)
            env = self.make(values)
        return self.tell(env, values)

    def make(self, values: dict[str, Any]) -> Env:
        """A new environment, made with the values that are arguments."""
        return self.make_env(**{name: values[name] for name in self.arguments})

    def tell(self, env: Env, values: dict[str, Any]) -> Env:
        """Passes the other values to the environment; returns the environment or a wrapper."""
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
    """Passes the task to every reset as `options["task"]`."""

    task_values: dict[str, Any]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Resets the environment with the task added to the options; arrays are copies, which it may change."""
        task = {name: np.copy(v) if isinstance(v, np.ndarray) else v for name, v in self.task_values.items()}
        return self.env.reset(seed=seed, options={**(options or {}), "task": task})


def close_env(env: Env) -> bool:
    """Closes an environment; an error becomes a warning. Returns False if the call hung."""
    try:
        env.close()
    except KeyboardInterrupt:
        raise
    except NoAnswerError as error:
        say_once(f"the environment hangs in close: {error}; it is left open, and the command continues")
        return False
    except BaseException as error:  # sys.exit, or an exception that is no Exception
        say_once(f"{what_it_did(error, 'close')}; the command continues")
    return True


def farewell(env: Env) -> None:
    """Closes an inspected environment, within a short time limit."""
    with guest(), time_limit(FAREWELL_SECONDS):
        close_env(env)


@dataclass(frozen=True)
class Layout:
    """The conversion of an environment's observations and actions to and from rows of numbers.

    Args:
        observation_space: Observation space of the environment.
        action_space: Action space of the environment.
        units: Units of the flattened observation, as in `Spaces.observation_units`.
        success: Key or function that reports success; None for `SUCCESS_KEYS`.
    """

    observation_space: spaces.Space[Any]
    action_space: spaces.Space[Any]
    units: tuple[str, ...] = ()
    success: Success | None = None

    @cached_property
    def observation_size(self) -> int:
        """`O`."""
        return int(spaces.flatdim(self.observation_space))

    @property
    def action_size(self) -> int:
        """`A`; 1 for discrete actions."""
        return 1 if isinstance(self.action_space, spaces.Discrete) else int(np.prod(self.action_space.shape or (1,)))

    @cached_property
    def _is_exact(self) -> bool:
        return answers.exact(self.observation_space)

    @cached_property
    def _bounds(self) -> tuple[Floats, Floats] | None:
        """Bounds that actions are clipped to if they are no float32 numbers: rounding to float32 could exceed them."""
        space = self.action_space
        if not isinstance(space, spaces.Box) or space.dtype != np.float64:
            return None
        with np.errstate(over="ignore"):
            exact = [np.array_equal(bound, bound.astype(np.float32)) for bound in (space.low, space.high)]
        return None if all(exact) else (space.low, space.high)

    def flat(self, observation: Any) -> Floats:
        """An observation as `[O]`.

        Raises:
            AnswerError: The structure, the shape or a number does not fit the space.
        """
        try:
            lost = observation is None or (not self._is_exact and answers.misfit(self.observation_space, observation))
            if lost:
                raise ValueError("it is None" if observation is None else lost)
            row = np.asarray(spaces.flatten(self.observation_space, observation), dtype=np.float64)
        except (TypeError, KeyError, IndexError, ValueError, AttributeError, OverflowError, RuntimeError) as error:
            raise AnswerError(
                f"got the observation {observation!r}, expected one of {self.observation_space} ({error})"
            ) from error
        if row.shape != (self.observation_size,):
            raise AnswerError(
                f"got an observation of {row.size} numbers, but its space {self.observation_space} has "
                f"{self.observation_size}; make the two agree"
            )
        return row

    def action(self, row: Floats) -> Any:
        """The environment's action for a row `[A]` of the batch."""
        if isinstance(self.action_space, spaces.Discrete):
            return np.int64(row[0])
        action = np.reshape(row, self.action_space.shape or ()).astype(self.action_space.dtype)
        return action if self._bounds is None else np.clip(action, *self._bounds)


class TaskRow(gymnasium.Env[Floats, Floats]):
    """One row: makes its environment when it receives a task, and does not step if an action is NaN.

    Args:
        maker: Makes an environment for a task.
        layout: The environment's spaces.
        index: Index of the row in the batch.
        calls: `[3]`, as in `TaskVecEnv.report_calls`.
    """

    def __init__(self, maker: Maker, layout: Layout, index: int, calls: NDArray[np.int64]) -> None:
        self._maker, self._layout, self._index, self._calls = maker, layout, index, calls
        self.observation_space = spaces.Box(-np.inf, np.inf, (layout.observation_size + VERDICT,), np.float64)
        self.action_space = spaces.Box(-np.inf, np.inf, (layout.action_size,), np.float64)
        self._env: Env | None = None
        self._task: Task | None = None
        self._told: dict[str, Any] = {}
        self._report = np.zeros(layout.observation_size + VERDICT)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Floats, dict[str, Any]]:
        """Resets with its task of `options["tasks"]` `[N]` and its seed of `options["seeds"]` `[N]`."""
        assert options is not None
        task, row_seed = options["tasks"][self._index], int(options["seeds"][self._index])
        if row_seed != LEAVE:
            observation = self._guarded("reset", self._start, task, row_seed)
            self._report = np.concatenate([observation, [0.0, 0.0, 0.0, np.nan]])
        return self._report, {}

    def _start(self, task: Task, seed: int) -> Floats:
        if self._env is None or task != self._task or self._told_arrays_changed():
            self._task, self._told = task, self._maker.values(task)
            self._env = self._maker.play(self._env, task, self._told)
        observation, _ = answers.reset_answer(self._env.reset(seed=seed))
        return self._layout.flat(observation)

    def _told_arrays_changed(self) -> bool:
        """Whether the environment changed an array of its task in place, so that the task has to be passed again."""
        assert self._task is not None
        arrays = ((name, value) for name, value in self._told.items() if isinstance(value, np.ndarray))
        return any(tuple(value) != self._task[name] for name, value in arrays)

    def step(self, action: Floats) -> tuple[Floats, float, bool, bool, dict[str, Any]]:
        """Steps its environment; the observation is the whole report."""
        if not np.isnan(action[0]):
            self._report = self._guarded("step", self._advance, action)
        return self._report, 0.0, False, False, {}

    def _advance(self, action: Floats) -> Floats:
        assert self._env is not None
        answer = self._env.step(self._layout.action(action))
        observation, reward, terminated, truncated, info = answers.step_answer(answer)
        verdict = [
            answers.number(reward, "the reward"),
            answers.flag(terminated, "terminated"),
            answers.flag(truncated, "truncated"),
            answers.success(info, self._layout.success),
        ]
        return np.concatenate([self._layout.flat(observation), verdict])

    def picture(self) -> np.ndarray:
        """The image that its environment renders, `[height, width, 3]`.

        Raises:
            EnvError: `render` raised, or returned no image.
        """
        assert self._env is not None
        return self._guarded("render", lambda env: answers.picture(env.render()), self._env)

    def _guarded(self, name: str, call: Callable[..., Any], *arguments: Any) -> Any:
        """Calls the environment; turns its errors into an `EnvError` with its traceback."""
        self._count()
        try:
            return call(*arguments)
        except KeyboardInterrupt as error:
            if parent_process() is None:
                raise  # the user's Ctrl-C, which worker processes ignore
            message = f"the environment raised KeyboardInterrupt in {name}, row {self._index}"
            raise EnvError(f"{message}, task: {describe(self._task)}", own_trace(error)) from None
        except BaseException as error:  # sys.exit and errors of C++ bindings are no Exception
            message = f"{what_it_did(error, name)}, row {self._index}, task: {describe(self._task)}"
            trace = "" if isinstance(error, AnswerError) else own_trace(error)
            raise EnvError(message, trace) from error

    def _count(self) -> None:
        self._calls[ROW] = self._index
        self._calls[CALLS] += 1

    def put_away(self, *, leave: bool = False) -> bool:
        """Closes its environment if there is one (or leaves it open); returns False if the call hung."""
        self._count()
        env, self._env = self._env, None
        return env is None or leave or close_env(env)

    def close(self) -> None:
        """Closes its environment."""
        self.put_away()


def what_it_did(error: BaseException, call: str) -> str:
    """Describes an error in one of an environment's methods."""
    if isinstance(error, AnswerError):
        return f"the environment's {error}" if str(error).startswith(f"{call} ") else f"{call}: {error}"
    if isinstance(error, SystemExit):
        return f"the environment called sys.exit({'' if error.code is None else error.code!r}) in {call}"
    said = words_of(error)
    return f"the environment raised {type(error).__name__} in {call}{f' ({said})' if said else ''}"


def make_rows(maker: Maker, layout: Layout, rows: range, calls: NDArray[np.int64]) -> SyncVectorEnv[Floats, Floats]:
    """Gymnasium's vector environment over the rows of a batch; makes no environment yet."""

    def row(index: int) -> Callable[[], TaskRow]:
        return lambda: TaskRow(maker, layout, index, calls)

    return SyncVectorEnv([row(i) for i in rows], copy=False, autoreset_mode=AutoresetMode.DISABLED)
