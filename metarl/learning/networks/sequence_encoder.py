"""Features of a trial so far: embeddings of what was seen, and a cell."""

from __future__ import annotations

from typing import Generic, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from metarl.learning.networks.acting import affine
from metarl.learning.networks.cells.base import MemoryT, Remembering
from metarl.learning.networks.cells.settings import CellSettings
from metarl.learning.networks.cells.table import make_cell
from metarl.learning.networks.modules import HIDDEN_GAIN, linear
from metarl.types import Floats


class Embedding(NamedTuple):
    """A layer (ReLU) on some of the inputs.

    Attributes:
        inputs: Number of inputs.
        units: Number of outputs.
    """

    inputs: int
    units: int


class SequenceEncoder(Remembering[MemoryT], Generic[MemoryT]):
    """Embeddings of the parts of an input, side by side, and a cell on them.

    Args:
        embeddings: One for each part of the input, in order.
        cell: Settings of the cell.
        steps: Steps of a trial.
        rng: Source of the initial weights.
    """

    def __init__(
        self, embeddings: tuple[Embedding, ...], *, cell: CellSettings, steps: int, rng: np.random.Generator
    ) -> None:
        super().__init__()
        self._widths = [e.inputs for e in embeddings]
        self.embeddings = nn.ModuleList(linear(e.inputs, e.units, HIDDEN_GAIN, rng) for e in embeddings)
        self.cell = make_cell(cell, sum(e.units for e in embeddings), steps, rng)

    def fresh_memory(self, rows: int) -> MemoryT:
        """The cell's memory at the start of a trial."""
        memory: MemoryT = self.cell.fresh_memory(rows)
        return memory

    def forward(self, x: Tensor, memory: MemoryT) -> tuple[Tensor, MemoryT]:
        """The features after each of the inputs `[B, L, I]`, `[B, L, H]`, and the memory after the last."""
        features, memory = self.cell(self._embedded(x), memory)
        return features, memory

    def step(self, x: Tensor, memory: MemoryT) -> tuple[Tensor, MemoryT]:
        """`forward` for a single step: the features `[B, H]` for inputs `[B, I]`, and the memory after it."""
        if x.is_cuda:
            features, memory = self(x.unsqueeze(1), memory)
            return features[:, 0], memory
        parts = np.split(x.numpy(), np.cumsum(self._widths)[:-1], axis=1)
        embedded = [_embed(layer, part) for layer, part in zip(self.embeddings, parts, strict=True)]
        after, memory = self.cell.step(np.concatenate(embedded, axis=1), memory)
        return torch.from_numpy(after), memory

    def keep(self, live: Tensor, new: MemoryT, old: MemoryT) -> MemoryT:
        """The new memory in rows where `live` `[B]` is True, and the old one in the others."""
        kept: MemoryT = self.cell.keep(live, new, old)
        return kept

    def memory_after(self, x: Tensor, memory: MemoryT, steps: Tensor) -> MemoryT:
        """The memory after the first `steps` `[B]` of each row."""
        after: MemoryT = self.cell.memory_after(self._embedded(x), memory, steps)
        return after

    def exported_memory(self, memory: MemoryT) -> dict[str, Tensor]:
        """The cell's memory, as the cell names its parts."""
        return self.cell.exported_memory(memory)

    def _embedded(self, x: Tensor) -> Tensor:
        """Inputs of the cell, for inputs `[B, L, I]`."""
        parts = zip(self.embeddings, torch.split(x, self._widths, dim=-1), strict=True)
        return torch.cat([torch.relu(layer(part)) for layer, part in parts], dim=-1)


def _embed(layer: nn.Module, x: Floats) -> Floats:
    """The output of a layer of embeddings for inputs `[B, I]`."""
    assert isinstance(layer, nn.Linear)
    y = affine(layer, x)
    return np.maximum(y, 0.0, out=y)
