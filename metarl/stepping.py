"""Stepping of environments that are made one by one: in this process or in worker processes."""

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
    """Stepping of environments that are made one by one (Gymnasium environments)."""

    workers: Literal["auto", "sync", "async"] = "auto"
    """sync: this process; async: worker processes; auto: the faster one, measured at the start."""
    processes: RoundsOrNone = 0
    """Number of worker processes; 0 for one per core."""
    timeout: Seconds = 60.0
    """Time limit of one call of an environment (make, reset, step), s; a slower call ends the run.
    A hung close is skipped."""


class SingleEnvs(Protocol):
    """Environments that are made one by one and stepped as a batch, here or in worker processes."""

    @property
    def stepping(self) -> Stepping:
        """The settings of their stepping."""
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
