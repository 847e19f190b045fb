"""Long short-term memory, with a derivative over time of its own on a CPU."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from metarl.learning.networks.acting import logistic_
from metarl.learning.networks.cells.base import Cell
from metarl.learning.networks.cells.recurrent import (
    TOGETHER,
    array,
    compiled_for,
    initialise,
    parameters_of,
    products,
    rows_of_a_group,
)
from metarl.learning.networks.cells.settings import CellSettings, CellSize
from metarl.types import Floats

GATES = 4
LstmMemory = tuple[Tensor, Tensor]
"""Hidden state and cell state, `[B, H]` each."""


class Lstm(Cell[LstmMemory], nn.LSTM):
    """Long short-term memory (Hochreiter and Schmidhuber 1997), with forget gates (Gers et al. 2000).

    With the logistic function s, inputs x, hidden state h and cell state c,

        i, f, o = s(W x + U h),  g = tanh(W_g x + U_g h),  c' = f c + i g,  h' = o tanh(c')

    with a bias in each product. Names and shapes of the parameters are PyTorch's. Weights are orthogonal, gate by gate;
    biases are 0, those of the forget gate 1. On a GPU a pass over a sequence is cuDNN's.

    Args:
        inputs: Size of the input.
        units: `H`, size of hidden state and cell state each.
        rng: Source of the weights.
    """

    weight_ih_l0: Tensor
    weight_hh_l0: Tensor
    bias_ih_l0: Tensor
    bias_hh_l0: Tensor

    def __init__(self, inputs: int, units: int, rng: np.random.Generator) -> None:
        nn.LSTM.__init__(self, inputs, units, batch_first=True, device="meta")
        initialise(self, GATES, rng)
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
        return CellSize(parameters_of(inputs, settings.units, GATES), 2 * settings.units)

    def fresh_memory(self, rows: int) -> LstmMemory:
        """Zeros, `[rows, H]` each."""
        zeros = torch.zeros(rows, self.outputs, dtype=torch.float32, device=self.weight_hh_l0.device)
        return zeros, zeros.clone()

    def forward(self, x: Tensor, memory: LstmMemory) -> tuple[Tensor, LstmMemory]:  # type: ignore[override]
        """The hidden state after each step `[B, L, H]`, and both states after the last one."""
        hidden, inner = memory
        if not compiled_for(x):
            features, (hidden, inner) = nn.LSTM.forward(self, x, (hidden.unsqueeze(0), inner.unsqueeze(0)))
            return features, (hidden.squeeze(0), inner.squeeze(0))
        training, bias = torch.is_grad_enabled(), self.bias_ih_l0 + self.bias_hh_l0
        weights = (self.weight_ih_l0, self.weight_hh_l0, bias)
        features, hidden, inner = LstmOverTime.apply(training, x, hidden, inner, *weights)  # type: ignore[no-untyped-call]
        return features, (hidden, inner)

    def step(self, x: Floats, memory: LstmMemory) -> tuple[Floats, LstmMemory]:
        """`forward` for a single step on a CPU, by NumPy."""
        (hidden, inner), units = memory, self.outputs
        gates, states = products(self, x, hidden.numpy())
        gates += states
        gate_in, gate_forget, candidate, gate_out = (gates[:, i * units : (i + 1) * units] for i in range(4))
        after = torch.empty_like(hidden), torch.empty_like(inner)
        new, c = (t.numpy() for t in after)
        np.multiply(logistic_(gate_forget), inner.numpy(), out=c)
        c += logistic_(gate_in) * np.tanh(candidate)
        np.multiply(logistic_(gate_out), np.tanh(c), out=new)
        return new, after

    def features_after(self, x: Tensor, memory: LstmMemory, steps: Tensor) -> tuple[Tensor, LstmMemory]:
        """The hidden state `[B, H]` after the first `steps` `[B]` of each row, and the memory.

        Rows of equal length pass together.
        """
        hidden, inner = (torch.empty_like(t) for t in memory)
        for length in sorted(set(steps.tolist())):
            rows = (steps == length).nonzero().squeeze(1).to(x.device)
            start = (memory[0][rows], memory[1][rows])
            _, (hidden[rows], inner[rows]) = self(x[rows, :length], start)
        return hidden, (hidden, inner)

    def exported_memory(self, memory: LstmMemory) -> dict[str, Tensor]:
        """Hidden state and cell state, `[2, rows, H]`."""
        return {"memory": torch.stack(memory)}


class LstmOverTime(torch.autograd.Function):
    """An LSTM over time as one node of the graph: compiled loops."""

    @staticmethod
    def forward(
        ctx: Any, training: bool, x: Tensor, start: Tensor, inner: Tensor, of_x: Tensor, of_h: Tensor, bias: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The hidden states `[B, L, H]`, the last of them, and the last cell state, `[B, H]` each.

        Args:
            ctx: Context of the derivative.
            training: Keep the numbers that the derivative needs.
            x: Inputs, `[B, L, I]`.
            start: Initial hidden state, `[B, H]`.
            inner: Initial cell state, `[B, H]`.
            of_x: Weights of the input, `[4 H, I]`.
            of_h: Weights of the hidden state, `[4 H, H]`.
            bias: The sum of both biases, `[4 H]`.
        """
        from metarl.learning.device import compiled  # imports Numba
        from metarl.learning.networks.cells import recurrent_kernels as kernels

        (rows, steps, _), units = x.shape, start.shape[1]
        features, end = x.new_empty(rows, steps, units), torch.empty_like(inner)
        kept = x.new_empty((rows, steps, 6 * units) if training else (0, 0, 0))
        inputs = tuple(array(t) for t in (x, of_x.T, of_h.T, bias, start, inner))
        outputs = tuple(t.numpy() for t in (features, end, kept))
        compiled.over_rows(kernels.lstm_forward, rows, TOGETHER, *inputs, *outputs)
        ctx.save_for_backward(x, start, inner, of_x, of_h, features, kept)
        return features, features[:, -1].clone(), end

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, end: Tensor, inner_end: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of the arguments of `forward`."""
        from metarl.learning.device import compiled
        from metarl.learning.networks.cells import recurrent_kernels as kernels

        x, start, inner, of_x, of_h, features, kept = ctx.saved_tensors
        rows, group = len(x), rows_of_a_group(len(x))
        sums = [x.new_zeros(-(-rows // group), *t.shape) for t in (of_x.T, of_h.T, of_x[:, 0])]
        started, of_inputs = any(ctx.needs_input_grad[2:4]), ctx.needs_input_grad[1]
        memory = [torch.empty_like(t) if started else x.new_empty((0, 0)) for t in (start, inner)]
        x_gradient = torch.empty_like(x) if of_inputs else x.new_empty((0, 0, 0))
        compiled.over_rows(
            kernels.lstm_backward,
            rows,
            group,
            group,
            *(array(t) for t in (gradient, end, inner_end, x, of_x, of_h, start, features, kept)),
            *(t.numpy() for t in (x_gradient, *memory, *sums)),
        )
        wanted = (x_gradient if of_inputs else None, *(memory if started else (None, None)))
        return None, *wanted, *(t.sum(dim=0).T for t in sums[:2]), sums[2].sum(dim=0)
