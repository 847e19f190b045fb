"""A worker process, seen by its owner: start, orders, signs of life, end."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from metarl.own_code.guest import output_is_limited, pass_on_lines, say_once
from metarl.vector import CALLS, LIMIT, NUM_CALL_NUMBERS, ROW
from metarl.workers.main_module import GUARD, RUNS_AGAIN, WORKER, one_start
from metarl.workers.packed import Packed
from metarl.workers.process import CALLED, STATUS, STEPS, Files, Order, Surroundings, end_with_children, serve
from metarl.workers.server import START_METHOD, ctrl_c_is_ours, environment, start_process
from metarl.workers.shared import Letter, Mailbox, SharedFile, shared_numbers

CLOSE_SECONDS = 5.0
"""Time in which idle workers close their environments, s."""
LATE = 1.5
"""Multiple of a call's time limit after which its process hangs; before, the process ends the call itself."""
LONGEST_LOOK = 5.0
"""Longest silence between two looks that counts, s; a longer one is that of the owner, which was stopped."""
LOST = 255
"""Exit code that multiprocessing reports if nobody knows it."""


class Worker:
    """A worker process, seen by its owner. The server must run.

    Args:
        actor: The file of the packed actor, shared by all workers.
        make_envs: Makes a batch of environments, packed.
        with_main: Whether the process imports the main module again.
        main: Main function of the process.

    Attributes:
        connection: Pipe to the process.
        ready: Whether it has reported that it can take a block.
        block: Index of the block that it plays, or None.
        lost: Whether an order could not be sent to it.
        problem: Why it could not be started; empty if it could.
    """

    def __init__(
        self, actor: SharedFile, make_envs: Packed, *, with_main: bool = False, main: Callable[..., None] = serve
    ) -> None:
        self.files = Files(actor.duplicate())  # the pool may be closed before this worker is started
        self.connection, theirs = multiprocessing.Pipe()
        self._status = shared_numbers(self.files.status, STATUS)
        self._calls = self._status[CALLED : CALLED + NUM_CALL_NUMBERS]
        self._main, self._asked_to_close = main, False
        self._inbox, self._outbox = Mailbox(self.files.inbox), Mailbox(self.files.outbox)
        self._process: BaseProcess | None = None
        self.ready, self.lost, self.problem = False, False, ""
        self.block: int | None = None
        self._steps, self._silence, self._looked, self._notes = 0, 0.0, time.monotonic(), 0
        self._lock, self._closed, self._settled = threading.Lock(), False, False
        threading.Thread(target=self._start, args=(theirs, make_envs, with_main), daemon=True).start()

    def _start(self, theirs: Connection, make_envs: Packed, with_main: bool) -> None:
        """Starts the process; it takes as long as the server's imports, so a thread does it."""
        plain = make_envs.data, [bytes(array) for array in make_envs.arrays]
        arguments = (theirs, self.files, Surroundings(environment(), output_is_limited()), *plain)
        process: BaseProcess | None = None
        try:
            context: Any = multiprocessing.get_context(START_METHOD)
            make = partial(context.Process, target=self._main, args=arguments, name=WORKER, daemon=False)
            with one_start(with_main=with_main), ctrl_c_is_ours():
                if not self._closed:
                    process = start_process(make)
        except Exception as error:
            self.problem = f"cannot be started ({type(error).__name__}: {error})"
        finally:
            theirs.close()
            with self._lock:
                self._process, self._settled = process, True
                if self._closed:  # in the meantime
                    self._end(0.0)

    @property
    def sentinel(self) -> int | None:
        """Becomes ready when the process ends; None before its start."""
        return None if self._process is None else self._process.sentinel

    @property
    def pid(self) -> int | None:
        """The process; None before its start."""
        return None if self._process is None else self._process.pid

    @property
    def idle(self) -> bool:
        """Whether it can take a block."""
        return self.ready and self.block is None and not self.lost

    def give(self, number: int, version: int, actor: Letter, block: Packed, start: int) -> None:
        """Sends a block, unless the process has died."""
        letter = self._inbox.write(block)
        self._silence, self._looked, self._steps = 0.0, time.monotonic(), self._signs()
        self.block = number
        try:
            self.connection.send(Order(version, actor, letter, start))
        except OSError:
            self.block, self.lost = None, True

    def read(self, letter: Letter) -> Packed:
        """A packed result, in the worker's memory."""
        return self._outbox.read(letter)

    def silent_seconds(self) -> float:
        """Seconds since the last sign of life, as far as this process was there to see one."""
        now = time.monotonic()
        self._silence += min(now - self._looked, LONGEST_LOOK)
        self._looked = now
        if self._steps != (steps := self._signs()):
            self._steps, self._silence = steps, 0.0
        return self._silence

    def _signs(self) -> int:
        """Number of signs of life: steps, and calls of single environments."""
        return int(self._status[STEPS] + self._calls[CALLS])

    def called_row(self) -> int | None:
        """The row of the block whose environment is being called; None between calls of single environments."""
        return int(self._calls[ROW]) if self._calls[LIMIT] else None

    def hang_in_words(self, silent: float) -> str:
        """How the process hangs; empty if it does not.

        Args:
            silent: Longest time without a sign of life, s. A call of a single environment has its own time limit, which
                the process keeps itself unless the call never returns to Python.
        """
        limit = float(self._calls[LIMIT]) / 1000
        if self.silent_seconds() <= (LATE * limit or silent):
            return ""
        if limit:
            return f"hangs: no answer within the time limit of {limit:g} s (--timeout)"
        return f"made no step for {silent:g} s and was ended"

    def runs_script_again(self) -> bool:
        """Whether it has ended since the owner's script would do its work again there."""
        return self._process is not None and self._process.exitcode == RUNS_AGAIN

    def end_in_words(self) -> str:
        """How the process ended."""
        if self.problem or self._process is None:
            return self.problem or "was never started"
        self._process.join(1.0)
        code = self._process.exitcode
        if code is None:
            return "closed its connection"
        if code == RUNS_AGAIN:
            return f"would run this script again, which defines the agent or the environments; {GUARD}"
        if code >= 0:
            return f"died (exit code {code}{', or unknown' if code == LOST else ''})"
        hint = ", perhaps for want of memory" if -code == signal.SIGKILL else ""
        return f"died (signal {signal.Signals(-code).name}{hint})"

    def ask_for_trace(self) -> str:
        """The traceback of a worker that hangs."""
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGUSR1)
        end = time.monotonic() + 1.0
        while time.monotonic() < end and not self.trace():
            time.sleep(0.01)
        time.sleep(0.05)  # for the rest of it
        return self.trace()

    def trace(self) -> str:
        """The traceback that the worker has left; empty if none."""
        lines = self.files.trace.content().decode("utf-8", errors="replace").splitlines()
        return "\n".join(line for line in lines if not line.startswith("Extension modules:"))

    def pass_notes_on(self) -> None:
        """Prints new warnings and output of the environments."""
        new = self.files.notes.content(self._notes)
        new = new[: new.rfind(b"\n") + 1]  # whole lines
        self._notes += len(new)
        pass_on_lines(new.decode("utf-8", errors="replace").splitlines())

    def ask_to_close(self) -> None:
        """Asks an idle worker to close its environments and to end."""
        self._asked_to_close = True
        with contextlib.suppress(OSError):
            self.connection.send(None)

    def close(self, until: float = 0.0) -> None:
        """Waits for the end of the process until a time of the monotonic clock, then kills it.

        One that is still being started is killed as soon as it is there.
        """
        with self._lock:
            self._closed = True
            if self._settled:
                self._end(until)
        self.connection.close()

    def _end(self, until: float) -> None:
        """Ends the process and its children, and forgets them."""
        process = self._process
        if process is not None and process.pid is not None:
            process.join(max(until - time.monotonic(), 0.0))
            if self._asked_to_close and process.exitcode is None:
                say_once("a worker process did not close its environments in time, and was killed")
            end_with_children(process.pid, alive=process.exitcode is None)
            process.join(CLOSE_SECONDS)
            if process.exitcode is not None:
                process.close()  # releases its pipes now
            self._process = None
        if self.files.trace.descriptor >= 0:
            self.pass_notes_on()
        self.files.close()
