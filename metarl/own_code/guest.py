"""The code of others in this process: what it changes of the process is put back when a call of it is over."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import TextIO

LOOKS = 4
"""How often within a time limit one looks whether an environment still makes progress."""
SHOWN_LINES = 20
"""Lines that environments may print while a command shows its progress."""
NOT_SHOWN = "(what environments print from here on is not shown)"

_said: set[str] = set()
_folder: str | None = None  # the guest's working directory, where it is another one than ours
_depth = 0
_output: LimitedOutput | None = None
_told: TextIO | None = None


def say_once(line: str, task: str = "") -> None:
    """Prints a warning of one line, once for a process, with the task in which it came first, if any."""
    line = " ".join(line.split())
    if line not in _said:
        _said.add(line)
        ours = _output.target if _output is not None and sys.stderr is _output else sys.stderr
        print(f"warning: {line}{f'; first in the task {task}' if task else ''}", file=_told or ours, flush=True)


def words_of(error: BaseException) -> str:
    """The message of an exception on one line; empty if the exception cannot tell it."""
    try:
        return " ".join(str(error).split())
    except Exception:  # a `__str__` of the guest's own
        return ""


def say_to(notes: TextIO) -> None:
    """In a worker process: warnings go into a file, which its owner reads."""
    global _told
    _told = notes


def pass_on(notes: Path, seen: int) -> int:
    """Prints what a worker process wrote after the first `seen` bytes of its notes; returns how many there are now."""
    with contextlib.suppress(OSError):
        if notes.stat().st_size > seen:
            with open(notes, "rb") as file:
                file.seek(seen)
                new = file.read()
            new = new[: new.rfind(b"\n") + 1]  # whole lines
            for line in new.decode("utf-8", errors="replace").splitlines():
                if line.startswith("warning: "):
                    say_once(line.removeprefix("warning: "))
                elif _output is not None and line != NOT_SHOWN:
                    _output.onto(sys.stderr).write(f"{line}\n")
            return seen + len(new)
    return seen


class LimitedOutput:
    """A text stream that passes on the first lines and drops the rest, so that prints per step do not bury progress.

    Args:
        lines: How many are passed on.

    Attributes:
        target: The stream that they are passed on to.
    """

    def __init__(self, lines: int = SHOWN_LINES) -> None:
        self._left = lines
        self.target: TextIO | None = None
        self.encoding, self.errors = "utf-8", "strict"

    def onto(self, target: TextIO) -> LimitedOutput:
        """The same, passing on to another stream from now on."""
        self.target = target
        return self

    def write(self, text: str) -> int:
        """Passes the text on while there are lines left."""
        if self.target is not None and self._left > 0:
            lines = text.splitlines(keepends=True)
            self.target.write("".join(lines[: self._left]))
            self._left -= text.count("\n")
            if self._left <= 0:
                self.target.write(f"{NOT_SHOWN}\n")
                self.target.flush()
        return len(text)

    def flush(self) -> None:
        """Flushes the stream behind."""
        if self.target is not None and self._left > 0:
            self.target.flush()

    def isatty(self) -> bool:
        """It is no terminal."""
        return False

    def writable(self) -> bool:
        """It can be written to."""
        return True


def limit_output() -> None:
    """From now on, environments in this process and in its worker processes print their first lines only, on stderr."""
    global _output
    _output = _output or LimitedOutput()


def output_is_limited() -> bool:
    """Whether `limit_output` was called."""
    return _output is not None


def _handlers() -> dict[int, signal._HANDLER]:
    """What this process does at Ctrl-C and at SIGTERM; nothing where a handler is none of Python's."""
    found = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    return {number: handler for number, handler in found.items() if handler is not None}


class guest:  # noqa: N801  # a context manager, used like contextlib's
    """Runs code of others: it has a working directory of its own, and our handlers of Ctrl-C are set again after it.

    Relative paths of ours stay right although an environment changes the working directory, and an environment that
    relies on its change finds it again in the next call. Only the main thread can do this; elsewhere nothing changes.

    Args:
        handlers: Set our handlers again; costs some microseconds.
    """

    def __init__(self, *, handlers: bool = True) -> None:
        self._with_handlers = handlers

    def __enter__(self) -> None:
        global _depth
        self._inside = not _depth and threading.get_ident() == threading.main_thread().ident
        if not self._inside:
            return
        self._handlers = _handlers() if self._with_handlers else {}
        self._ours = self._entered = _working_directory()
        _depth = 1
        if _folder is not None:
            _change_to(_folder)
            self._entered = _working_directory()
        if _output is not None:
            self._streams = sys.stdout, sys.stderr
            sys.stdout = sys.stderr = _output.onto(sys.stderr)

    def __exit__(self, *_: object) -> None:
        global _depth, _folder
        if not self._inside:
            return
        _depth = 0
        if _output is not None:
            sys.stdout = self._streams[0] if sys.stdout is _output else sys.stdout
            sys.stderr = self._streams[1] if sys.stderr is _output else sys.stderr
        left = _working_directory()
        if left != self._entered:
            _folder = left if left != self._ours else None
        if left != self._ours and self._ours is not None:
            _change_to(self._ours)
        for number, handler in self._handlers.items():  # also where a library in C set its own, unseen by Python
            signal.signal(number, handler)


def _working_directory() -> str | None:
    try:
        return os.getcwd()
    except OSError:  # it was removed
        return None


def _change_to(folder: str) -> None:
    with contextlib.suppress(OSError):
        os.chdir(folder)


class NoAnswerError(TimeoutError):
    """Raised inside an environment that does not answer within the time limit."""


@contextlib.contextmanager
def time_limit(seconds: float, calls: Callable[[], int] = lambda: 0) -> Iterator[None]:
    """Raises `NoAnswerError` inside code of others that makes no progress for too long.

    It needs signals, which arrive in the main thread alone; elsewhere there is no limit.

    Args:
        seconds: For one call.
        calls: How many calls were made so far: the clock starts anew with each.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    seen, idle = calls(), 0

    def look(number: int, frame: FrameType | None) -> None:
        nonlocal seen, idle
        idle = idle + 1 if seen == calls() else 0
        seen = calls()
        if idle >= LOOKS:
            raise NoAnswerError(f"no answer within the time limit of {seconds:g} s, see --timeout")

    previous, began = signal.signal(signal.SIGALRM, look), time.monotonic()
    outer, interval = signal.setitimer(signal.ITIMER_REAL, seconds / LOOKS, seconds / LOOKS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, previous)
        if outer:  # another limit around this one goes on
            signal.setitimer(signal.ITIMER_REAL, max(outer - (time.monotonic() - began), 0.001), interval)
