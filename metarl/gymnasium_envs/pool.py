"""Rows of a batch in worker processes, the part in the process that owns them."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import wait
from multiprocessing.util import Finalize
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode

from metarl.gymnasium_envs.rows import Layout, Maker, describe
from metarl.gymnasium_envs.worker import (
    PartMaker,
    end_with_children,
    notes_file,
    open_progress,
    progress_file,
    read_trace,
)
from metarl.own_code.errors import EnvError
from metarl.own_code.guest import LOOKS, output_is_limited, pass_on, say_once
from metarl.own_code.safe_path import safe_path
from metarl.types import Floats, Task
from metarl.vector import available_cores

START_METHOD = "forkserver"
"""Start method of worker processes: from a clean process, since threads of this one do not survive a fork."""
PRELOADED = ("metarl.gymnasium_envs.family",)
"""Modules that the clean process imports once for all workers; a user's family imports them anyway."""
LOOK_SECONDS = 1.0
"""Longest interval between two checks that a worker process is alive while its answer is pending."""


@contextlib.contextmanager
def ctrl_c_is_ours(*, later: bool = False) -> Iterator[None]:
    """Context whose new processes ignore Ctrl-C, which a terminal sends to all processes.

    Args:
        later: Also delay Ctrl-C in this process until they are started. Otherwise Ctrl-C right after a fork would leave
            an unregistered process.
    """
    came: list[int] = []
    handler = signal.getsignal(signal.SIGINT)
    later = later and callable(handler) and threading.current_thread() is threading.main_thread()
    if later:
        signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
    resource_tracker.ensure_running()  # started later, it would unblock Ctrl-C
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if later:
            signal.signal(signal.SIGINT, handler)
        if came:
            signal.raise_signal(signal.SIGINT)


if TYPE_CHECKING:
    AsyncRows = AsyncVectorEnv[Floats, Floats]
else:
    AsyncRows = AsyncVectorEnv  # takes no type parameters before Gymnasium 1.4


class Workers(AsyncRows):
    """Gymnasium's `AsyncVectorEnv` with processes that always end, even if an environment hangs.

    The processes are not daemonic, so that environments can start processes.

    Args:
        makers: One function per process, which makes its part of the batch.
        timeout: Time limit for closing the environments, s.
    """

    def __init__(self, makers: Sequence[PartMaker], timeout: float) -> None:
        self._timeout = timeout
        # At its end Python waits for processes that are not daemonic; those still open then are killed.
        self._at_exit = Finalize(None, self.close, kwargs={"terminate": True}, exitpriority=100)
        context = multiprocessing.get_context(START_METHOD)
        context.set_forkserver_preload(list(PRELOADED))
        with ctrl_c_is_ours(), safe_path():
            forkserver.ensure_running()
        try:
            with ctrl_c_is_ours():
                super().__init__(
                    makers, copy=False, context=START_METHOD, daemon=False, autoreset_mode=AutoresetMode.DISABLED
                )
        except BaseException:
            self.close(terminate=True)
            raise

    def close_extras(self, timeout: float | None = None, terminate: bool = False) -> None:
        """Asks every process to close its environments; kills those that do not end in time.

        Args:
            timeout: Time to wait, s; by default the time limit of a call.
            terminate: Kill at once.
        """
        self._at_exit.cancel()
        processes = getattr(self, "processes", [])
        pipes = [
            pipe for pipe in getattr(self, "parent_pipes", []) if pipe is not None
        ]  # Gymnasium drops one that failed
        if not terminate:
            for pipe in pipes:
                with contextlib.suppress(OSError):
                    pipe.send(("close", None))
        end = time.monotonic() + (0.0 if terminate else self._timeout if timeout is None else timeout)
        for process in (p for p in processes if p.pid is not None):
            process.join(max(end - time.monotonic(), 0.0))
            if process.exitcode is None:
                if not terminate:
                    say_once("a worker process did not close its environments within --timeout, and was killed")
                end_with_children(process.pid)
                process.join(5.0)
        for pipe in pipes:
            pipe.close()
        if hasattr(self, "error_queue"):
            self.error_queue.close()


