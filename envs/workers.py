"""A thread pool for simulations. MuJoCo releases the interpreter lock while it steps, so threads run in parallel."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

from metarl.vector import available_cores

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


class Workers:
    """A thread pool in which the calling thread works too, because sleeping threads wake up late on idle cores.

    Args:
        count: Number of threads; all available cores by default.

    Attributes:
        count: Number of threads.
    """

    def __init__(self, count: int | None = None) -> None:
        self.count = count or available_cores()
        self._pool = ThreadPoolExecutor(self.count, thread_name_prefix="physics")

    def run(self, work: Callable[[ItemT], None], shares: Sequence[ItemT]) -> None:
        """Calls `work` on each share in a separate thread, on the first share in the calling thread.

        Waits for all of them, then raises the first exception of a share, if any.
        """
        others = [self._pool.submit(work, share) for share in shares[1:]]
        try:
            if shares:
                work(shares[0])
        finally:
            wait(others)
        for future in others:
            future.result()

    def map(self, function: Callable[[ItemT], ResultT], items: Iterable[ItemT]) -> list[ResultT]:
        """Results of `function` for each item, in the order of the items; free threads take the next item."""
        return list(self._pool.map(function, items))

    def close(self) -> None:
        """Stops the threads."""
        self._pool.shutdown(wait=True)
