"""What a check finds, and the clock it is held to."""

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
    """Something that a family does wrong.

    Args:
        kind: `gymnasium`, `space`, `finite`, `seed`, `leak`, `effect`, `pickle`, `overlap` or `fault`.
        message: What is wrong and what to change.
        trace: The environment's own traceback, where it raised.
    """

    kind: str
    message: str
    trace: str = ""


@dataclass(frozen=True)
class Note:
    """Something that may be wrong, or could not be told; no failure.

    Args:
        kind: As for `Problem`, or `derived` or `time limit`.
        message: The observation, and how sure it is.
    """

    kind: str
    message: str


@dataclass(frozen=True)
class Seen:
    """A sentence on what was played and what it showed."""

    message: str


@dataclass
class Findings:
    """All that a check has to say about a family.

    Args:
        problems: What is wrong.
        notes: What may be wrong.
        seen: What was played, and what it showed.
        skipped: What was not looked at for lack of time.
    """

    problems: list[Problem] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def add(self, finding: Problem | Note | Seen) -> None:
        """Puts a finding into its list."""
        if isinstance(finding, Problem):
            self.problems.append(finding)
        elif isinstance(finding, Note):
            self.notes.append(finding)
        else:
            self.seen.append(finding)


class OutOfTimeError(Exception):
    """The clock ran out inside the environment."""


class Clock:
    """Seconds for a check, and a line of progress while they pass.

    Args:
        seconds: How many; infinity by default.
        show: Gets `(what is looked at, seconds left)` at each part, and while a part lasts.
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
        """Whether there is time for a part of the check; notes it as skipped if not.

        Args:
            what: The part, in words.
            needed: Seconds that it takes at least, if known.
        """
        if self.left <= needed:
            self.skipped.append(what)
            return False
        self._what, self._longest, self._before = what, 0.0, math.nan
        self._tell()
        return True

    def going(self) -> bool:
        """Whether there is time for another step as long as the longest one so far; asked before each step."""
        now = time.monotonic()
        if not math.isnan(self._before):
            self._longest = max(self._longest, now - self._before)
        self._before = now
        self._tell()
        return self._end - now > self._longest

    def pause(self) -> None:
        """Leaves the time until the next step out of the account of steps."""
        self._before = math.nan

    def restart(self) -> None:
        """Begins anew, with all of its time."""
        self._end = time.monotonic() + self.seconds

    def _tell(self) -> None:
        if self._show is not None:
            self._show(self._what, self.left)

    @contextlib.contextmanager
    def limit(self) -> Iterator[None]:
        """Raises `OutOfTimeError` inside what runs here once no time is left (main thread only)."""
        if math.isinf(self.seconds) or threading.current_thread() is not threading.main_thread():
            yield
            return

        def ring(number: int, frame: FrameType | None) -> None:
            raise OutOfTimeError(f"no answer within {self.seconds:g} s")

        previous = signal.signal(signal.SIGALRM, ring)
        signal.setitimer(signal.ITIMER_REAL, max(self.left, 0.01), 1.0)  # again where the first is caught
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            signal.signal(signal.SIGALRM, previous)
