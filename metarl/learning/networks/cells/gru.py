"""The gated recurrent unit, with a derivative over time of its own on a CPU."""

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

GATES = 3


class Gru(Cell[Tensor], nn.GRU):
    """A gated recurrent unit (Cho et al. 2014, arXiv:1406.1078), in PyTorch's variant.

    With the logistic function s, inputs x and memory h,

        r = s(W_r x + U_r h),  z = s(W_z x + U_z h),  n = tanh(W_n x + r (U_n h)),  h' = n + z (h - n)

    with a bias in each product. Names and shapes of the parameters are PyTorch's. Weights are orthogonal, gate by gate;
    biases are 0. On a GPU a pass over a sequence is cuDNN's.

    Args:
        inputs: Size of the input.
        units: `H`, size of the memory.
        rng: Source of the weights.
    """

    weight_ih_l0: Tensor
    weight_hh_l0: Tensor
    bias_ih_l0: Tensor
    bias_hh_l0: Tensor

    def __init__(self, inputs: int, units: int, rng: np.random.Generator) -> None:
        nn.GRU.__init__(self, inputs, units, batch_first=True, device="meta")
        initialise(self, GATES, rng)
        self.outputs = units

    @classmethod
    def build(cls, settings: CellSettings, inputs: int, steps: int, rng: np.random.Generator) -> Self:
        """The cell of these settings."""
        return cls(inputs, settings.units, rng)

    @staticmethod
    def size(settings: CellSettings, inputs: int, steps: int) -> CellSize:
        """Numbers of parameters and of a row's memory."""
        return CellSize(parameters_of(inputs, settings.units, GATES), settings.units)

    def fresh_memory(self, rows: int) -> Tensor:
        """Zeros, `[rows, H]`."""
        return torch.zeros(rows, self.outputs, dtype=torch.float32, device=self.weight_hh_l0.device)

    def forward(self, x: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """The hidden state after each step `[B, L, H]`, and after the last one `[B, H]`."""
        if not compiled_for(x):
            features, end = nn.GRU.forward(self, x, memory.unsqueeze(0))
            return features, end.squeeze(0)
        training = torch.is_grad_enabled()
        weights = (self.weight_ih_l0, self.weight_hh_l0, self.bias_ih_l0, self.bias_hh_l0)
        passed: tuple[Tensor, Tensor] = GruOverTime.apply(training, x, memory, *weights)  # type: ignore[no-untyped-call]
        return passed

    def step(self, x: Floats, memory: Tensor) -> tuple[Floats, Tensor]:
        """`forward` for a single step on a CPU, by NumPy. The memory is in torch's own memory, as that of a pass is."""
        after, h = torch.empty_like(memory), memory.numpy()
        new, units = after.numpy(), self.outputs
        inputs, states = products(self, x, h)
        gates = logistic_(inputs[:, : 2 * units] + states[:, : 2 * units])
        candidate = states[:, 2 * units :]
        candidate *= gates[:, :units]
        candidate += inputs[:, 2 * units :]
        np.tanh(candidate, out=candidate)
        np.subtract(h, candidate, out=new)
        new *= gates[:, units:]
        new += candidate
        return new, after

    def features_after(self, x: Tensor, memory: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
        """The features after the first `steps` `[B]` of each row `[B, H]`, twice: they are the memory."""
        features = self(x, memory)[0][torch.arange(len(x)), steps - 1]
        return features, features

    def exported_memory(self, memory: Tensor) -> dict[str, Tensor]:
        """The hidden state, `[1, rows, H]`."""
        return {"memory": memory.unsqueeze(0).clone()}


class GruOverTime(torch.autograd.Function):
    """A GRU over time as one node of the graph: compiled loops."""

    @staticmethod
    def forward(
        ctx: Any, training: bool, x: Tensor, start: Tensor, of_x: Tensor, of_h: Tensor, bias_x: Tensor, bias_h: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The hidden states `[B, L, H]`, and the last of them `[B, H]`.

        Args:
            ctx: Context of the derivative.
            training: Keep the numbers that the derivative needs.
            x: Inputs, `[B, L, I]`.
            start: Initial state, `[B, H]`.
            of_x: Weights of the input, `[3 H, I]`.
            of_h: Weights of the state, `[3 H, H]`.
            bias_x: `[3 H]`.
            bias_h: `[3 H]`.
        """
        from metarl.learning.device import compiled  # imports Numba
        from metarl.learning.networks.cells import recurrent_kernels as kernels

        (rows, steps, _), units = x.shape, start.shape[1]
        features = x.new_empty(rows, steps, units)
        kept = x.new_empty((rows, steps, 4 * units) if training else (0, 0, 0))
        inputs = tuple(array(t) for t in (x, of_x.T, of_h.T, bias_x, bias_h, start))
        compiled.over_rows(kernels.gru_forward, rows, TOGETHER, *inputs, features.numpy(), kept.numpy())
        ctx.save_for_backward(x, start, of_x, of_h, features, kept)
        return features, features[:, -1].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, end_gradient: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of the arguments of `forward`."""
        from metarl.learning.device import compiled
        from metarl.learning.networks.cells import recurrent_kernels as kernels

        x, start, of_x, of_h, features, kept = ctx.saved_tensors
        rows, group = len(x), rows_of_a_group(len(x))
        sums = [x.new_zeros(-(-rows // group), *t.shape) for t in (of_x.T, of_h.T, of_x[:, 0], of_h[:, 0])]
        wanted = [
            torch.empty_like(t) if need else None for t, need in zip((x, start), ctx.needs_input_grad[1:3], strict=True)
        ]
        x_gradient = x.new_empty((0, 0, 0)) if wanted[0] is None else wanted[0]
        start_gradient = x.new_empty((0, 0)) if wanted[1] is None else wanted[1]
        compiled.over_rows(
            kernels.gru_backward,
            rows,
            group,
            group,
            *(array(t) for t in (gradient, end_gradient, x, of_x, of_h, start, features, kept)),
            *(t.numpy() for t in (x_gradient, start_gradient, *sums)),
        )
        return None, *wanted, *(t.sum(dim=0).T for t in sums[:2]), *(t.sum(dim=0) for t in sums[2:])
