"""One call of a function in a worker process of its own, which may die or hang."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

from metarl.own_code.errors import EnvError
from metarl.workers.faults import WorkersError
from metarl.workers.main_module import check_importable, is_needed
from metarl.workers.packed import Packed, copied, pack, unpack
from metarl.workers.pool import START_SECONDS
from metarl.workers.process import READY, Failure, Files, Surroundings, end_children, prepare
from metarl.workers.server import start_server
from metarl.workers.shared import SharedFile
from metarl.workers.worker import Worker

ResultT = TypeVar("ResultT")

LOOK_SECONDS = 0.1
"""Longest interval between two looks whether the process is started, s."""


def called_apart(function: Callable[[], ResultT], seconds: float) -> ResultT:
    """Result of a function in a worker process.

    Args:
        function: The function.
        seconds: Time limit of the call, without the start of the process.

    Raises:
        WorkersError: The function cannot be sent, or the process does not start.
        EnvError: The function raised, or the process died or hung.
    """
    try:
        packed = pack(function)
        with_main = is_needed(packed)
        if with_main:
            check_importable()
        start_server()
    except WorkersError:
        raise
    except Exception as error:  # pickle raises exceptions of several types
        raise WorkersError(f"cannot be sent to worker processes ({type(error).__name__}: {error})") from error
    actor = SharedFile()
    worker = Worker(actor, packed, with_main=with_main, main=_answer)
    try:
        if (news := _next(worker, START_SECONDS)) != READY:
            why = _in_words(news) or f"did not start within {START_SECONDS:g} s"
            raise WorkersError(f"cannot be used in worker processes (one {why})")
        news = _next(worker, seconds)
        if isinstance(news, list):
            return unpack(copied(Packed(news[0], [memoryview(array) for array in news[1]])))
        trace = news.trace if isinstance(news, Failure) else worker.trace() if news else worker.ask_for_trace()
        message = news.message if isinstance(news, Failure) and news.kind == EnvError.__name__ else ""
        why = _in_words(news) or f"hangs: no answer within {seconds:g} s"
        raise EnvError(message or f"a worker process {why}", trace)
    finally:
        worker.close()
        actor.close()


def _next(worker: Worker, seconds: float) -> Any:
    """The next message of a worker, its end in words, or None if there is none in time."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        sentinel = [] if worker.sentinel is None else [worker.sentinel]
        wait([worker.connection, *sentinel], min(left, LOOK_SECONDS))
        if worker.connection.poll():
            try:
                return worker.connection.recv()
            except (EOFError, OSError):
                return worker.end_in_words()
        if worker.problem or (sentinel and wait(sentinel, 0.0)):
            return worker.end_in_words()
    return None


def _in_words(news: Any) -> str:
    return news.in_words() if isinstance(news, Failure) else news or ""


def _answer(
    connection: Connection, files: Files, surroundings: Surroundings, data: bytes, arrays: Sequence[bytes]
) -> None:
    """Calls the packed function; the main function of the process."""
    prepare(files, surroundings)
    try:
        function = unpack(copied(Packed(data, [memoryview(array) for array in arrays])))
        connection.send(READY)
        result = pack(function())
        connection.send([result.data, [bytes(array) for array in result.arrays]])
    except BaseException as error:  # sys.exit and errors of C++ bindings are no Exception
        connection.send(Failure.of(error))
    finally:
        end_children()
