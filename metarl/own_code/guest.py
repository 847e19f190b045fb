"""Calls of the user's code in this process: undoes changes to working directory, signal handlers and streams."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import TextIO

LOOKS = 4
"""Number of checks within a time limit whether an environment still makes progress."""
SHOWN_LINES = 20
"""Number of lines of environments that are shown while a command shows its progress."""
NOT_SHOWN = "(further output of environments is not shown)"
FIRST = "; first in the task "

_said: set[str] = set()
_folder: str | None = None  # the user code's working directory, if it differs from ours
_depth = 0
_output: LimitedOutput | None = None
_told: TextIO | None = None


def say_once(line: str, task: str = "") -> None:
    """Prints a one-line warning, once per process, with the task of its first occurrence."""
    line = " ".join(line.split())
    if line not in _said:
        _said.add(line)
        ours = _output.target if _output is not None and sys.stderr is _output else sys.stderr
        print(f"warning: {line}{f'{FIRST}{task}' if task else ''}", file=_told or ours, flush=True)


def words_of(error: BaseException) -> str:
    """The message of an exception on one line; empty if its `__str__` raises."""
    try:
        return " ".join(str(error).split())
    except Exception:  # a user's `__str__`
        return ""


def say_to(notes: TextIO) -> None:
    """Redirects the warnings of a worker process to a file that its owner reads."""
    global _told
    _told = notes


def pass_on_lines(lines: Iterable[str]) -> None:
    """Prints lines of a worker process: warnings once, and the first lines of output."""
    for line in lines:
        if line.startswith("warning: "):
            said, _, task = line.removeprefix("warning: ").partition(FIRST)
            say_once(said, task)
        elif _output is not None and line != NOT_SHOWN:
            _output.onto(sys.stderr).write(f"{line}\n")


class LimitedOutput:
    """A text stream that forwards the first lines and discards the rest, since some environments print at every step.

    Args:
        lines: Number of lines to forward.

    Attributes:
        target: The stream to forward to.
    """

    def __init__(self, lines: int = SHOWN_LINES) -> None:
        self._left = lines
        self.target: TextIO | None = None
        self.encoding, self.errors = "utf-8", "strict"

    def onto(self, target: TextIO) -> LimitedOutput:
        """The same stream with another target."""
        self.target = target
        return self

    def write(self, text: str) -> int:
        """Forwards the text while lines are left."""
        if self.target is not None and self._left > 0:
            lines = text.splitlines(keepends=True)
            self.target.write("".join(lines[: self._left]))
            self._left -= text.count("\n")
            if self._left <= 0:
                self.target.write(f"{NOT_SHOWN}\n")
                self.target.flush()
        return len(text)

    def flush(self) -> None:
        """Flushes the target."""
        if self.target is not None and self._left > 0:
            self.target.flush()

    def isatty(self) -> bool:
        """False: this stream is no terminal."""
        return False

    def writable(self) -> bool:
        """True: this stream can be written to."""
        return True


def limit_output() -> None:
    """Limits the output of environments, in all processes, to its first lines, on stderr."""
    global _output
    _output = _output or LimitedOutput()


def output_is_limited() -> bool:
    """Whether `limit_output` was called."""
    return _output is not None


def _handlers() -> dict[int, signal._HANDLER]:
    """Python's handlers of Ctrl-C and SIGTERM in this process."""
    found = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    return {number: handler for number, handler in found.items() if handler is not None}


class guest:  # noqa: N801  # a context manager, used like contextlib's
    """Runs the user's code in its own working directory, and restores metarl's signal handlers afterwards.

    If an environment changes the working directory, metarl's relative paths stay valid, and the environment's next call
    starts in its directory. Only the main thread restores anything.

    Args:
        handlers: Whether to restore signal handlers, which takes some microseconds.
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
        for number, handler in self._handlers.items():  # a C library may have set its own, unseen by Python
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
    """Raised inside an environment that does not return within the time limit."""


@contextlib.contextmanager
def time_limit(seconds: float, calls: Callable[[], int] = lambda: 0) -> Iterator[None]:
    """Raises `NoAnswerError` inside the user's code if a call takes too long.

    It relies on a signal, which only the main thread receives; other threads have no limit.

    Args:
        seconds: Time limit for one call.
        calls: Returns the number of calls so far; the clock restarts with each.
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
        if outer:  # an outer limit continues
            signal.setitimer(signal.ITIMER_REAL, max(outer - (time.monotonic() - began), 0.001), interval)
