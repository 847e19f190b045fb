"""Environments that are made one by one, such as Gymnasium's, and the time limit of their calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from metarl.config import Seconds
from metarl.vector import TaskVecEnv

MakeEnvs: TypeAlias = Callable[[int, int, int], TaskVecEnv]
"""`(M, E, horizon) ->` the batch of environments."""


@dataclass(frozen=True, kw_only=True)
class Stepping:
    """Stepping of environments that are made one by one (Gymnasium environments)."""

    timeout: Seconds = 60.0
    """Time limit of one call of an environment (make, reset, step), s; a slower call counts as hung.
    A hung close is skipped."""


class SingleEnvs(Protocol):
    """Environments that are made one by one and stepped as a batch."""

    @property
    def stepping(self) -> Stepping:
        """The settings of their stepping."""
        ...

    def with_stepping(self, stepping: Stepping) -> SingleEnvs:
        """The same environments with other settings."""
        ...

    def drawing(self) -> SingleEnvs:
        """The same environments, made for rendering.

        Raises:
            ValueError: They cannot render.
        """
        ...

    def __call__(self, num_tasks: int, episodes: int, horizon: int) -> TaskVecEnv:
        """The batch of `M` tasks times `E` environments, with episodes of `T` steps."""
        ...
