"""Recurrent cells: how they start, and how sequences pass through them."""

from __future__ import annotations

from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from metarl.learning.networks.modules import orthogonal

Cell = Literal["gru", "lstm"]
GATES = {"gru": 3, "lstm": 4}
PARTS = {"gru": 1, "lstm": 2}
"""Arrays that a memory consists of: the hidden state, and the LSTM's cell state."""


def recurrent_cell(cell: Cell, inputs: int, units: int, rng: np.random.Generator) -> nn.GRU | nn.LSTM:
    """A recurrent layer with orthogonal weights, gate by gate; biases are 0, those of the LSTM's forget gate 1.

    Args:
        cell: Its kind.
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


def through(layer: nn.GRU | nn.LSTM, inputs: Any, memory: Tensor) -> tuple[Any, Tensor]:
    """Passes sequences through a recurrent layer.

    Args:
        layer: The layer.
        inputs: `[B, L, I]`, or a packed sequence.
        memory: To go on from, `[S, B, H]`, with `S` = 2 for the LSTM and 1 for the GRU.

    Returns:
        The outputs `[B, L, H]`, or a packed sequence of them, and the memory `[S, B, H]` after each sequence's end.
    """
    if len(memory) == PARTS["gru"]:
        outputs, memory = layer(inputs, memory)
        return outputs, memory
    outputs, ends = layer(inputs, (memory[0:1].contiguous(), memory[1:2].contiguous()))
    return outputs, torch.cat(ends)


def memory_after(layer: nn.GRU | nn.LSTM, inputs: Tensor, memory: Tensor, steps: Tensor) -> Tensor:
    """The memory after the first steps of sequences of different lengths, `[S, B, H]`.

    Args:
        layer: The layer.
        inputs: `[B, L, I]`; what stands after a sequence's own steps is not looked at.
        memory: To go on from, `[S, B, H]`.
        steps: How many steps each sequence has, `[B]` on the CPU, 1 to `L`.
    """
    packed = pack_padded_sequence(inputs, steps, batch_first=True, enforce_sorted=False)
    return through(layer, packed, memory)[1]


class Remembering(Protocol):
    """A network with a memory, `[S, rows, H]`, which steps change one after another."""

    def fresh_memory(self, rows: int) -> Tensor:
        """The memory at the start of a trial."""
        ...

    def memory_after(self, x: Tensor, memory: Tensor, steps: Tensor) -> Tensor:
        """The memory after the first `steps` `[B]` (on the CPU, at least 1) of each row of inputs `[B, L, I]`."""
        ...
