"""A batch of Gymnasium environments, stepped one after another in this process."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from metarl.gymnasium_envs.answers import FLOAT32_MAX, UNBOUNDED
from metarl.gymnasium_envs.rows import LEAVE, VERDICT, Layout, Maker, TaskRow, make_rows
from metarl.own_code.guest import guest, say_once, time_limit
from metarl.parameters import describe
from metarl.stepping import Stepping
from metarl.types import Bools, Floats, Task
from metarl.vector import CALLS, LIMIT, NUM_CALL_NUMBERS, TaskVecEnv

GYMNASIUM_ENV_BYTES = 4096
"""Lower bound on the memory of a Gymnasium environment, bytes: object, spaces, random number generator."""


class Rows:
    """All rows of a batch, stepped by Gymnasium's `SyncVectorEnv`.

    Args:
        maker: Makes an environment for a task.
        layout: The environment's spaces.
        num_rows: `N`.
        timeout: Time limit of one call of an environment, s; only enforced in the main thread, which receives signals.
        calls: `[3]`, as in `TaskVecEnv.report_calls`.
    """

    def __init__(self, maker: Maker, layout: Layout, num_rows: int, timeout: float, calls: NDArray[np.int64]) -> None:
        self._calls, self._timeout = calls, timeout
        self._rows = make_rows(maker, layout, range(num_rows), calls)
        self._first_step = True

    def reset(self, tasks: Sequence[Task], seeds: np.ndarray) -> Floats:
        """Resets the rows that have a seed and returns reports `[N, O + 4]`; `tasks` and `seeds` are `[N]`."""
        self._first_step = True
        with guest(), self._calling():
            return self._rows.reset(options={"tasks": tasks, "seeds": seeds})[0]

    def step(self, actions: Floats) -> Floats:
        """Steps with actions `[N, A]` and returns reports `[N, O + 4]`."""
        first, self._first_step = self._first_step, False  # environments set handlers as late as here
        with guest(handlers=first), self._calling():
            return self._rows.step(actions)[0]

    def picture(self, row: int) -> np.ndarray:
        """The image that one environment renders, `[height, width, 3]`."""
        with guest(), self._calling():
            return self._rows.envs[row].picture()  # type: ignore[attr-defined]

    def close(self) -> None:
        """Closes the environments; if one hangs, the rest are left open."""
        with guest(), self._calling():
            answering = True
            for row in self._rows.envs:
                assert isinstance(row, TaskRow)
                answering = row.put_away(leave=not answering) and answering
        self._rows.close()

    @contextlib.contextmanager
    def _calling(self) -> Iterator[None]:
        """Limits the time of each call, and reports the limit meanwhile."""
        self._calls[LIMIT] = max(round(1000 * self._timeout), 1)
        try:
            with time_limit(self._timeout, lambda: int(self._calls[CALLS])):
                yield
        finally:
            self._calls[LIMIT] = 0


class GymnasiumBatch(TaskVecEnv):
    """Gymnasium environments as a batch over tasks.

    An episode whose observation or reward is not finite in float32, the type agents compute in, counts as diverged. If
    that happens at reset, the agent observes zeros, and the first step ends the episode.

    Args:
        num_tasks: `M`.
        episodes: `E`.
        horizon: `T`.
        maker: Makes an environment for a task.
        layout: The environment's spaces.
        stepping: Time limit of a call.
    """

    def __init__(
        self, num_tasks: int, episodes: int, horizon: int, *, maker: Maker, layout: Layout, stepping: Stepping
    ) -> None:
        flat, action = spaces.flatten_space(layout.observation_space), layout.action_space
        assert isinstance(flat, spaces.Box)
        super().__init__(
            num_tasks,
            episodes,
            horizon,
            spaces.Box(flat.low.astype(np.float64), flat.high.astype(np.float64), dtype=np.float64),
            spaces.Discrete(int(action.n), start=int(action.start))
            if isinstance(action, spaces.Discrete)
            else _actions_of(action),
        )
        self.observation_units, self.row_bytes = layout.units, GYMNASIUM_ENV_BYTES
        self._maker, self._layout, self._stepping = maker, layout, stepping
        self._rows: Rows | None = None
        self._calls = np.zeros(NUM_CALL_NUMBERS, dtype=np.int64)
        self._reports = np.zeros((self.num_envs, layout.observation_size + VERDICT))
        self._row_tasks: list[Task] = []
        self._blown_at_reset = np.zeros(self.num_envs, dtype=np.bool_)  # [N]

    def report_calls(self, numbers: NDArray[np.int64]) -> None:
        """Reports each call of an environment in `numbers`; see `TaskVecEnv.report_calls`.

        Raises:
            RuntimeError: Environments have been reset before.
        """
        if self._rows is not None:
            raise RuntimeError("report_calls: got a batch that was reset before; call report_calls first")
        self._calls = numbers

    def _apply_tasks(self, tasks: Sequence[Task]) -> None:
        self._row_tasks = [task for task in tasks for _ in range(self.episodes)]

    def _reset_rows(self, rows: np.ndarray, rng: np.random.Generator) -> None:
        if self._rows is None:
            self._rows = Rows(self._maker, self._layout, self.num_envs, self._stepping.timeout, self._calls)
        seeds = np.full(self.num_envs, LEAVE, dtype=np.int64)
        seeds[rows] = rng.integers(2**31, size=len(rows))
        self._reports[:] = self._rows.reset(self._row_tasks, seeds)
        starts = self._reports[rows, :-VERDICT]
        self._blown_at_reset[rows] = ~_sound(starts)
        self._reports[rows, :-VERDICT] = np.where(self._blown_at_reset[rows, None], 0.0, starts)

    def _step_rows(self, rows: np.ndarray, actions: Floats) -> tuple[Floats, Bools, Bools, dict[str, np.ndarray]]:
        assert self._rows is not None
        everyone = np.full((self.num_envs, self._layout.action_size), np.nan)  # [N, A], NaN: do not step the row
        everyone[rows] = actions.reshape(len(rows), self._layout.action_size)
        lost = self._blown_at_reset[rows]
        if lost.any():
            everyone[rows[lost]] = np.nan
        self._reports[:] = self._rows.step(everyone)
        reports = self._reports[rows]
        reward, terminated, truncated, success = reports[:, -VERDICT:].T
        blown = ~_sound(reports[:, :-1]) | lost
        if blown.any():
            task = describe(self._row_tasks[rows[blown.argmax()]])
            say_once("an observation or a reward is not finite in float32; such episodes count as diverged", task)
        infos = {"truncated": truncated > 0}
        if self.reports_success or not np.isnan(success).all():
            infos["success"] = np.nan_to_num(success) > 0
        return reward, terminated > 0, blown, infos

    def _observe(self, rows: np.ndarray) -> Floats:
        return self._reports[rows, :-VERDICT]

    def render_row(self, row: int, width: int, height: int) -> np.ndarray:
        """The image that the environment renders, in its own size.

        Raises:
            ValueError: The batch was not reset.
            EnvError: `render` raised, or returned no image.
        """
        if self._rows is None:
            raise ValueError(f"render_row: got row {row} of a batch that was not reset; call reset first")
        return self._rows.picture(row)

    def close_extras(self, **kwargs: Any) -> None:
        """Closes the environments."""
        if self._rows is not None:
            self._rows.close()


def _sound(numbers: Floats) -> Bools:
    """Whether all numbers of a row are finite in float32, `[rows]`."""
    return np.asarray((np.abs(numbers) <= FLOAT32_MAX).all(axis=1))


def _actions_of(space: spaces.Space[Any]) -> spaces.Box:
    """The flat action space of a row; bounds of at least `UNBOUNDED` become infinite."""
    flat = spaces.flatten_space(space)
    assert isinstance(flat, spaces.Box)
    if (np.maximum(np.abs(flat.low), np.abs(flat.high)) < UNBOUNDED).all():
        return flat
    low, high = np.where(flat.low <= -UNBOUNDED, -np.inf, flat.low), np.where(flat.high >= UNBOUNDED, np.inf, flat.high)
    return spaces.Box(low.astype(flat.dtype), high.astype(flat.dtype), dtype=flat.dtype.type)
