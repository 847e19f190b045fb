"""A batch of Gymnasium environments, stepped in this process or in worker processes, and what can go wrong there."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import wait
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode

from metarl.config import RoundsOrNone, Seconds
from metarl.custom.rows import (
    LEAVE,
    VERDICT,
    EnvError,
    Layout,
    Maker,
    PartMaker,
    describe,
    make_rows,
    open_progress,
    progress_file,
    read_trace,
)
from metarl.custom.safe_path import safe_path
from metarl.types import Bools, Floats, Task
from metarl.vector import TaskVecEnv, available_cores

START_METHOD = "forkserver"
"""How worker processes start: from a clean process, since this one may hold threads, which do not survive a fork."""
PRELOADED = ("metarl.custom.family",)
"""What that process imports once for all: what a family of one's own imports anyway."""
GYMNASIUM_ENV_BYTES = 4096
"""The least that an environment of Gymnasium's takes: the object, its spaces, its generator of random numbers."""
LOOKS = 4
"""How often within the time limit one looks whether an environment still makes progress."""
FAREWELL_SECONDS = 5.0
"""What worker processes get for closing their environments, before they are killed."""


@dataclass(frozen=True, kw_only=True)
class Stepping:
    """Who steps Gymnasium environments of one's own."""

    workers: Literal["auto", "sync", "async"] = "auto"
    """This process (sync), worker processes (async), or what a short measurement finds faster, recorded as used."""
    processes: RoundsOrNone = 0
    """Worker processes; 0 for one per core."""
    timeout: Seconds = 60.0
    """Seconds after which one call of an environment (make, reset or step) counts as hung, and ends the run."""


class LocalRows:
    """All rows in this process, by Gymnasium's `SyncVectorEnv`.

    Args:
        maker: How to get an environment for a task.
        layout: Its spaces.
        num_rows: `N`.
        timeout: Seconds for one call of an environment; kept only in the main thread, where signals arrive.
    """

    def __init__(self, maker: Maker, layout: Layout, num_rows: int, timeout: float) -> None:
        self._progress = np.zeros(2, dtype=np.int64)
        self._rows = make_rows(maker, layout, range(num_rows), self._progress)
        self._timeout = timeout

    def reset(self, tasks: Sequence[Task], seeds: np.ndarray) -> Floats:
        """Reports `[N, O + 4]` after a reset of the rows that have a seed; `tasks` and `seeds` are `[N]`."""
        with self._time_limit():
            return self._rows.reset(options={"tasks": tasks, "seeds": seeds})[0]

    def step(self, actions: Floats) -> Floats:
        """Reports `[N, O + 4]` after actions `[N, A]`."""
        with self._time_limit():
            return self._rows.step(actions)[0]

    def picture(self, row: int) -> np.ndarray:
        """What one environment draws, `[height, width, 3]`."""
        with self._time_limit():
            return self._rows.envs[row].picture()  # type: ignore[attr-defined]

    def close(self) -> None:
        """Closes the environments."""
        self._rows.close()

    @contextlib.contextmanager
    def _time_limit(self) -> Iterator[None]:
        """Raises inside an environment that makes no progress for too long."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        calls, idle = int(self._progress[1]), 0

        def look(number: int, frame: FrameType | None) -> None:
            nonlocal calls, idle
            idle = idle + 1 if calls == self._progress[1] else 0
            calls = int(self._progress[1])
            if idle >= LOOKS:
                raise TimeoutError(f"no answer within the time limit of {self._timeout:g} s, see --timeout")

        previous = signal.signal(signal.SIGALRM, look)
        signal.setitimer(signal.ITIMER_REAL, self._timeout / LOOKS, self._timeout / LOOKS)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            signal.signal(signal.SIGALRM, previous)


@contextlib.contextmanager
def ctrl_c_is_ours(*, later: bool = False) -> Iterator[None]:
    """Keeps Ctrl-C, which a terminal sends to all processes, from those that are started meanwhile.

    Args:
        later: Keep it from this process too until they are started: one that was forked a moment ago is known to nobody
            if Ctrl-C comes right then.
    """
    came: list[int] = []
    handler = signal.getsignal(signal.SIGINT)
    later = later and callable(handler) and threading.current_thread() is threading.main_thread()
    if later:
        signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
    resource_tracker.ensure_running()  # else it is started later, and lets Ctrl-C through from then on
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if later:
            signal.signal(signal.SIGINT, handler)
        if came:
            signal.raise_signal(signal.SIGINT)


class Workers(AsyncVectorEnv[Floats, Floats]):
    """Gymnasium's `AsyncVectorEnv` whose processes always end, however they are."""

    def __init__(self, makers: Sequence[PartMaker]) -> None:
        context = multiprocessing.get_context(START_METHOD)
        context.set_forkserver_preload(list(PRELOADED))
        with ctrl_c_is_ours(), safe_path():
            forkserver.ensure_running()
        try:
            with ctrl_c_is_ours():
                super().__init__(makers, copy=False, context=START_METHOD, autoreset_mode=AutoresetMode.DISABLED)
        except BaseException:
            self.close()
            raise

    def close_extras(self, timeout: float | None = None, terminate: bool = False) -> None:
        """Lets every process close its environments; kills those that do not, or not in time.

        Args:
            timeout: Seconds they get; five by default.
            terminate: Kill them right away.
        """
        processes, pipes = getattr(self, "processes", []), getattr(self, "parent_pipes", [])
        if not terminate:
            for pipe in pipes:
                with contextlib.suppress(OSError):
                    pipe.send(("close", None))
        end = time.monotonic() + (0.0 if terminate else FAREWELL_SECONDS if timeout is None else timeout)
        for process in (p for p in processes if p.pid is not None):
            process.join(max(end - time.monotonic(), 0.0))
            if process.exitcode is None:
                process.kill()
                process.join()
        for pipe in pipes:
            pipe.close()
        if hasattr(self, "error_queue"):
            self.error_queue.close()


