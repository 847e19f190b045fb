"""Gated recurrent cells: GRU and LSTM.

The layers are PyTorch's, with their names and shapes of parameters. A pass over a sequence on a GPU is cuDNN's.
"""

from __future__ import annotations

from typing import Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from metarl.learning.networks.acting import logistic_, views
from metarl.learning.networks.cells.base import Cell
from metarl.learning.networks.cells.settings import CellSettings, CellSize
from metarl.learning.networks.modules import orthogonal
from metarl.types import Floats

LstmMemory = tuple[Tensor, Tensor]
"""Hidden state and cell state, `[B, H]` each."""


class Gru(Cell[Tensor], nn.GRU):
    """A gated recurrent unit (Cho et al. 2014, arXiv:1406.1078), in PyTorch's variant.

    With the logistic function s, inputs x and memory h,

        r = s(W_r x + U_r h),  z = s(W_z x + U_z h),  n = tanh(W_n x + r (U_n h)),  h' = n + z (h - n)

    with a bias in each product. Weights are orthogonal, gate by gate; biases are 0.

    Args:
        inputs: Size of the input.
        units: `H`, size of the memory.
        rng: Source of the weights.
    """

    weight_hh_l0: Tensor

    def __init__(self, inputs: int, units: int, rng: np.random.Generator) -> None:
        nn.GRU.__init__(self, inputs, units, batch_first=True, device="meta")
        _initialise(self, 3, rng)
        self.outputs = units

    @classmethod
    def build(cls, settings: CellSettings, inputs: int, steps: int, rng: np.random.Generator) -> Self:
        """The cell of these settings."""
        return cls(inputs, settings.units, rng)

    @staticmethod
    def size(settings: CellSettings, inputs: int, steps: int) -> CellSize:
        """Numbers of parameters and of a row's memory."""
        return CellSize(_parameters(inputs, settings.units, 3), settings.units)

    def fresh_memory(self, rows: int) -> Tensor:
        """Zeros, `[rows, H]`."""
        return torch.zeros(rows, self.outputs, dtype=torch.float32, device=self.weight_hh_l0.device)

    def forward(self, x: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """The hidden state after each step `[B, L, H]`, and after the last one `[B, H]`."""
        features, end = nn.GRU.forward(self, x, memory.unsqueeze(0))
        return features, end.squeeze(0)

    def step(self, x: Floats, memory: Tensor) -> tuple[Floats, Tensor]:
        """`forward` for a single step on a CPU, by NumPy. The memory is in torch's own memory, as that of a pass is."""
        after, h = torch.empty_like(memory), memory.numpy()
        new, units = after.numpy(), self.outputs
        inputs, states = _products(self, x, h)
        gates = logistic_(inputs[:, : 2 * units] + states[:, : 2 * units])
        candidate = states[:, 2 * units :]
        candidate *= gates[:, :units]
        candidate += inputs[:, 2 * units :]
        np.tanh(candidate, out=candidate)
        np.subtract(h, candidate, out=new)
        new *= gates[:, units:]
        new += candidate
        return new, after

    def memory_after(self, x: Tensor, memory: Tensor, steps: Tensor) -> Tensor:
        """The memory after the first `steps` `[B]` of each row: a feature."""
        return self.features_after(x, memory, steps)[1]

    def features_after(self, x: Tensor, memory: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
        """The features after the first `steps` `[B]` of each row `[B, H]`, twice: they are the memory."""
        features = self(x, memory)[0][torch.arange(len(x)), steps - 1]
        return features, features

    def exported_memory(self, memory: Tensor) -> dict[str, Tensor]:
        """The hidden state, `[1, rows, H]`."""
        return {"memory": memory.unsqueeze(0).clone()}


class Lstm(Cell[LstmMemory], nn.LSTM):
    """Long short-term memory (Hochreiter and Schmidhuber 1997), with forget gates (Gers et al. 2000).

    With the logistic function s, inputs x, hidden state h and cell state c,

        i, f, o = s(W x + U h),  g = tanh(W_g x + U_g h),  c' = f c + i g,  h' = o tanh(c')

    with a bias in each product. Weights are orthogonal, gate by gate; biases are 0, those of the forget gate 1.

    Args:
        inputs: Size of the input.
        units: `H`, size of hidden state and cell state each.
        rng: Source of the weights.
    """

    weight_hh_l0: Tensor
    bias_ih_l0: Tensor

    def __init__(self, inputs: int, units: int, rng: np.random.Generator) -> None:
        nn.LSTM.__init__(self, inputs, units, batch_first=True, device="meta")
        _initialise(self, 4, rng)
        with torch.no_grad():
            self.bias_ih_l0[units : 2 * units] = 1.0  # gates in torch's order: input, forget, cell, output
        self.outputs = units

    @classmethod
    def build(cls, settings: CellSettings, inputs: int, steps: int, rng: np.random.Generator) -> Self:
        """The cell of these settings."""
        return cls(inputs, settings.units, rng)

    @staticmethod
    def size(settings: CellSettings, inputs: int, steps: int) -> CellSize:
        """Numbers of parameters and of a row's memory."""
        return CellSize(_parameters(inputs, settings.units, 4), 2 * settings.units)

    def fresh_memory(self, rows: int) -> LstmMemory:
        """Zeros, `[rows, H]` each."""
        zeros = torch.zeros(rows, self.outputs, dtype=torch.float32, device=self.weight_hh_l0.device)
        return zeros, zeros.clone()

    def forward(self, x: Tensor, memory: LstmMemory) -> tuple[Tensor, LstmMemory]:  # type: ignore[override]
        """The hidden state after each step `[B, L, H]`, and both states after the last one."""
        hidden, inner = memory
        features, (hidden, inner) = nn.LSTM.forward(self, x, (hidden.unsqueeze(0), inner.unsqueeze(0)))
        return features, (hidden.squeeze(0), inner.squeeze(0))

    def step(self, x: Floats, memory: LstmMemory) -> tuple[Floats, LstmMemory]:
        """`forward` for a single step on a CPU, by NumPy."""
        (hidden, inner), units = memory, self.outputs
        gates, states = _products(self, x, hidden.numpy())
        gates += states
        gate_in, gate_forget, candidate, gate_out = (gates[:, i * units : (i + 1) * units] for i in range(4))
        after = torch.empty_like(hidden), torch.empty_like(inner)
        new, c = (t.numpy() for t in after)
        np.multiply(logistic_(gate_forget), inner.numpy(), out=c)
        c += logistic_(gate_in) * np.tanh(candidate)
        np.multiply(logistic_(gate_out), np.tanh(c), out=new)
        return new, after

    def memory_after(self, x: Tensor, memory: LstmMemory, steps: Tensor) -> LstmMemory:
        """The memory after the first `steps` `[B]` of each row, by one pass over packed sequences."""
        packed = pack_padded_sequence(x, steps, batch_first=True, enforce_sorted=False)
        hidden, inner = nn.LSTM.forward(self, packed, (memory[0].unsqueeze(0), memory[1].unsqueeze(0)))[1]
        return hidden.squeeze(0), inner.squeeze(0)

    def exported_memory(self, memory: LstmMemory) -> dict[str, Tensor]:
        """Hidden state and cell state, `[2, rows, H]`."""
        return {"memory": torch.stack(memory)}


def _initialise(layer: nn.RNNBase, gates: int, rng: np.random.Generator) -> None:
    """Orthogonal matrices, gate by gate, and zero biases in place of the parameters on torch's `meta` device."""
    for name, shape in [(name, p.shape) for name, p in layer.named_parameters()]:
        if name.startswith("weight"):
            filled = torch.cat([orthogonal(layer.hidden_size, shape[1], 1.0, rng) for _ in range(gates)])
        else:
            filled = torch.zeros(shape, dtype=torch.float32)
        setattr(layer, name, nn.Parameter(filled))


def _parameters(inputs: int, units: int, gates: int) -> int:
    """Number of parameters of a recurrent layer with two biases per gate."""
    return gates * units * (inputs + units + 2)


def _products(layer: nn.Module, x: Floats, h: Floats) -> tuple[Floats, Floats]:
    """The products of a recurrent layer with inputs `[B, I]` and hidden state `[B, H]`, biases added."""
    of_input, of_state, input_bias, state_bias = views(layer)
    inputs, states = x @ of_input, h @ of_state
    inputs += input_bias
    states += state_bias
    return inputs, states
