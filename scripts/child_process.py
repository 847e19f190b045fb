"""The process of a `metarl.scripts.child.Child`: `metarl WORDS`, which ends as soon as its owner does.

`python -P -m metarl.scripts.child_process PIPE THREADS WORDS...`: PIPE is the read end of a pipe that only the
owner can write to, THREADS is `one` or `all`.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

ONE, ALL = "one", "all"


def _end_with_owner(pipe: int) -> None:
    """Ends this process and those of its environments when the owner's end of the pipe is closed.

    The system closes it however the owner ended. Checkpoints are renamed when they are complete, so nothing is lost but
    the iterations since the last one.
    """
    while os.read(pipe, 1):
        pass
    os.killpg(0, signal.SIGKILL)  # the owner made this process the leader of a group of its own


def main() -> int:
    """Runs the command; returns its exit code."""
    pipe, threads, *words = sys.argv[1:]
    threading.Thread(target=_end_with_owner, args=(int(pipe),), daemon=True).start()
    sys.argv = ["metarl", *words]
    if threads == ONE:
        from metarl.workers.process import one_thread

        one_thread()
    from metarl.scripts.cli import main as command

    return command()


if __name__ == "__main__":
    raise SystemExit(main())
