"""The common part of cells that keep a cache of their last steps."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from metarl.learning.networks.cells.base import Cell
from metarl.learning.networks.cells.cache import Cache, after_pass, kept


class CachedCell(Cell[Cache]):
    """A cell whose memory is a `Cache`. A subclass defines `fresh_memory`, `step` and `_through`.

    Attributes:
        window: Steps that a step reads, its own included.
    """

    window: int

    @abstractmethod
    def _through(self, x: Tensor, memory: Cache) -> tuple[Tensor, list[Tensor], int]:
        """A pass over `L` steps.

        Args:
            x: Inputs, `[B, L, I]`.
            memory: The cache before it.

        Returns:
            The features `[B, L, H]`; the parts of the cache's entries `[B, P + L, D]`, those of `P` steps before
            first; and `P`.
        """

    def forward(self, x: Tensor, memory: Cache) -> tuple[Tensor, Cache]:
        """The features after each step `[B, L, H]`, and the cache after the last one."""
        features, joined, before = self._through(x, memory)
        return features, after_pass(memory, joined, before, x.shape[1], self.window - 1)

    def features_after(self, x: Tensor, memory: Cache, steps: Tensor) -> tuple[Tensor, Cache]:
        """The features `[B, H]` and the cache after the first `steps` `[B]` of each row, by one pass."""
        features, joined, before = self._through(x, memory)
        steps = steps.to(x.device)
        after = after_pass(memory, joined, before, steps, self.window - 1)
        return features[torch.arange(len(x), device=x.device), steps - 1], after

    def keep(self, live: Tensor, new: Cache, old: Cache) -> Cache:
        """The new cache in rows where `live` `[B]` is True, and the old one in the others."""
        return kept(live, new, old, self.window - 1)
