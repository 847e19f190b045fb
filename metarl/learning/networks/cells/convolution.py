"""Convolutions over a window of the last steps: the history encoder of rapid motor adaptation.

Kumar et al. 2021 (arXiv:2107.04034), section III-B. The cell is not in the table of cells: it forgets all that is older
than its window.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, cast

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor, nn

from metarl.learning.networks.acting import affine
from metarl.learning.networks.cells.base import Cell
from metarl.learning.networks.cells.settings import CellSize
from metarl.learning.networks.modules import HIDDEN_GAIN, linear
from metarl.types import Floats

LAYERS = ((9, 2), (5, 1), (5, 1))
"""Kernel and stride of each convolution, along time."""


class Layout(NamedTuple):
    """Convolutions over a history.

    Attributes:
        kernels: Kernel of each convolution, in steps of its input.
        strides: Stride of each.
        outputs: Positions that the last one leaves.
        window: Steps that they see; at most the history, from which a stride may leave out the oldest step.
    """

    kernels: tuple[int, ...]
    strides: tuple[int, ...]
    outputs: int
    window: int

    @property
    def dilations(self) -> tuple[int, ...]:
        """Distance in steps between successive inputs of each convolution, and between successive outputs."""
        return tuple(int(d) for d in np.cumprod((1, *self.strides)))


def layout(steps: int) -> Layout:
    """The convolutions for a history of `steps` steps; in a short one, kernels are as long as their input.

    Args:
        steps: `H`, at least 1.
    """
    kernels, strides, length = list[int](), list[int](), steps
    for kernel, stride in LAYERS:
        kernels.append(min(kernel, length))
        strides.append(stride)
        length = (length - kernels[-1]) // stride + 1
    made = Layout(tuple(kernels), tuple(strides), length, 0)
    spans = zip((*kernels, length), made.dilations, strict=True)
    return made._replace(window=1 + sum((kernel - 1) * dilation for kernel, dilation in spans))


class Convolution(Cell[Tensor]):
    """Convolutions (ReLU) over the last steps of a trial, the current one included; the features are all outputs.

    The memory is the window without the current step, `[B, W - 1, I]`, zeros before the trial. Over a whole sequence
    each convolution is computed once per step, dilated by the strides before it, which gives the window of every step.

    Args:
        inputs: `I`.
        units: Filters of each convolution.
        steps: `H`, steps of the history.
        rng: Source of the initial weights.

    Attributes:
        layout: The convolutions.
    """

    def __init__(self, inputs: int, units: int, steps: int, rng: np.random.Generator) -> None:
        super().__init__()
        self.layout, self._inputs = layout(steps), inputs
        sizes = (inputs, *(units for _ in self.layout.kernels))
        pairs = zip(self.layout.kernels, sizes[:-1], strict=True)
        self.convolutions = nn.ModuleList(linear(kernel * size, units, HIDDEN_GAIN, rng) for kernel, size in pairs)
        self.outputs = self.layout.outputs * units

    @staticmethod
    def size(inputs: int, units: int, steps: int) -> CellSize:
        """Numbers of parameters and of a row's memory."""
        made, sizes = layout(steps), (inputs, units, units)
        parameters = sum((k * size + 1) * units for k, size in zip(made.kernels, sizes, strict=True))
        return CellSize(parameters, (made.window - 1) * inputs)

    def fresh_memory(self, rows: int) -> Tensor:
        """Zeros, `[rows, W - 1, I]`."""
        device = next(self.parameters()).device
        return torch.zeros(rows, self.layout.window - 1, self._inputs, dtype=torch.float32, device=device)

    def forward(self, x: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """The features after each step `[B, L, H]`, and the last `W - 1` steps."""
        seen = torch.cat([memory, x], dim=1)  # [B, W - 1 + L, I]
        y, dilations = seen, self.layout.dilations
        for layer, kernel, dilation in zip(self._layers(), self.layout.kernels, dilations, strict=False):
            y = torch.relu(layer(_taps(y, kernel, dilation)))
        return _taps(y, self.layout.outputs, dilations[-1]), seen[:, x.shape[1] :].clone()

    def step(self, x: Floats, memory: Tensor) -> tuple[Floats, Tensor]:
        """`forward` for a single step on a CPU, by NumPy: convolutions with strides over the window alone."""
        y = window = np.concatenate([memory.numpy(), x[:, None]], axis=1)  # [B, W, I]
        for layer, kernel, stride in zip(self._layers(), self.layout.kernels, self.layout.strides, strict=True):
            parts = sliding_window_view(y, kernel, axis=1)[:, ::stride].swapaxes(2, 3)  # [B, n, kernel, size]
            y = affine(layer, parts.reshape(*parts.shape[:2], -1))
            np.maximum(y, 0.0, out=y)
        return y.reshape(len(y), -1), torch.tensor(window[:, 1:])

    def features_after(self, x: Tensor, memory: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
        """The features `[B, H]` and the memory after the first `steps` `[B]` of each row of `[B, L, I]`."""
        rows = torch.arange(len(x))
        window = steps[:, None] + torch.arange(self.layout.window - 1)  # of the memory and the steps side by side
        return self(x, memory)[0][rows, steps - 1], torch.cat([memory, x], dim=1)[rows[:, None], window]

    def _layers(self) -> Iterable[nn.Linear]:
        return cast("Iterable[nn.Linear]", self.convolutions)


def _taps(y: Tensor, kernel: int, dilation: int) -> Tensor:
    """Inputs of a dilated convolution, `[B, L, kernel * size]`, oldest first.

    Args:
        y: `[B, L + (kernel - 1) * dilation, size]`.
        kernel: Steps of each input.
        dilation: Distance between them.
    """
    length = y.shape[1] - (kernel - 1) * dilation
    return torch.cat([y[:, j * dilation : j * dilation + length] for j in range(kernel)], dim=-1)
