"""Traces of a command on the machine: processes, temporary files, shared memory."""

from __future__ import annotations

import os
import time
import uuid
from pathlib import Path

ROBOTS = Path(__file__).resolve().parent
MARK = "METARL_TEST_MARK"
TINY = ("--tasks", "4", "--episodes", "2", "--horizon", "10", "--blocks", "4", "--track", "none")
TINY += ("--eval-every", "2", "--eval-tasks", "3", "--checkpoint-every", "1", "--agent.hidden", "8")

"""Options under which a run takes a second."""


class Traces:
    """Processes, temporary files and shared memory of one command."""

    def __init__(self, temp: Path) -> None:
        self.temp, self.mark = temp, uuid.uuid4().hex
        self._memory = set(os.listdir("/dev/shm"))
        self.environment = {
            **os.environ,
            MARK: self.mark,
            "TMPDIR": str(temp),
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(ROBOTS),
        }

    def processes(self) -> dict[int, str]:
        """Those that inherited the mark, with their command lines; zombies are none."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if f"{MARK}={self.mark}".encode() in (folder / "environ").read_bytes():
                    found[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
            except OSError:
                continue
        return found

    def workers(self) -> list[int]:
        """Those that lead a session, as workers do."""
        return [pid for pid in self.processes() if _session(pid) == pid]

    def left(self) -> list[str]:
        """All that is there now."""
        memory = [f"/dev/shm/{name}" for name in set(os.listdir("/dev/shm")) - self._memory if "pym" not in name]
        files = [str(path) for path in self.temp.rglob("*")]
        return [*(f"{pid}: {words}" for pid, words in self.processes().items()), *memory, *files]

    def assert_none(self, seconds: float = 10.0) -> None:
        """Waits for the end of all."""
        end = time.monotonic() + seconds
        while (left := self.left()) and time.monotonic() < end:
            time.sleep(0.05)
        assert not left


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except OSError:
        return -1
