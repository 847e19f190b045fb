"""A worker process: plays blocks until it is told to stop, or until its owner ends.

The server process that workers are forked from imports this module, and with it torch, once for all of them.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import gc
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing import parent_process
from multiprocessing.connection import Connection
from typing import Any

import torch

from metarl.finite import as_not_finite
from metarl.learning.device.process import keep_freed_memory
from metarl.own_code.errors import EnvError
from metarl.own_code.guest import LimitedOutput, say_to, words_of
from metarl.vector import NUM_CALL_NUMBERS, limit_cores
from metarl.workers.blocks import Batches
from metarl.workers.packed import Packed, copied, pack, unpack
from metarl.workers.server import ONE_THREAD, let_server_end
from metarl.workers.shared import Letter, Mailbox, SharedFile, shared_numbers

STEPS, CALLED = 0, 1
"""Indices in a worker's status: the number of steps so far, and the first number of `TaskVecEnv.report_calls`."""
STATUS = 8
"""Number of a worker's status numbers."""
DIE_WITH_PARENT = 1
"""PR_SET_PDEATHSIG of Linux's prctl."""


@dataclass(frozen=True)
class Files:
    """Memory that a worker shares with its owner.

    Attributes:
        actor: The packed actor, shared by all workers; written by the owner.
        inbox: Blocks; written by the owner.
        outbox: Results; written by the worker.
        status: Whole numbers that the worker updates while it works.
        trace: Traceback of a worker that a signal kills, or that is asked for one by SIGUSR1.
        notes: Warnings and first output of the environments, which the owner prints.
    """

    actor: SharedFile
    inbox: SharedFile = field(default_factory=SharedFile)
    outbox: SharedFile = field(default_factory=SharedFile)
    status: SharedFile = field(default_factory=SharedFile)
    trace: SharedFile = field(default_factory=SharedFile)
    notes: SharedFile = field(default_factory=SharedFile)

    def close(self) -> None:
        """Closes the files of one worker."""
        for file in (self.actor, self.inbox, self.outbox, self.status, self.trace, self.notes):
            file.close()


@dataclass(frozen=True)
class Surroundings:
    """Properties of the owner that environments may depend on.

    Attributes:
        environment: Its environment variables; the server has those of its own start.
        limited: Whether the output of environments is limited.
    """

    environment: dict[str, str]
    limited: bool


@dataclass(frozen=True)
class Order:
    """Sent to a worker: play a block.

    Attributes:
        version: Version of the actor.
        actor: The packed actor.
        block: The packed block.
        start: First free byte of the outbox.
    """

    version: int
    actor: Letter
    block: Letter
    start: int


@dataclass(frozen=True)
class Result:
    """Sent by a worker: the episodes of a block, and the state after acting."""

    trajectories: Letter
    state: Letter


@dataclass(frozen=True)
class Failure:
    """Sent by a worker that raised, before it ends.

    Attributes:
        kind: Name of the exception's class.
        message: Its message.
        trace: The traceback.
        not_finite: Message of the `NotFiniteError` that it is or stands for; another try would end alike.
    """

    kind: str
    message: str
    trace: str
    not_finite: str | None = None

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """The failure that an exception is; an `EnvError` has the traceback of the environment."""
        trace = error.trace if isinstance(error, EnvError) else "".join(traceback.format_exception(error))
        numbers = as_not_finite(error)
        return cls(type(error).__name__, words_of(error), trace, None if numbers is None else str(numbers))

    def in_words(self) -> str:
        """The failure in words, after "a worker process"."""
        return f"failed: {self.message}" if self.kind == EnvError.__name__ else f"raised {self.kind}: {self.message}"


READY = "ready"
"""Sent by a worker when it can take its first block."""


def serve(
    connection: Connection, files: Files, surroundings: Surroundings, data: bytes, arrays: Sequence[bytes]
) -> None:
    """Plays blocks; the main function of a worker process.

    Args:
        connection: Pipe to the owner.
        files: Shared memory.
        surroundings: Properties of the owner.
        data: Makes a batch of environments, packed: `Packed.data`.
        arrays: Its arrays.
    """
    worker = os.getpid()
    prepare(files, surroundings)
    batches = None
    try:
        status = shared_numbers(files.status, STATUS)
        actor_box, inbox, outbox = Mailbox(files.actor), Mailbox(files.inbox), Mailbox(files.outbox)
        make_envs = unpack(copied(Packed(data, [memoryview(array) for array in arrays])))
        batches = Batches(make_envs, status[CALLED : CALLED + NUM_CALL_NUMBERS])
        actor: Any = None
        version = -1
        connection.send(READY)
        while (order := connection.recv()) is not None:
            if order.version != version:
                actor, version = unpack(copied(actor_box.read(order.actor))), order.version
            block = unpack(copied(inbox.read(order.block)))

            def step() -> None:
                status[STEPS] += 1

            trajectories, state = batches.play(actor, block, step)
            _end_copy(worker)
            played = outbox.write(pack(trajectories), order.start)
            connection.send(Result(played, outbox.write(pack(state), played.end)))
    except (EOFError, ConnectionError):
        pass  # the owner has ended, or closes the pool
    except BaseException as error:
        _end_copy(worker)
        with contextlib.suppress(OSError):
            connection.send(Failure.of(error))
    finally:
        _end_copy(worker)
        if batches is not None:
            batches.close()
        end_children()


def _end_copy(worker: int) -> None:
    """Ends a copy of the worker that an environment has forked: its answers would be taken for the worker's."""
    if os.getpid() != worker:
        os._exit(0)


def end_children() -> None:
    """Kills the processes that environments have started; they would keep a worker alive."""
    for child in multiprocessing.active_children():
        child.kill()


def prepare(files: Files, surroundings: Surroundings) -> None:
    """Prepares this process: one thread, no Ctrl-C, a traceback if it dies or hangs, and an end with its owner."""
    os.environ.clear()
    os.environ.update({**ONE_THREAD, **surroundings.environment})
    let_server_end()
    with contextlib.suppress(OSError):
        os.setsid()  # no Ctrl-C from the terminal, and one process group with its children
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)  # if a call never returns to Python
    notes = open(os.dup(files.notes.descriptor), "a", encoding="utf-8", buffering=1)  # noqa: SIM115  # stays open
    say_to(notes)
    if surroundings.limited:
        sys.stdout = sys.stderr = LimitedOutput().onto(notes)
    faulthandler.enable(file=files.trace.descriptor, all_threads=False)
    faulthandler.register(signal.SIGUSR1, file=files.trace.descriptor, all_threads=False)
    threading.Thread(target=_end_with_owner, daemon=True).start()
    one_thread()


def one_thread() -> None:
    """Limits this process to one thread of torch and of physics, and makes it keep freed memory."""
    gc.freeze()  # what is imported stays
    limit_cores(1)
    torch.set_num_threads(1)
    keep_freed_memory()


def _end_with_owner() -> None:
    """Ends this process and its children as soon as its owner ends, even during a step."""
    owner = parent_process()
    if owner is not None:
        owner.join()
        end_with_children(os.getpid())
        os._exit(1)


def end_with_children(pid: int, *, alive: bool = True) -> None:
    """Kills a worker process and its children.

    Args:
        pid: The process; since `prepare` it leads a group of its own, which its children belong to.
        alive: Whether it is still there. The children of a worker that was killed would outlive it.
    """
    if not alive and _exists(pid):
        return  # a new process; it would not have that number if there were still such a group
    with contextlib.suppress(OSError):
        os.killpg(pid, signal.SIGKILL)
    if alive:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def _exists(pid: int) -> bool:
    """Whether there is such a process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True
