"""Recurrent cells: initial weights, and forward passes over sequences."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from metarl.learning.networks.acting import logistic_, views
from metarl.learning.networks.modules import orthogonal
from metarl.types import Floats

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


def one_step(cell: nn.GRU | nn.LSTM, x: Floats, memory: CellMemory) -> tuple[Floats, CellMemory]:
    """The output `[B, H]` of a recurrent layer for a single input `[B, I]` on a CPU, and the memory after it; by NumPy.

    With the logistic function s, a GRU (Cho et al. 2014, arXiv:1406.1078, as in torch) has

        r = s(W_r x + U_r h),  z = s(W_z x + U_z h),  n = tanh(W_n x + r (U_n h)),  h' = n + z (h - n)

    and an LSTM (Hochreiter and Schmidhuber 1997)

        i, f, o = s(W x + U h),  g = tanh(W_g x + U_g h),  c' = f c + i g,  h' = o tanh(c')

    with a bias in each product. The memory is in torch's own memory, as that of a pass over a sequence is.
    """
    hidden = memory if isinstance(memory, Tensor) else memory[0]
    after, h = torch.empty_like(hidden), hidden.numpy()
    new = after.numpy()
    of_input, of_state, input_bias, state_bias = views(cell)
    inputs, states = x @ of_input, h @ of_state
    inputs += input_bias
    states += state_bias
    units = h.shape[1]
    if isinstance(memory, Tensor):
        gates = logistic_(inputs[:, : 2 * units] + states[:, : 2 * units])
        candidate = states[:, 2 * units :]
        candidate *= gates[:, :units]
        candidate += inputs[:, 2 * units :]
        np.tanh(candidate, out=candidate)
        np.subtract(h, candidate, out=new)
        new *= gates[:, units:]
        new += candidate
        return new, after
    inputs += states
    gates_in, gates_forget, candidate, gates_out = (inputs[:, i * units : (i + 1) * units] for i in range(4))
    inner = torch.empty_like(memory[1])
    c = inner.numpy()
    np.multiply(logistic_(gates_forget), memory[1].numpy(), out=c)
    c += logistic_(gates_in) * np.tanh(candidate)
    np.multiply(logistic_(gates_out), np.tanh(c), out=new)
    return new, (after, inner)


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
