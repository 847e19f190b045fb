"""The interface of cells, and operations on memories.

A memory is a tensor whose first axis is the rows of the batch, or a tuple (or named tuple) of memories. Its tensors
have the same shapes at every step: a cache of keys and values has a fixed capacity, and the number of entries of each
row.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from metarl.types import Floats

MemoryT = TypeVar("MemoryT")


def mapped(function: Callable[..., Tensor], *memories: MemoryT) -> MemoryT:
    """The memory whose tensors are `function` of the corresponding tensors of one or several memories."""
    first: Any = memories[0]
    if isinstance(first, Tensor):
        result: Any = function(*memories)
        return result
    parts: Any = [mapped(function, *some) for some in zip(*memories, strict=True)]
    built: Any = type(first)(*parts) if hasattr(first, "_fields") else tuple(parts)
    return built


def leaves(memory: Any) -> list[Tensor]:
    """The tensors of a memory, in order."""
    return [memory] if isinstance(memory, Tensor) else [leaf for part in memory for leaf in leaves(part)]


def rebuilt(like: MemoryT, tensors: Iterable[Tensor]) -> MemoryT:
    """The memory of the same kind as another one, from its tensors in order."""
    given = iter(tensors)
    return mapped(lambda _: next(given), like)


class Remembering(nn.Module, ABC, Generic[MemoryT]):
    """A module with a memory of each row of its batch."""

    @abstractmethod
    def fresh_memory(self, rows: int) -> MemoryT:
        """The memory at the start of a trial, for `rows` rows."""

    def keep(self, live: Tensor, new: MemoryT, old: MemoryT) -> MemoryT:
        """The new memory in rows where `live` `[B]` is True, and the old one in the others.

        `new` is not used afterwards, so that a cache can take it over.
        """
        return mapped(lambda n, o: torch.where(live.view(-1, *[1] * (n.ndim - 1)), n, o), new, old)

    def memory_after(self, x: Tensor, memory: MemoryT, steps: Tensor) -> MemoryT:
        """The memory after the first `steps` `[B]` (on the CPU, each from 1 to `L`) of each row of `x` `[B, L, I]`."""
        for t, some in enumerate(torch.split(x, 1, dim=1)):
            memory = self.keep((t < steps).to(x.device), self(some, memory)[-1], memory)
        return memory

    def exported_memory(self, memory: MemoryT) -> dict[str, Tensor]:
        """The memory of an exported policy: `memory`, or `memory.0`, `memory.1` ... for the tensors of a tuple."""
        return _named("memory", memory)


class Cell(Remembering[MemoryT], Generic[MemoryT]):
    """A map from a sequence of inputs to features of the inputs so far; rows are independent of each other.

    A subclass defines `fresh_memory` and `forward`; the other methods have defaults for any memory, and may be
    overridden for speed.

    Attributes:
        outputs: `H`, size of the features.
    """

    outputs: int

    @abstractmethod
    def forward(self, x: Tensor, memory: MemoryT) -> tuple[Tensor, MemoryT]:
        """Continues from a memory over `L` steps.

        Args:
            x: Inputs, `[B, L, I]`.
            memory: Memory of `B` rows; not to be changed in place.

        Returns:
            The features after each step `[B, L, H]`, and the memory after the last step.
        """

    def features_after(self, x: Tensor, memory: MemoryT, steps: Tensor) -> tuple[Tensor, MemoryT]:
        """The features `[B, H]` and the memory after the first `steps` `[B]` of each row of `[B, L, I]`."""
        features: Tensor = self(x, memory)[0]
        return features[torch.arange(len(x)), steps - 1], super().memory_after(x, memory, steps)

    def memory_after(self, x: Tensor, memory: MemoryT, steps: Tensor) -> MemoryT:
        """The memory after the first `steps` `[B]` of each row of `[B, L, I]`."""
        return self.features_after(x, memory, steps)[1]

    def step(self, x: Floats, memory: MemoryT) -> tuple[Floats, MemoryT]:
        """Continues from a memory over a single step on a CPU, for acting.

        Args:
            x: Inputs, `[B, I]`.
            memory: Memory of `B` rows; not to be changed in place.

        Returns:
            The features `[B, H]`, and the memory after the step.
        """
        features, memory = self(torch.tensor(x).unsqueeze(1), memory)
        return features[:, 0].numpy(), memory


def _named(name: str, memory: Any) -> dict[str, Tensor]:
    """The tensors of a memory, by name."""
    if isinstance(memory, Tensor):
        return {name: memory.clone()}
    return {key: t for i, part in enumerate(memory) for key, t in _named(f"{name}.{i}", part).items()}
