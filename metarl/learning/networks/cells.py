"""Recurrent cells: initial weights, and forward passes over sequences."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from metarl.learning.networks.modules import orthogonal

Cell = Literal["gru", "lstm"]
GATES = {"gru": 3, "lstm": 4}
"""Matrices of each kind of cell."""
CellMemory = Tensor | tuple[Tensor, Tensor]
"""The hidden state of each row `[B, H]` for a GRU; hidden state and cell state for an LSTM."""


def fresh_cell_memory(cell: Cell, rows: int, units: int, device: torch.device) -> CellMemory:
    """Zeros: the memory of `rows` rows, `units` numbers each."""
    zeros = torch.zeros(rows, units, dtype=torch.float32, device=device)
    return zeros if cell == "gru" else (zeros, zeros.clone())


def recurrent_cell(cell: Cell, inputs: int, units: int, rng: np.random.Generator) -> nn.GRU | nn.LSTM:
    """A recurrent layer with orthogonal weights, gate by gate; biases are 0, those of the LSTM's forget gate 1.

    Args:
        cell: Kind of cell.
        inputs: Size of the input.
        units: `H`, size of the memory.
        rng: Source of the weights.
    """
    kind = {"gru": nn.GRU, "lstm": nn.LSTM}[cell]
    layer = kind(inputs, units, batch_first=True, device="meta")
    for name, shape in [(name, p.shape) for name, p in layer.named_parameters()]:
        if name.startswith("weight"):
            filled = torch.cat([orthogonal(units, shape[1], 1.0, rng) for _ in range(GATES[cell])])
        else:
            filled = torch.zeros(shape, dtype=torch.float32)
        setattr(layer, name, nn.Parameter(filled))
    if cell == "lstm":
        with torch.no_grad():
            layer.bias_ih_l0[units : 2 * units] = 1.0  # gates in torch's order: input, forget, cell, output
    return layer


def through(layer: nn.GRU | nn.LSTM, inputs: Any, memory: CellMemory) -> tuple[Any, CellMemory]:
    """Passes sequences through a recurrent layer.

    Args:
        layer: The layer.
        inputs: `[B, L, I]`, or a packed sequence.
        memory: The memory to continue from, of `B` rows.

    Returns:
        The outputs `[B, L, H]` (or a packed sequence of them), and the memory after each sequence's end.
    """
    if isinstance(memory, Tensor):
        outputs, end = layer(inputs, memory.unsqueeze(0))
        return outputs, end.squeeze(0)
    hidden, inner = memory
    outputs, (hidden, inner) = layer(inputs, (hidden.unsqueeze(0), inner.unsqueeze(0)))
    return outputs, (hidden.squeeze(0), inner.squeeze(0))


def one_step(layer: nn.GRU | nn.LSTM, x: Tensor, memory: CellMemory) -> tuple[Tensor, CellMemory]:
    """The output `[B, H]` of a recurrent layer for a single input `[B, I]`, and the memory after it."""
    weights: Any = (layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0, layer.bias_hh_l0)
    if isinstance(memory, Tensor):
        after = torch.gru_cell(x, memory, *weights)
        return after, after
    hidden, inner = torch.lstm_cell(x, memory, *weights)
    return hidden, (hidden, inner)


def memory_after(layer: nn.GRU | nn.LSTM, inputs: Tensor, memory: CellMemory, steps: Tensor) -> CellMemory:
    """The memory after the first steps of sequences of different lengths.

    Args:
        layer: The layer.
        inputs: `[B, L, I]`; values after a sequence's own steps are ignored.
        memory: The memory to continue from, of `B` rows.
        steps: Number of steps of each sequence, `[B]` on the CPU, 1 to `L`.
    """
    packed = pack_padded_sequence(inputs, steps, batch_first=True, enforce_sorted=False)
    return through(layer, packed, memory)[1]
