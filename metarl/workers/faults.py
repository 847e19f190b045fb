"""Blocks that fail: tries, and the error that ends a run."""

from __future__ import annotations

from collections.abc import Sequence

from metarl.types import Task

TRIES = 3
"""Number of times that a block is tried."""
LONGEST = 500
"""Length in characters above which the parameters of a block's tasks are shortened."""


class BlockError(RuntimeError):
    """A block of tasks failed in every worker that tried it.

    Args:
        message: One line.
        trace: The last worker's traceback; empty if it left none.
    """

    def __init__(self, message: str, trace: str = "") -> None:
        super().__init__(message)
        self.trace = trace
        if trace:
            self.add_note(f"Traceback of the worker:\n{trace.rstrip()}")


class WorkersError(RuntimeError):
    """Workers cannot be used here: they do not start, or an object cannot be sent to them."""


class Tries:
    """Counts the failures of the blocks of a collect.

    Args:
        sizes: Number of tasks of each block.
        tasks: The tasks of all blocks.
    """

    def __init__(self, sizes: Sequence[int], tasks: Sequence[Task]) -> None:
        self._sizes, self._tasks = list(sizes), list(tasks)
        self._failures = [0] * len(sizes)

    def failed(self, block: int, what: str, trace: str) -> None:
        """Counts a failure.

        Args:
            block: Index of the block.
            what: End of the worker, in words: "raised ValueError: ...".
            trace: Its traceback.

        Raises:
            BlockError: It was the last try.
        """
        self._failures[block] += 1
        if self._failures[block] >= TRIES:
            first = sum(self._sizes[:block])
            last = first + self._sizes[block] - 1
            which = f"task {first}" if first == last else f"tasks {first} to {last}"
            parameters = ", ".join(str(task.to_json()["parameters"]) for task in self._tasks[first : last + 1])
            if len(parameters) > LONGEST:
                parameters = f"{parameters[:LONGEST]}..."
            raise BlockError(
                f"block {block} of {len(self._sizes)} ({which} of the meta-batch) failed {TRIES} times in worker "
                f"processes; the last one {what}; {which}: {parameters}",
                trace,
            )
