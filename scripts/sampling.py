"""Options of the commands that sample: who plays the episodes."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

from metarl.config import Seconds
from metarl.workers.choice import RAY, WorkerChoice, read_workers


@dataclass(frozen=True, kw_only=True)
class SamplingOptions:
    """Who plays the episodes."""

    workers: str = "auto"
    """Processes that sample: auto (by the number of cores), a number (0: this process), ray, or ray:N.
    Results do not depend on it."""
    worker_timeout: Seconds = 300.0
    """Longest time without a step of the environments, s; a worker that takes longer is replaced."""
    ray_address: str | None = None
    """Address of a Ray cluster: auto, or HOST:PORT; by default Ray is started on this machine."""

    def choice(self) -> WorkerChoice:
        """The checked choice.

        Raises:
            ValueError: `workers` is malformed, there is an address without Ray, or Ray is not installed.
        """
        choice = read_workers(self.workers, address=self.ray_address, silent=self.worker_timeout)
        if choice.ray and find_spec(RAY) is None:
            raise ValueError(
                f"workers: got {self.workers!r}, but its package is not installed; run: "
                'pip install "metarl-robots[ray]"'
            )
        return choice
