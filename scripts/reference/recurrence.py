"""Cells as a Python loop over time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

from metarl.learning.networks.cells.base import Cell

OneStep = Callable[[Tensor, Any], tuple[Tensor, Any]]
"""Maps an input `[B, I]` and a memory to the features `[B, H]` and the memory after it."""


def step_by_step(cell: Cell[Any]) -> None:
    """Makes a cell pass through its sequences in a Python loop, one step at a time.

    GRU and LSTM call PyTorch's cells of one step with the same parameters; other cells call themselves.

    Args:
        cell: The cell; changed in place.
    """
    one = _one_step(cell)

    def forward(self: Cell[Any], x: Tensor, memory: Any) -> tuple[Tensor, Any]:
        features = []
        for step in x.unbind(dim=1):
            feature, memory = one(step, memory)
            features.append(feature)
        return torch.stack(features, dim=1), memory

    replaced: Any = cell
    replaced.forward = MethodType(forward, cell)
    replaced.memory_after = partial(Cell.memory_after, cell)
    replaced.features_after = partial(Cell.features_after, cell)


def _one_step(cell: Cell[Any]) -> OneStep:
    """A plain step of a cell."""
    if not isinstance(cell, nn.GRU | nn.LSTM):
        whole = cell.forward

        def one(x: Tensor, memory: Any) -> tuple[Tensor, Any]:
            features, memory = whole(x.unsqueeze(1), memory)
            return features[:, 0], memory

        return one
    layer: nn.GRU | nn.LSTM = cell
    plain = (nn.GRUCell if isinstance(layer, nn.GRU) else nn.LSTMCell)(
        layer.input_size, layer.hidden_size, device="meta"
    )
    for name, parameter in layer.named_parameters():
        setattr(plain, name.removesuffix("_l0"), parameter)

    def one_of_torch(x: Tensor, memory: Any) -> tuple[Tensor, Any]:
        after = plain(x, memory)
        return (after[0], after) if isinstance(after, tuple) else (after, after)

    return one_of_torch
