"""Worker processes of this machine, the part in the process that owns them."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from multiprocessing.util import Finalize
from typing import Any, TypeVar

import torch

from metarl.agent import Actor
from metarl.own_code.safe_path import safe_path
from metarl.stepping import MakeEnvs
from metarl.workers.blocks import Block, InProcess, Played
from metarl.workers.faults import TRIES, Tries, WorkersError
from metarl.workers.packed import Packed, copied, device_of, pack, unpack
from metarl.workers.process import READY, STATUS, STEPS, Failure, Files, Order, Result, end_with_children, serve
from metarl.workers.shared import Letter, Mailbox, SharedFile, shared_numbers

StateT = TypeVar("StateT")

START_METHOD = "forkserver"
"""Start method of workers: from a clean process, since threads of this one do not survive a fork."""
PRELOADED = ("metarl.workers.process", "metarl.gymnasium_envs.batch")
"""Modules that the clean process imports once for all workers."""
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
"""Environment of the clean process: libraries that read it when they are imported use one thread."""
START_SECONDS = 120.0
"""Time limit for the start of a worker, s."""
SILENT_SECONDS = 300.0
"""Default of the longest time without a step of the environments, s."""
LOOK_SECONDS = 1.0
"""Longest interval between two looks at silent workers, s."""
CLOSE_SECONDS = 5.0
"""Time in which idle workers close their environments, s."""
PAYS_AFTER = 3.0
"""Seconds of sampling in this process after which a pool that starts by itself is started: about what a start takes."""


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


class Processes:
    """Plays blocks in worker processes; in this one until the first worker is ready, with the same results.

    A worker that dies, raises or falls silent is replaced, and its block goes to another worker.

    Args:
        make_envs: Makes a batch of environments; it can be packed.
        count: Number of workers.
        silent: Longest time without a step of the environments, s; after it a worker counts as hung.
        at_once: Start the workers now. Otherwise they are started when sampling has taken `PAYS_AFTER` seconds, and
            this process goes on alone if they cannot be started.
        say: Prints a line about workers that were lost.

    Raises:
        WorkersError: `make_envs` cannot be packed.
    """

    def __init__(
        self,
        make_envs: MakeEnvs,
        count: int,
        *,
        silent: float = SILENT_SECONDS,
        at_once: bool = True,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        if getattr(multiprocessing.current_process(), "_inheriting", False):
            raise WorkersError(
                "a worker process runs this script again, since it defines the agent or the environments; put the "
                'script\'s work under `if __name__ == "__main__":`'
            )
        self.count = count
        self._make_envs, self._silent, self._say, self._strict = make_envs, silent, say, at_once
        self._packed = _packed("the environments", make_envs)
        self._here = InProcess(make_envs)
        self._file = SharedFile()
        self._actor_box, self._actor, self._version = Mailbox(self._file), Packed(b"", []), 0
        self._letter = Letter(b"", (), 0)
        self._workers: list[Worker] = []
        self._alone_seconds, self._failed_starts, self._given_up, self._started = 0.0, 0, False, False
        # At its end Python waits for processes that are not daemonic; those still there then are killed.
        self._at_exit = Finalize(None, _kill_all, args=(self._workers,), exitpriority=100)
        if at_once:
            self._fill()

    def play(self, actor: Actor[StateT], blocks: Sequence[Block[StateT]]) -> list[Played[StateT]]:
        """The results of all blocks, in their order; the arrays are valid until the next call.

        Raises:
            BlockError: A block failed in every worker that tried it.
            WorkersError: The actor or a state cannot be packed, or no worker can be started.
        """
        try:
            packed_actor = _packed("the agent", actor.acting_part())
            packed = [_packed("the agent's state", block) for block in blocks]
        except WorkersError as error:
            self._give_up(str(error))
        if self._given_up:
            return self._here.play(actor, blocks)
        self._publish(packed_actor)
        if self._started:
            self._fill()
        collect = _Collect(blocks, packed, device_of(blocks[0].state))
        try:
            while len(collect.results) < len(blocks):
                self._hand_out(collect)
                alone = bool(collect.waiting) and not any(worker.ready for worker in self._workers)
                if alone:
                    self._play_here(packed_actor, collect)
                for worker, event in self._events(0.0 if alone else LOOK_SECONDS):
                    self._handle(worker, event, collect)
        except BaseException:
            self._drop([worker for worker in self._workers if worker.block is not None])
            raise
        return [collect.results[number] for number in range(len(blocks))]

    def close(self) -> None:
        """Closes the environments and ends all workers; those at work are killed."""
        self._at_exit.cancel()
        idle = [worker for worker in self._workers if worker.idle]
        for worker in idle:
            worker.ask_to_close()
        until = time.monotonic() + CLOSE_SECONDS
        for worker in self._workers:
            worker.close(until if worker in idle else 0.0)
        self._workers.clear()
        self._here.close()
        self._file.close()

    # Workers ---------------------------------------------------------------------------------------------

    def _fill(self) -> None:
        """Starts workers until there are `count`."""
        if not self._started:
            self._started = True
            module = getattr(getattr(self._make_envs, "func", self._make_envs), "__module__", "") or ""
            own = [module] if module.startswith("metarl.") else []
            multiprocessing.get_context(START_METHOD).set_forkserver_preload([*PRELOADED, *own])
        while len(self._workers) < self.count:
            self._workers.append(Worker(self._file, self._packed))

    def _drop(self, workers: Sequence[Worker]) -> None:
        """Kills workers and forgets them."""
        for worker in workers:
            self._workers.remove(worker)
            worker.close(0.0)

    def _give_up(self, why: str) -> None:
        """Goes on in this process only.

        Raises:
            WorkersError: The caller asked for workers.
        """
        if self._strict:
            raise WorkersError(why)
        self._say(f"sampling goes on in this process, since worker processes cannot be used: {why}")
        self._given_up = True
        self._drop(list(self._workers))

    def _publish(self, actor: Packed) -> None:
        """Writes the actor for all workers, unless it has not changed. None of them is at work."""
        if actor.data == self._actor.data and list(actor.arrays) == list(self._actor.arrays):
            return
        self._actor, self._version = copied(actor), self._version + 1
        self._letter = self._actor_box.write(actor)

    # A collect -------------------------------------------------------------------------------------------

    def _hand_out(self, collect: _Collect) -> None:
        """Gives each idle worker a block; that of the last collect, if possible, since its tasks are set there."""
        for i, worker in enumerate(self._workers):
            if collect.waiting and worker.idle:
                number = i if i in collect.waiting else collect.waiting[0]
                collect.waiting.remove(number)
                with contextlib.suppress(OSError):  # it has died, as the next event tells
                    worker.give(
                        number, self._version, self._letter, collect.packed[number], collect.ends.get(worker, 0)
                    )

    def _play_here(self, actor: Packed, collect: _Collect) -> None:
        """Plays a block in this process, since no worker is ready."""
        number, clock = collect.waiting.popleft(), time.perf_counter()
        block = unpack(copied(collect.packed[number]))
        trajectories, state = self._here.play(unpack(copied(actor)), [block])[0]
        collect.results[number] = trajectories, unpack(pack(state), collect.device)
        self._alone_seconds += time.perf_counter() - clock
        if self._alone_seconds >= PAYS_AFTER:
            self._fill()

    def _events(self, seconds: float) -> Iterator[tuple[Worker, Result | Failure | str]]:
        """Waits for news of workers: results, exceptions, or their end in words."""
        heard: list[Any] = [worker.connection for worker in self._workers]
        heard += [worker.process.sentinel for worker in self._workers if worker.process is not None]
        news = wait(heard, seconds)
        for worker in list(self._workers):
            if worker.connection in news:
                try:
                    message = worker.connection.recv()
                except (EOFError, OSError):
                    message = worker.end_in_words()
                if message == READY:
                    worker.ready = True
                    continue
                yield worker, message
            elif worker.dead:
                yield worker, worker.end_in_words()
            elif worker.ready and worker.block is not None and worker.silent_seconds() > self._silent:
                worker.ask_for_trace()
                yield worker, f"made no step for {self._silent:g} s and was ended"
            elif not worker.ready and worker.silent_seconds() > START_SECONDS:
                yield worker, f"did not start within {START_SECONDS:g} s"

    def _handle(self, worker: Worker, event: Result | Failure | str, collect: _Collect) -> None:
        """Places a result, or replaces a worker and has its block played again.

        Raises:
            BlockError: The block failed too often.
            WorkersError: Workers were asked for, and do not start.
        """
        number = worker.block
        if isinstance(event, Result):
            assert number is not None
            worker.block, collect.ends[worker] = None, event.state.end
            episodes, state = worker.read(event.trajectories), worker.read(event.state)
            collect.results[number] = unpack(episodes), unpack(copied(state), collect.device)
            return
        trace = event.trace if isinstance(event, Failure) else worker.trace()
        what = f"raised {event.kind}: {event.message}" if isinstance(event, Failure) else event
        self._drop([worker])
        if number is not None:
            collect.waiting.appendleft(number)
            collect.tries.failed(number, what, trace)
            self._say(f"a worker process {what}; its block of tasks is played again")
        elif not worker.ready:
            self._failed_starts += 1
            if self._failed_starts >= TRIES:
                self._give_up(f"a worker process {what}{_last_line(trace)}")
                return
        self._fill()


class _Collect:
    """The state of one collect.

    Args:
        blocks: The blocks.
        packed: The same, packed.
        device: Device of the actor's state.
    """

    def __init__(self, blocks: Sequence[Block[Any]], packed: Sequence[Packed], device: torch.device) -> None:
        self.packed, self.device = packed, device
        self.tries = Tries([len(block.tasks) for block in blocks], [task for block in blocks for task in block.tasks])
        self.waiting = deque(range(len(blocks)))
        self.results: dict[int, Played[Any]] = {}
        self.ends: dict[Worker, int] = {}  # first free byte of the outbox of each worker


def _packed(what: str, value: Any) -> Packed:
    try:
        return pack(value)
    except Exception as error:  # pickle raises exceptions of several types
        raise WorkersError(
            f"{what} cannot be sent to worker processes ({type(error).__name__}: {error}); define functions and "
            "classes at the top of a module, or use --workers 0"
        ) from error


def _last_line(trace: str) -> str:
    lines = trace.strip().splitlines()
    return f" ({lines[-1].strip()})" if lines else ""


def _kill_all(workers: list[Worker]) -> None:
    for worker in workers:
        worker.close(0.0)


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
