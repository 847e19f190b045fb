"""Commands as processes of their own, such as trainings: started, stopped, and never outliving this process."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from metarl.scripts.child_process import ALL, ONE
from metarl.workers.server import ONE_THREAD

MODULE = "metarl.scripts.child_process"
TICK_SECONDS = 0.1
"""Pause between two looks at the processes."""
ORPHAN_SECONDS = 20.0
"""Longest wait for the end of trainings whose owner was killed."""
ERROR = "metarl: error: "


class Child:
    """A command in a process of its own, which ends when this process does, even by SIGKILL.

    Args:
        words: Words after `metarl`.
        output: File to which all that it prints is appended; its folder is made if there is none.
        one_thread: Limit it to one thread, since others run beside it.

    Attributes:
        output: The file.
        asked: Whether it was asked to stop.
        seconds: Seconds since its start, until its end.
    """

    def __init__(self, words: Sequence[str], output: Path, *, one_thread: bool) -> None:
        output.parent.mkdir(parents=True, exist_ok=True)
        self.output, self.asked, self._began, self._took = output, False, time.monotonic(), 0.0
        pipe, self._own_end = os.pipe()
        program = [sys.executable, "-P", "-m", MODULE, str(pipe), ONE if one_thread else ALL, *words]
        try:
            with open(output, "ab") as file:
                self._printed_from = file.tell()
                self._process = subprocess.Popen(
                    program,
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    pass_fds=(pipe,),
                    start_new_session=True,  # Ctrl-C is ours, and its processes can be ended together
                    env={**os.environ, **(ONE_THREAD if one_thread else {}), "PYTHONUNBUFFERED": "1"},
                )
        except BaseException:
            os.close(self._own_end)
            raise
        finally:
            os.close(pipe)

    @property
    def seconds(self) -> float:
        """Seconds since its start, until its end."""
        return self._took or time.monotonic() - self._began

    def exit_code(self) -> int | None:
        """The exit code, negative after a signal; None while it runs."""
        code = self._process.poll()
        if code is not None and not self._took:
            self._took = time.monotonic() - self._began
            os.close(self._own_end)
        return code

    def stop(self) -> None:
        """Asks it to finish the iteration, to save and to end; the first call counts."""
        if not self.asked and self.exit_code() is None:
            self._process.send_signal(signal.SIGTERM)
        self.asked = True

    def kill(self) -> None:
        """Ends it and its own processes at once."""
        if self.exit_code() is None:
            with contextlib.suppress(OSError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self.exit_code()

    @property
    def stopped(self) -> bool:
        """Whether it ended because it was asked to."""
        return self.asked and self.exit_code() in (128 + signal.SIGINT, 128 + signal.SIGTERM, -signal.SIGTERM)

    def error(self) -> str:
        """One line on the cause of its end: the last line that reports an error, else the last line."""
        code = self.exit_code()
        with open(self.output, "rb") as file:
            file.seek(self._printed_from)
            lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
        found = [line.removeprefix(ERROR) for line in lines if line.startswith(ERROR)] or lines
        said = found[-1] if found else "no output"
        if code is not None and code < 0:
            kind = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
            why = ", as the system does when memory runs out" if -code == signal.SIGKILL else ""
            return f"ended by {kind}{why}"
        return said


def run_all(
    starts: Iterable[Callable[[], Child]], jobs: int, stop: Callable[[], bool], tick: Callable[[int], None]
) -> bool:
    """Runs commands side by side.

    Args:
        starts: Functions that start them.
        jobs: Largest number at once.
        stop: Whether to end early; those that run are then asked to stop.
        tick: Called all the time with the number of commands that ended.

    Returns:
        Whether all of them ran to their end.

    Raises:
        ValueError: One failed.
    """
    waiting, running, ended = list(starts), list[Child](), 0
    try:
        while waiting or running:
            if stop():
                waiting = []
                for child in running:
                    child.stop()
            while waiting and len(running) < jobs:
                running.append(waiting.pop(0)())
            for child in [one for one in running if one.exit_code() is not None]:
                running.remove(child)
                ended += 1
                if child.exit_code() and not child.stopped:
                    raise ValueError(f"{child.output.parent}: {child.error()}; {child.output} has all it printed")
            tick(ended)
            time.sleep(TICK_SECONDS)
    finally:
        for child in running:
            child.kill()
    return not stop()


def wait_for_orphans(folders: Iterable[Path], seconds: float = ORPHAN_SECONDS) -> None:
    """Waits until no process trains in some folders; those of a killed owner end by themselves.

    Args:
        folders: Folders of runs.
        seconds: Longest wait.

    Raises:
        ValueError: A process still trains in one of them.
    """
    until = time.monotonic() + seconds
    for folder in folders:
        while not _is_free(folder / ".lock"):
            if time.monotonic() > until:
                raise ValueError(
                    f"--resume: got {folder}, in which another process is training; wait for it, or stop it"
                )
            time.sleep(TICK_SECONDS)


def _is_free(lock: Path) -> bool:
    """Whether no process holds a run's lock; see `metarl.run_folder.sole_writer`."""
    if not lock.exists():
        return True
    with open(lock, "r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True
