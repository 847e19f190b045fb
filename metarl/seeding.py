"""Independent, named streams of random numbers from one seed, without a global generator."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np

NAMES = ("tasks", "envs", "policy", "learner")
EVALUATION = 0xE7A1
"""Spawn key that separates evaluation from training."""
CHILD = 0xC41D
"""Spawn key before the number of a child."""


class Streams:
    """Random generators by name, spawned from one `numpy.random.SeedSequence`, and a tree of further streams.

    The streams of a run draw tasks and serve the learner. Those of a collect are children: iteration, collect and block
    of tasks are their key, so that they depend neither on what was drawn before nor on the process that draws.

    Args:
        seed: Seed of the run, or a seed sequence.

    Attributes:
        tasks: Generator of the sampled tasks.
        envs: Generator of the seeds that reset the environments (one integer per collect).
        policy: Generator of the policy's noise.
        learner: Generator of the initial parameters and of the meta-update's random numbers.
    """

    def __init__(self, seed: int | np.random.SeedSequence) -> None:
        self._sequence = seed if isinstance(seed, np.random.SeedSequence) else np.random.SeedSequence(seed)
        self._children = 0

    tasks = cached_property(lambda self: self._generator(0))
    envs = cached_property(lambda self: self._generator(1))
    policy = cached_property(lambda self: self._generator(2))
    learner = cached_property(lambda self: self._generator(3))

    def _spawned(self, *key: int) -> np.random.SeedSequence:
        sequence = self._sequence
        return np.random.SeedSequence(
            sequence.entropy, spawn_key=(*sequence.spawn_key, *key), pool_size=sequence.pool_size
        )

    def _generator(self, index: int) -> np.random.Generator:
        return np.random.Generator(np.random.PCG64(self._spawned(index)))

    def child(self, index: int) -> Streams:
        """Fresh streams that depend on the seed, the path of children to them, and nothing else.

        Args:
            index: Number of the child: of an iteration, of a collect in it, or of a block of tasks.
        """
        return Streams(self._spawned(CHILD, index))

    def next(self) -> Streams:
        """The next child: number 0 at the first call, then 1, 2, ..."""
        self._children += 1
        return self.child(self._children - 1)

    @classmethod
    def for_evaluation(cls, seed: int, iteration: int = 0) -> Streams:
        """Streams that depend on their arguments only, so that evaluations do not affect training."""
        return cls(np.random.SeedSequence(seed, spawn_key=(EVALUATION, iteration)))

    def state(self) -> dict[str, Any]:
        """Seed, state of every generator, and number of children so far, as a JSON value."""
        generators = {name: getattr(self, name).bit_generator.state for name in NAMES}
        sequence = self._sequence
        seed = {"entropy": sequence.entropy, "spawn_key": list(sequence.spawn_key)}
        return {**generators, "seed": seed, "children": self._children}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restores the output of `state`.

        Raises:
            ValueError: A stream is missing or malformed.
        """
        for name in NAMES:
            try:
                getattr(self, name).bit_generator.state = state[name]
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(f"random stream {name!r}: got {state.get(name)!r}, expected a PCG64 state") from error
        if "seed" not in state:  # early checkpoints of version 0.1
            return
        try:
            seed, self._children = state["seed"], int(state["children"])
            self._sequence = np.random.SeedSequence(seed["entropy"], spawn_key=tuple(seed["spawn_key"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"random streams: got the seed {state['seed']!r} and {state.get('children')!r} children, expected an "
                "entropy, a spawn key, and a whole number"
            ) from error