class WorkerRows:
    """Rows distributed over worker processes, by Gymnasium's `AsyncVectorEnv`.

    Each process holds an equal share of the rows and returns failures as values. If it dies or hangs, its log file
    ("black box") names the row that was called and the line of code.

    Args:
        maker: Makes an environment for a task.
        layout: The environment's spaces.
        num_rows: `N`.
        processes: Number of processes; 0 for one per core.
        timeout: Time limit of one call of an environment, s.

    Raises:
        EnvError: The processes cannot be started, for instance because `make_env` cannot be pickled.
    """

    def __init__(self, maker: Maker, layout: Layout, num_rows: int, processes: int, timeout: float) -> None:
        self._num_rows, self._timeout = num_rows, timeout
        count = min(processes or available_cores(), num_rows)
        self._size = -(-num_rows // count)
        self._tasks: Sequence[Task | None] = [None] * num_rows
        self._folder = tempfile.TemporaryDirectory(prefix="metarl-")
        starts = range(0, num_rows, self._size)
        self._boxes = [Path(self._folder.name) / str(i) for i in range(len(starts))]
        for box in self._boxes:
            progress_file(box).write_bytes(np.zeros(2, dtype=np.int64).tobytes())
        self._progress = [open_progress(box) for box in self._boxes]
        self._notes_seen = [0] * len(self._boxes)
        makers = [
            PartMaker(
                maker,
                layout,
                range(s, min(s + self._size, num_rows)),
                self._size,
                box,
                os.getpid(),
                output_is_limited(),
            )
            for s, box in zip(starts, self._boxes, strict=True)
        ]
        try:
            self._workers = Workers(makers, timeout)
        except Exception as error:
            self._folder.cleanup()
            raise EnvError(
                f"the environment cannot be started in a worker process ({type(error).__name__}: {error}); "
                "make_env and all it refers to have to be importable by name, or picklable "
                "(--workers sync needs neither)"
            ) from error

    def reset(self, tasks: Sequence[Task], seeds: np.ndarray) -> Floats:
        """Resets the rows that have a seed and returns reports `[N, O + 4]`; `tasks` and `seeds` are `[N]`."""
        self._tasks = tasks
        with self._closing_on_failure():
            self._wait_for(lambda: self._workers.reset_async(options={"tasks": tasks, "seeds": seeds}))
            received = self._received(*self._workers.reset_wait())
        self._pass_notes_on()
        return received

    def step(self, actions: Floats) -> Floats:
        """Steps with actions `[N, A]` and returns reports `[N, O + 4]`."""
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
        self._pass_notes_on()
        self._folder.cleanup()

    def _pass_notes_on(self) -> None:
        """Prints warnings and the first output of the workers."""
        for i, box in enumerate(self._boxes):
            self._notes_seen[i] = pass_on(notes_file(box), self._notes_seen[i])

    @contextlib.contextmanager
    def _closing_on_failure(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            if isinstance(error, EOFError | ConnectionError):  # it died after `_wait_for` checked
                error = self._death()
            self._workers.close(terminate=True)
            self._pass_notes_on()
            self._folder.cleanup()
            raise error from None

    def _received(self, reports: Floats, infos: dict[str, Any]) -> Floats:
        for failure in infos.get("failure", ()):
            if failure is not None:
                raise failure
        return reports.reshape(-1, reports.shape[-1])[: self._num_rows]

    def _wait_for(self, send: Callable[[], None]) -> None:
        """Sends a command to every worker and waits for all answers.

        Raises:
            EnvError: A worker died, or made no progress in time.
        """
        send()
        pending: dict[Any, int] = {pipe: i for i, pipe in enumerate(self._workers.parent_pipes)}
        calls = [int(progress[1]) for progress in self._progress]
        since = [time.monotonic()] * len(calls)
        while pending:
            # A dead worker's pipe is ready too, unless one of its child processes still holds the other end.
            for ready in wait(list(pending), min(self._timeout / LOOKS, LOOK_SECONDS)):
                pending.pop(ready)
            if any(self._workers.processes[i].exitcode is not None for i in pending.values()):
                raise self._death()
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
                os.kill(pid, signal.SIGUSR1)  # it writes its traceback
        end = time.monotonic() + 1.0
        while time.monotonic() < end and not read_trace(self._boxes[worker]):
            time.sleep(0.01)
        time.sleep(0.05)  # for the rest of the traceback
        return EnvError(
            f"a worker process hangs: no answer within the time limit of {self._timeout:g} s (--timeout) in "
            f"{self._at_work(worker)}",
            read_trace(self._boxes[worker]),
        )
