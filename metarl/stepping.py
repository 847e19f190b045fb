"""Who steps environments that are made one by one: this process or worker processes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from metarl.config import RoundsOrNone, Seconds
from metarl.vector import TaskVecEnv

MakeEnvs: TypeAlias = Callable[[int, int, int], TaskVecEnv]
"""`(M, E, horizon) ->` the batch of environments."""


@dataclass(frozen=True, kw_only=True)
class Stepping:
    """How environments that are made one by one (Gymnasium environments) are stepped."""

    workers: Literal["auto", "sync", "async"] = "auto"
    """Step in this process (sync) or in worker processes (async); auto measures both briefly and records the faster."""
    processes: RoundsOrNone = 0
    """Number of worker processes; 0 for one per core."""
    timeout: Seconds = 60.0
    """Seconds after which a call of an environment (make, reset or step) counts as hung and ends the run. A hung close
    is skipped."""


class SingleEnvs(Protocol):
    """Environments that are made one by one and stepped as a batch, here or in worker processes."""

    @property
    def stepping(self) -> Stepping:
        """How they are stepped."""
        ...

    def with_stepping(self, stepping: Stepping) -> SingleEnvs:
        """The same environments, stepped in another way."""
        ...

    def drawing(self) -> SingleEnvs:
        """The same environments, made for rendering and stepped in this process.

        Raises:
            ValueError: They cannot render.
        """
        ...

    def __call__(self, num_tasks: int, episodes: int, horizon: int) -> TaskVecEnv:
        """The batch of `M` tasks times `E` environments, with episodes of `T` steps."""
        ...
