"""Threads for simulations, which release the interpreter lock while they step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

from metarl.vector import available_cores

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


class Workers:
    """Some threads, the caller's among them: one that sleeps while others work wakes up late, on a cold core.

    Args:
        count: How many; all available cores by default.
    """

    def __init__(self, count: int | None = None) -> None:
        self.count = count or available_cores()
        self._pool = ThreadPoolExecutor(self.count, thread_name_prefix="physics")

    def run(self, work: Callable[[ItemT], None], shares: Sequence[ItemT]) -> None:
        """Does the work on each share, one per thread, the first in the caller's; raises what a thread raised."""
        others = [self._pool.submit(work, share) for share in shares[1:]]
        try:
            if shares:
                work(shares[0])
        finally:
            wait(others)
        for future in others:
            future.result()

    def map(self, function: Callable[[ItemT], ResultT], items: Iterable[ItemT]) -> list[ResultT]:
        """The function of each item, in their order; whichever thread is free takes the next."""
        return list(self._pool.map(function, items))

    def close(self) -> None:
        """Ends the threads."""
        self._pool.shutdown(wait=True)
