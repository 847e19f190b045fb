"""Saving: checks of a checkpoint's content, the state of generators, and what agents that learn from a buffer share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from torch import Tensor


def check_tensors(agent: str, got: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Checks that a checkpoint's arrays have the names and shapes of an agent's own.

    Args:
        agent: Name of the agent, for the message.
        got: Arrays of the checkpoint.
        expected: Arrays of the agent.

    Raises:
        ValueError: Names or shapes differ; the message has the first that does, and their number.
    """
    wanted = {name: tuple(t.shape) for name, t in expected.items()}
    found = {name: tuple(t.shape) for name, t in got.items()}
    if found != wanted:
        differ = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
        name = next((name for name in differ if name in wanted and name in found), differ[0])
        kind = "sizes" if name in wanted and name in found else "settings, or by another agent"
        more = f", the first of {len(differ)} that differ" if len(differ) > 1 else ""
        raise ValueError(
            f"checkpoint of {agent}: got tensors made by a run with other {kind}: {name!r} has the shape "
            f"{found.get(name, 'none')}, expected {wanted.get(name, 'none')}{more}"
        )


def restore_generator(agent: str, rng: np.random.Generator, state: Any) -> None:
    """Sets a generator to a saved state; an invalid state leaves it unchanged.

    Args:
        agent: Name of the agent, for the message.
        rng: Generator of the agent (PCG64).
        state: Value of `rng.bit_generator.state` when it was saved.

    Raises:
        ValueError: The state is not one of such a generator.
    """
    try:
        trial = type(rng.bit_generator)(0)  # a state that lacks only a part would be set halfway
        trial.state = state
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise ValueError(f"checkpoint of {agent}: got generator {state!r}, expected a PCG64 state") from error
    rng.bit_generator.state = state


class Buffer(Protocol):
    """A buffer that is saved under a prefix, such as `metarl.learning.experience.trial_replay.TrialReplay`."""

    def tensors(self, prefix: str) -> dict[str, Tensor]:
        """The stored experience by name."""
        ...

    def check(self, prefix: str, tensors: Mapping[str, Tensor]) -> None:
        """Raises ValueError if `restore` would fail."""
        ...

    def restore(self, prefix: str, tensors: Mapping[str, Tensor]) -> None:
        """Restores what `tensors` returned."""
        ...


class BufferedLearner(ABC):
    """Saving of an agent that learns from a buffer: its arrays, the buffer, a count of iterations, a generator.

    Attributes:
        replay: The buffer.
        rng: Generator of the updates (PCG64).
        iteration: Meta-updates so far.
    """

    _name: str
    replay: Buffer
    rng: np.random.Generator
    iteration: int

    @abstractmethod
    def learned(self) -> dict[str, Tensor]:
        """The arrays of `tensors` without the buffer."""

    @abstractmethod
    def _restore_learned(self, tensors: Mapping[str, Tensor]) -> None:
        """Restores what `learned` returned; names and shapes fit."""

    def tensors(self) -> dict[str, Tensor]:
        """Everything that was learned, and the buffer."""
        return self.learned() | self.replay.tensors("buffer")

    def counters(self) -> dict[str, Any]:
        """Iterations done, and the state of the updates' generator."""
        return {"iteration": self.iteration, "rng": self.rng.bit_generator.state}

    def restore(self, tensors: Mapping[str, Tensor], counters: Mapping[str, Any]) -> None:
        """Restores what `tensors` and `counters` returned.

        Raises:
            ValueError: Names, shapes or generator do not fit this agent; nothing is changed then.
        """
        check_tensors(self._name, {n: t for n, t in tensors.items() if not n.startswith("buffer.")}, self.learned())
        self.replay.check("buffer", tensors)
        iteration = int(counters["iteration"])
        restore_generator(self._name, self.rng, counters["rng"])
        self._restore_learned(tensors)
        self.replay.restore("buffer", tensors)
        self.iteration = iteration