class WorkerRows:
    """The rows spread over worker processes, by Gymnasium's `AsyncVectorEnv`.

    Each process holds an equal share of the rows. It reports failures as values; where it cannot, because it died
    or hangs, what it wrote into its black box (a file) tells which row was at work and where in the code.

    Args:
        maker: How to get an environment for a task.
        layout: Its spaces.
        num_rows: `N`.
        stepping: Number of processes, and seconds for one call of an environment.

    Raises:
        EnvError: The processes could not be started, for instance since `make_env` cannot be pickled.
    """

    def __init__(self, maker: Maker, layout: Layout, num_rows: int, stepping: Stepping) -> None:
        self._num_rows, self._timeout = num_rows, stepping.timeout
        count = min(stepping.processes or available_cores(), num_rows)
        self._size = -(-num_rows // count)
        self._tasks: Sequence[Task | None] = [None] * num_rows
        self._folder = tempfile.TemporaryDirectory(prefix="metarl-")
        starts = range(0, num_rows, self._size)
        self._boxes = [Path(self._folder.name) / str(i) for i in range(len(starts))]
        for box in self._boxes:
            progress_file(box).write_bytes(np.zeros(2, dtype=np.int64).tobytes())
        self._progress = [open_progress(box) for box in self._boxes]
        makers = [
            PartMaker(maker, layout, range(s, min(s + self._size, num_rows)), self._size, box, os.getpid())
            for s, box in zip(starts, self._boxes, strict=True)
        ]
        try:
            self._workers = Workers(makers)
        except Exception as error:
            self._folder.cleanup()
            raise EnvError(
                f"the environment cannot be started in a worker process ({type(error).__name__}: {error}); "
                "make_env has to be importable by name or picklable, with all that it refers to "
                "(--workers sync needs neither)"
            ) from error

    def reset(self, tasks: Sequence[Task], seeds: np.ndarray) -> Floats:
        """Reports `[N, O + 4]` after a reset of the rows that have a seed; `tasks` and `seeds` are `[N]`."""
        self._tasks = tasks
        with self._closing_on_failure():
            self._wait_for(lambda: self._workers.reset_async(options={"tasks": tasks, "seeds": seeds}))
            return self._received(*self._workers.reset_wait())

    def step(self, actions: Floats) -> Floats:
        """Reports `[N, O + 4]` after actions `[N, A]`."""
        padded = np.full((len(self._boxes) * self._size, actions.shape[1]), np.nan)
        padded[: self._num_rows] = actions
        parts = padded.reshape(len(self._boxes), self._size, -1)
        with self._closing_on_failure():
            self._wait_for(lambda: self._workers.step_async(parts))
            reports, _, _, _, infos = self._workers.step_wait()
            return self._received(reports, infos)

    def close(self) -> None:
        """Ends the processes."""
        self._workers.close()
        self._folder.cleanup()

    @contextlib.contextmanager
    def _closing_on_failure(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            if isinstance(error, EOFError | ConnectionError):  # it died after `_wait_for` looked
                error = self._death()
            self._workers.close(terminate=True)
            self._folder.cleanup()
            raise error from None

    def _received(self, reports: Floats, infos: dict[str, Any]) -> Floats:
        for failure in infos.get("failure", ()):
            if failure is not None:
                raise failure
        return reports.reshape(-1, reports.shape[-1])[: self._num_rows]

    def _wait_for(self, send: Callable[[], None]) -> None:
        """Sends a command to every worker and waits until all have answered.

        Raises:
            EnvError: One died, or makes no progress.
        """
        send()
        pending: dict[Any, int] = {pipe: i for i, pipe in enumerate(self._workers.parent_pipes)}
        calls = [int(progress[1]) for progress in self._progress]
        since = [time.monotonic()] * len(calls)
        while pending:
            for ready in wait(list(pending), self._timeout / LOOKS):  # a dead worker's pipe is ready too
                pending.pop(ready)
            for i in pending.values():
                if calls[i] != self._progress[i][1]:
                    calls[i], since[i] = int(self._progress[i][1]), time.monotonic()
                elif time.monotonic() - since[i] > self._timeout:
                    raise self._hang(i)

    def _at_work(self, worker: int) -> str:
        row = int(self._progress[worker][0])
        return f"row {row}, task: {describe(self._tasks[row])}"

    def _death(self) -> EnvError:
        processes = self._workers.processes
        wait([p.sentinel for p in processes], 1.0)
        worker = next((i for i, p in enumerate(processes) if p.exitcode is not None), None)
        if worker is None:
            return EnvError("a worker process closed its connection")
        exitcode = processes[worker].exitcode or 0
        how = f"signal {signal.Signals(-exitcode).name}" if exitcode < 0 else f"exit code {exitcode}"
        trace = read_trace(self._boxes[worker])
        left = "" if trace else "; it left no traceback"
        return EnvError(f"a worker process died ({how}) in {self._at_work(worker)}{left}", trace)

    def _hang(self, worker: int) -> EnvError:
        pid = self._workers.processes[worker].pid
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGUSR1)  # it writes down where it is
        end = time.monotonic() + 1.0
        while time.monotonic() < end and not read_trace(self._boxes[worker]):
            time.sleep(0.01)
        time.sleep(0.05)  # for the rest of what it writes
        return EnvError(
            f"a worker process hangs: no answer within the time limit of {self._timeout:g} s (--timeout) in "
            f"{self._at_work(worker)}",
            read_trace(self._boxes[worker]),
        )


class GymnasiumBatch(TaskVecEnv):
    """Gymnasium environments of one's own as a batch over tasks.

    An episode whose observation or reward is not finite counts as diverged, as in a simulation that blew up.

    Args:
        num_tasks: `M`.
        episodes: `E`.
        horizon: `T`.
        maker: How to get an environment for a task.
        layout: Its spaces.
        stepping: Who steps; `auto` counts as `sync` here, since whoever asks for it has measured before.
    """

    def __init__(
        self, num_tasks: int, episodes: int, horizon: int, *, maker: Maker, layout: Layout, stepping: Stepping
    ) -> None:
        flat, action = spaces.flatten_space(layout.observation_space), layout.action_space
        assert isinstance(flat, spaces.Box)
        choice = isinstance(action, spaces.Discrete)
        super().__init__(
            num_tasks,
            episodes,
            horizon,
            spaces.Box(flat.low.astype(np.float64), flat.high.astype(np.float64), dtype=np.float64),
            spaces.Discrete(int(action.n), start=int(action.start)) if choice else spaces.flatten_space(action),  # type: ignore[attr-defined,arg-type]
        )
        self.observation_units, self.row_bytes = layout.units, GYMNASIUM_ENV_BYTES
        self._maker, self._layout, self._stepping = maker, layout, stepping
        self._rows: LocalRows | WorkerRows | None = None
        self._reports = np.zeros((self.num_envs, layout.observation_size + VERDICT))
        self._row_tasks: list[Task] = []

    def _apply_tasks(self, tasks: Sequence[Task]) -> None:
        self._row_tasks = [task for task in tasks for _ in range(self.episodes)]

    def _reset_rows(self, rows: np.ndarray, rng: np.random.Generator) -> None:
        if self._rows is None:  # as late as possible: a batch that is only asked for its spaces starts nothing
            arguments = (self._maker, self._layout, self.num_envs)
            self._rows = (
                WorkerRows(*arguments, self._stepping)
                if self._stepping.workers == "async"
                else LocalRows(*arguments, self._stepping.timeout)
            )
        seeds = np.full(self.num_envs, LEAVE, dtype=np.int64)
        seeds[rows] = rng.integers(2**31, size=len(rows))
        self._reports[:] = self._rows.reset(self._row_tasks, seeds)

    def _step_rows(self, rows: np.ndarray, actions: Floats) -> tuple[Floats, Bools, Bools, dict[str, np.ndarray]]:
        assert self._rows is not None
        everyone = np.full((self.num_envs, self._layout.action_size), np.nan)  # [N, A], not a number: stand still
        everyone[rows] = actions.reshape(len(rows), self._layout.action_size)
        self._reports[:] = self._rows.step(everyone)
        reports = self._reports[rows]
        reward, terminated, truncated, success = reports[:, -VERDICT:].T
        blown = ~np.isfinite(reports[:, :-1]).all(axis=1)
        infos = {"truncated": truncated > 0}
        if self.reports_success or not np.isnan(success).all():
            infos["success"] = np.nan_to_num(success) > 0
        return reward, terminated > 0, blown, infos

    def _observe(self, rows: np.ndarray) -> Floats:
        return self._reports[rows, :-VERDICT]

    def render_row(self, row: int, width: int, height: int) -> np.ndarray:
        """What the environment itself draws, in its own size.

        Raises:
            ValueError: It is stepped in a worker process, or was not made for drawing (`drawing` does both).
            EnvError: It raised, or drew no picture.
        """
        if not isinstance(self._rows, LocalRows):
            raise ValueError(f"render_row: got row {row} of worker processes, expected environments of this process")
        return self._rows.picture(row)

    def close_extras(self, **kwargs: Any) -> None:
        """Closes the environments, and ends the processes that hold them."""
        if self._rows is not None:
            self._rows.close()
