"""One seed, several independent named streams of random numbers, no global generator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

NAMES = ("tasks", "envs", "policy", "learner")
EVALUATION = 0xE7A1
"""Spawn key that keeps evaluation apart from training."""


class Streams:
    """The random numbers of a run: one `numpy.random.SeedSequence`, spawned once per name.

    Args:
        seed: The run's seed, or a seed sequence of its own.

    Attributes:
        tasks: Which tasks are sampled.
        envs: How environments are reset (one integer is drawn per collect).
        policy: Which actions a stochastic policy draws.
        learner: Initial parameters and whatever the meta-update draws.
    """

    def __init__(self, seed: int | np.random.SeedSequence) -> None:
        sequence = seed if isinstance(seed, np.random.SeedSequence) else np.random.SeedSequence(seed)
        generators = [np.random.Generator(np.random.PCG64(child)) for child in sequence.spawn(len(NAMES))]
        self.tasks, self.envs, self.policy, self.learner = generators

    @classmethod
    def for_evaluation(cls, seed: int, iteration: int = 0) -> Streams:
        """Streams that depend on nothing but their arguments, so that evaluating never changes a run."""
        return cls(np.random.SeedSequence(seed, spawn_key=(EVALUATION, iteration)))

    def state(self) -> dict[str, Any]:
        """The state of every stream, as a JSON value."""
        return {name: getattr(self, name).bit_generator.state for name in NAMES}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Takes back what `state` gave.

        Raises:
            ValueError: A stream is missing or malformed.
        """
        for name in NAMES:
            try:
                getattr(self, name).bit_generator.state = state[name]
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(f"random stream {name!r}: got {state.get(name)!r}, expected a PCG64 state") from error
