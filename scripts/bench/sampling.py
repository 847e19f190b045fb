"""Sampling by different numbers of workers, each in turn with the limit of the physics."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from metarl.agent import Actor
from metarl.scripts.bench.physics import PhysicsLimit
from metarl.tasks import Family
from metarl.types import Action, Spaces, Step, Task
from metarl.vector import available_cores
from metarl.workers.blocks import Player
from metarl.workers.choice import NamedEnvs, WorkerChoice, make_player
from metarl.workers.pool import Processes

START_SECONDS = 120.0
"""Longest time that all workers may take to start, s."""
UNBOUNDED = 1.0
"""Largest random action in a component without bounds."""


class NoMemory:
    """The state of an actor that remembers nothing."""

    def tasks(self, part: slice) -> Self:
        """The state of some of the tasks."""
        return self

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """The state of all tasks."""
        return parts[0]


class RandomActor(Actor[NoMemory]):
    """Acts at random: uniform in the bounds of the actions, from -1 to 1 in components without bounds.

    Args:
        spaces: Sizes and action bounds.
    """

    adaptation_steps = 0

    def __init__(self, spaces: Spaces) -> None:
        self.spaces = spaces
        low, high = np.array(spaces.action_low), np.array(spaces.action_high)
        bounded = np.isfinite(low) & np.isfinite(high)
        self._low = np.where(bounded, low, np.clip(-UNBOUNDED, low, high))
        self._high = np.where(bounded, high, np.clip(UNBOUNDED, low, high))

    def episodes_per_adaptation(self, episodes: int) -> int:
        """None are used."""
        return 0

    def begin(self, tasks: Sequence[Task], episodes: int) -> NoMemory:
        """The state of every trial."""
        return NoMemory()

    def act(self, state: NoMemory, step: Step, rng: np.random.Generator, mode: bool = False) -> tuple[Action, NoMemory]:
        """Random actions for all rows."""
        rows = step.first.shape
        if self.spaces.choices:
            first = self.spaces.first_choice
            return Action(rng.integers(first, first + self.spaces.choices, (*rows, 1))), state
        return Action(rng.uniform(self._low, self._high, (*rows, len(self._low)))), state

    def adapt(self, state: NoMemory, trajectories: Any) -> NoMemory:
        """The same state."""
        return state


def worker_counts(asked: Sequence[int]) -> tuple[int, ...]:
    """Numbers of workers to measure, in ascending order: 0, 1, 2, 4, ... and the number of cores by default."""
    cores = available_cores()
    powers = [2**i for i in range(cores.bit_length()) if 2**i < cores]
    return tuple(sorted(set(asked or (0, *powers, cores))))


@dataclass(frozen=True)
class Sampling:
    """Sizes of the sampling that is measured.

    Args:
        family: The family.
        spec: Name of the family.
        tasks: The `M` tasks.
        episodes: `E`.
        horizon: `T`.
        blocks: Number of blocks of a collect.
        seed: Seed of the physics.
    """

    family: Family
    spec: str
    tasks: tuple[Task, ...]
    episodes: int
    horizon: int
    blocks: int
    seed: int

    def limit(self) -> PhysicsLimit:
        """The processes that measure the limit of a family whose environments are `Physical`."""
        make_envs = NamedEnvs(self.spec, self.family.stepping)
        return PhysicsLimit(make_envs, self.tasks, self.episodes, self.horizon, seed=self.seed)

    @contextmanager
    def player(self, workers: int, warm_up: Callable[[Player], object]) -> Iterator[Player]:
        """Context with a player that has started, and whose environments are made.

        Args:
            workers: Number of workers; 0 plays in this process.
            warm_up: Plays once.

        Raises:
            ValueError: The workers do not start in time.
        """
        player = make_player(WorkerChoice(workers), self.family, self.spec, self.blocks)
        try:
            until = time.monotonic() + START_SECONDS
            while isinstance(player, Processes) and player.num_ready < workers:
                if time.monotonic() > until:
                    raise ValueError(
                        f"workers: got {player.num_ready} of {workers} after {START_SECONDS:g} s, expected all; use "
                        "fewer --workers"
                    )
                warm_up(player)
            warm_up(player)
            yield player
        finally:
            player.close()


def progress(what: str, workers: int, done: int, rounds: int) -> None:
    """Prints a line on stderr after each round."""
    who = f"{workers} worker{'s' if workers > 1 else ''}" if workers else "this process"
    print(f"{what}, {who}: round {done} of {rounds}", file=sys.stderr, flush=True)


def median(values: Sequence[float | None]) -> float | None:
    """The median with four digits; None if there are no numbers."""
    numbers = [value for value in values if value is not None]
    return float(f"{statistics.median(numbers):.4g}") if numbers else None


def ratio(over: Sequence[float | None], under: Sequence[float | None]) -> float | None:
    """Median of the ratios within a round, so that machine drift cancels."""
    return median([a / b if a and b else None for a, b in zip(over, under, strict=True)])


def speed_row(workers: int, speeds: Sequence[float], limits: Sequence[float | None]) -> dict[str, Any]:
    """A row of the table: medians over the rounds.

    Args:
        workers: Number of workers.
        speeds: Environment steps per second of each round.
        limits: The limit in the same rounds.
    """
    return {
        "workers": workers,
        "cores": available_cores(),
        "env_steps_per_s": median(speeds),
        "physics_limit": median(limits),
        "fraction_of_limit": ratio(speeds, limits),
    }


SPEEDS = ("workers", "cores", "env_steps_per_s", "physics_limit", "fraction_of_limit")
"""Columns of the table."""
