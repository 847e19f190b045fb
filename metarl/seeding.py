"""Independent, named streams of random numbers from one seed, without a global generator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

NAMES = ("tasks", "envs", "policy", "learner")
EVALUATION = 0xE7A1
"""Spawn key that separates evaluation from training."""


class Streams:
    """The random generators of a run, spawned from one `numpy.random.SeedSequence`.

    Args:
        seed: Seed of the run, or a seed sequence.

    Attributes:
        tasks: Generator of the sampled tasks.
        envs: Generator of the seeds that reset the environments (one integer per collect).
        policy: Generator of the policy's noise.
        learner: Generator of the initial parameters and of the meta-update's random numbers.
    """

    def __init__(self, seed: int | np.random.SeedSequence) -> None:
        sequence = seed if isinstance(seed, np.random.SeedSequence) else np.random.SeedSequence(seed)
        generators = [np.random.Generator(np.random.PCG64(child)) for child in sequence.spawn(len(NAMES))]
        self.tasks, self.envs, self.policy, self.learner = generators

    @classmethod
    def for_evaluation(cls, seed: int, iteration: int = 0) -> Streams:
        """Streams that depend on their arguments only, so that evaluations do not affect training."""
        return cls(np.random.SeedSequence(seed, spawn_key=(EVALUATION, iteration)))

    def state(self) -> dict[str, Any]:
        """State of every stream, as a JSON value."""
        return {name: getattr(self, name).bit_generator.state for name in NAMES}

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
