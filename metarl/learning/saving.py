"""Checks of a checkpoint's content before an agent restores it, and the state of random generators."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor


def check_tensors(agent: str, got: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Checks that a checkpoint's arrays have the names and shapes of an agent's own.

    Args:
        agent: Name of the agent, for the message.
        got: Arrays of the checkpoint.
        expected: Arrays of the agent.

    Raises:
        ValueError: Names or shapes differ; the message lists those that do.
    """
    wanted = {name: tuple(t.shape) for name, t in expected.items()}
    found = {name: tuple(t.shape) for name, t in got.items()}
    if found != wanted:
        differ = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
        shown = {name: found.get(name) for name in differ}
        raise ValueError(
            f"checkpoint of {agent}: got tensors {shown}, expected { ({name: wanted.get(name) for name in differ}) }"
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
