"""A worker process, seen by its owner: start, orders, signs of life, end."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from metarl.own_code.safe_path import safe_path
from metarl.workers.packed import Packed
from metarl.workers.process import STATUS, STEPS, Files, Order, end_with_children, serve
from metarl.workers.shared import Letter, Mailbox, SharedFile, shared_numbers

START_METHOD = "forkserver"
"""Start method of workers: from a clean process, since threads of this one do not survive a fork."""
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
"""Environment of the clean process: libraries that read it when they are imported use one thread."""
CLOSE_SECONDS = 5.0
"""Time in which idle workers close their environments, s."""


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


class Worker:
    """A worker process, seen by its owner.

    Args:
        actor: The file of the packed actor, shared by all workers.
        make_envs: Makes a batch of environments, packed.

    Attributes:
        connection: Pipe to the process.
        process: The process, once it is started.
        ready: Whether it has reported that it can take a block.
        block: Index of the block that it plays, or None.
        problem: Why it could not be started; empty if it could.
    """

    def __init__(self, actor: SharedFile, make_envs: Packed) -> None:
        self.files = Files(actor)
        self.connection, theirs = multiprocessing.Pipe()
        self._status = shared_numbers(self.files.status, STATUS)
        self._inbox, self._outbox = Mailbox(self.files.inbox), Mailbox(self.files.outbox)
        self.process: BaseProcess | None = None
        self.ready, self.problem = False, ""
        self.block: int | None = None
        self._steps, self._since = 0, time.monotonic()
        self._closed = False
        self._starting = threading.Thread(target=self._start, args=(theirs, make_envs), daemon=True)
        self._starting.start()

    def _start(self, theirs: Connection, make_envs: Packed) -> None:
        """Starts the process; it takes as long as the server's imports, so a thread does it."""
        plain = make_envs.data, [bytes(array) for array in make_envs.arrays]
        try:
            with ctrl_c_is_ours(), _main_module_left_out(b"__main__" not in make_envs.data):
                with safe_path(), _environment(ONE_THREAD):
                    forkserver.ensure_running()
                context: Any = multiprocessing.get_context(START_METHOD)
                process = context.Process(
                    target=serve, args=(theirs, self.files, *plain), name="metarl-worker", daemon=False
                )
                process.start()
                self.process = process
        except Exception as error:
            self.problem = f"cannot be started ({type(error).__name__}: {error})"
        finally:
            theirs.close()

    @property
    def dead(self) -> bool:
        """Whether the process has ended, or could not be started."""
        if self._starting.is_alive():
            return False
        return self.process is None or self.process.exitcode is not None

    @property
    def idle(self) -> bool:
        """Whether it can take a block."""
        return self.ready and self.block is None and not self.dead

    def give(self, number: int, version: int, actor: Letter, block: Packed, start: int) -> None:
        """Sends a block.

        Raises:
            OSError: The worker has died.
        """
        self.block = number
        self._since, self._steps = time.monotonic(), int(self._status[STEPS])
        self.connection.send(Order(version, actor, self._inbox.write(block), start))

    def read(self, letter: Letter) -> Packed:
        """A packed result, in the worker's memory."""
        return self._outbox.read(letter)

    def silent_seconds(self) -> float:
        """Seconds since the last sign of life."""
        if self._steps != (steps := int(self._status[STEPS])):
            self._steps, self._since = steps, time.monotonic()
        return time.monotonic() - self._since

    def end_in_words(self) -> str:
        """How the process ended."""
        if self.problem or self.process is None:
            return self.problem or "was never started"
        self.process.join(1.0)
        code = self.process.exitcode
        if code is None:
            return "closed its connection"
        if code >= 0:
            return f"died (exit code {code})"
        hint = ", perhaps for want of memory" if -code == signal.SIGKILL else ""
        return f"died (signal {signal.Signals(-code).name}{hint})"

    def ask_for_trace(self) -> str:
        """The traceback of a worker that hangs."""
        if self.process is not None and self.process.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGUSR1)
        end = time.monotonic() + 1.0
        while time.monotonic() < end and not self.trace():
            time.sleep(0.01)
        time.sleep(0.05)  # for the rest of it
        return self.trace()

    def trace(self) -> str:
        """The traceback that the worker has left; empty if none."""
        size = os.fstat(self.files.trace.descriptor).st_size
        text = os.pread(self.files.trace.descriptor, size, 0).decode("utf-8", errors="replace")
        return "\n".join(line for line in text.splitlines() if not line.startswith("Extension modules:"))

    def ask_to_close(self) -> None:
        """Asks an idle worker to close its environments and to end."""
        with contextlib.suppress(OSError):
            self.connection.send(None)

    def close(self, until: float) -> None:
        """Waits for the end of the process until a time of the monotonic clock, then kills it."""
        if self._closed:
            return
        self._closed = True
        self._starting.join()
        process = self.process
        if process is not None and process.pid is not None:
            process.join(max(until - time.monotonic(), 0.0))
            if process.exitcode is None:
                end_with_children(process.pid)
                process.join(CLOSE_SECONDS)
        self.connection.close()
        self.files.close()


@contextlib.contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Context with some environment variables set, unless they already are."""
    added = {name: value for name, value in variables.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


@contextlib.contextmanager
def _main_module_left_out(left_out: bool) -> Iterator[None]:
    """Context whose new processes do not import the main module again: a script would run a second time.

    Args:
        left_out: False for a main module that defines what the processes need.
    """
    main = sys.modules["__main__"]
    kept = {name: getattr(main, name) for name in ("__spec__", "__file__") if hasattr(main, name)}
    if left_out:
        main.__spec__ = None
        with contextlib.suppress(AttributeError):
            del main.__file__
    try:
        yield
    finally:
        for name, value in kept.items():
            setattr(main, name, value)
