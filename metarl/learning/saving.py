"""Checks of what a checkpoint holds before an agent takes it back."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor


def check_tensors(agent: str, got: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Checks that a checkpoint's arrays have the names and shapes of an agent's own.

    Raises:
        ValueError: They do not; the message names those that differ.
    """
    wanted = {name: tuple(t.shape) for name, t in expected.items()}
    found = {name: tuple(t.shape) for name, t in got.items()}
    if found != wanted:
        differ = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
        shown = {name: found.get(name) for name in differ}
        raise ValueError(
            f"checkpoint of {agent}: got tensors {shown}, expected { ({name: wanted.get(name) for name in differ}) }"
        )
