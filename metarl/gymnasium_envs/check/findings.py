"""Findings of a check, and its time limit."""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import FrameType


@dataclass(frozen=True)
class Problem:
    """A fault of a family.

    Args:
        kind: `gymnasium`, `space`, `finite`, `seed`, `leak`, `effect`, `pickle`, `overlap` or `fault`.
        message: The fault, and what to change.
        trace: The environment's own traceback, if it raised.
    """

    kind: str
    message: str
    trace: str = ""


@dataclass(frozen=True)
class Note:
    """A possible fault, or one that could not be tested; the check still passes.

    Args:
        kind: As for `Problem`, or `derived` or `time limit`.
        message: The observation, and how certain it is.
    """

    kind: str
    message: str


@dataclass(frozen=True)
class Seen:
    """A sentence about the episodes played and their result."""

    message: str


@dataclass
class Findings:
    """The result of a check.

    Args:
        problems: Faults.
        notes: Possible faults.
        seen: Episodes played and their results.
        skipped: Checks that did not finish in time.
    """

    problems: list[Problem] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def add(self, finding: Problem | Note | Seen) -> None:
        """Appends a finding to its list."""
        if isinstance(finding, Problem):
            self.problems.append(finding)
        elif isinstance(finding, Note):
            self.notes.append(finding)
        else:
            self.seen.append(finding)


class OutOfTimeError(Exception):
    """The time limit was reached inside a call of the environment."""


class Clock:
    """Time limit of a check, with a display of its progress.

    Args:
        seconds: Time limit; infinity by default.
        show: Called with `(current check, seconds left)` at the start of each check and during it.
    """

    def __init__(self, seconds: float = math.inf, show: Callable[[str, float], None] | None = None) -> None:
        self.seconds, self._end = seconds, time.monotonic() + seconds
        self._show, self._what, self._longest, self._before = show, "", 0.0, math.nan
        self.skipped: list[str] = []

    @property
    def left(self) -> float:
        """Seconds left, at least 0."""
        return max(self._end - time.monotonic(), 0.0)

    def start(self, what: str, needed: float = 0.0) -> bool:
        """Whether there is time for the next check; records it as skipped if not.

        Args:
            what: The check, in words.
            needed: Lower bound on its seconds, if known.
        """
        if self.left <= needed:
            self.skipped.append(what)
            return False
        self._what, self._longest, self._before = what, 0.0, math.nan
        self._tell()
        return True

    def going(self) -> bool:
        """Whether the time left exceeds the longest step so far; called before each step."""
        now = time.monotonic()
        if not math.isnan(self._before):
            self._longest = max(self._longest, now - self._before)
        self._before = now
        self._tell()
        return self._end - now > self._longest

    def pause(self) -> None:
        """Excludes the time until the next step from the step times."""
        self._before = math.nan

    def restart(self) -> None:
        """Restarts with the full time."""
        self._end = time.monotonic() + self.seconds

    def _tell(self) -> None:
        if self._show is not None:
            self._show(self._what, self.left)

    @contextlib.contextmanager
    def limit(self) -> Iterator[None]:
        """Raises `OutOfTimeError` inside the block when the time is up (main thread only)."""
        if math.isinf(self.seconds) or threading.current_thread() is not threading.main_thread():
            yield
            return

        def ring(number: int, frame: FrameType | None) -> None:
            raise OutOfTimeError(f"no answer within {self.seconds:g} s")

        previous = signal.signal(signal.SIGALRM, ring)
        signal.setitimer(
            signal.ITIMER_REAL, max(self.left, 0.01), 1.0
        )  # repeated, as the environment may catch the first
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            signal.signal(signal.SIGALRM, previous)
