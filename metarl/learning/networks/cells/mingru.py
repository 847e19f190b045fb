"""Minimal gated recurrent unit: its gates do not see the memory, so a pass over a sequence has few, large products.

Feng et al. 2024, "Were RNNs All We Needed?" (arXiv:2410.01201).
"""

from __future__ import annotations

import math
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from metarl.learning.networks.acting import affine, logistic_, standardised
from metarl.learning.networks.cells.base import Cell
from metarl.learning.networks.cells.scan import gated_scan
from metarl.learning.networks.cells.settings import CellSettings, CellSize
from metarl.learning.networks.modules import biases_before_norm, orthogonal
from metarl.types import Floats


class MinGru(Cell[Tensor]):
    """Layers of minimal gated recurrent units.

    With the logistic function s, each layer maps its inputs x_t to its memory h_t,

        z_t = s(W_z x_t + b_z),  c_t = W_c x_t + b_c,  h_t = (1 - z_t) h_{t-1} + z_t c_t

    The first layer's memory is its output y. A further layer has the inputs N(y), with N the layer norm without scale
    and shift (Ba et al. 2016, arXiv:1607.06450), and the output y + h. A scale and shift would be part of W and b.

    Candidates c are linear, as in the paper's first form; its form with logarithms needs positive ones. Time constants
    1 / z at zero input are log-uniform between 2 steps and a trial, unit by unit (after Tallec and Ollivier 2018,
    arXiv:1804.11188). Weights are orthogonal, gate by gate; biases of the first layer's candidates are N(0, 0.1^2)
    (`biases_before_norm`), those of later ones 0.

    Args:
        inputs: Size of the input.
        units: `H`, size of the features, and of the memory of each layer.
        layers: Number of layers, `N`.
        steps: Steps of a trial.
        rng: Source of the weights.
    """

    def __init__(self, inputs: int, units: int, layers: int, steps: int, rng: np.random.Generator) -> None:
        super().__init__()
        self.outputs = units
        self.layers = nn.ModuleList(_layer(inputs if i == 0 else units, units, steps, rng) for i in range(layers))
        first: Any = self.layers[0]
        with torch.no_grad():
            first.bias[units:] = biases_before_norm(units, rng)

    @classmethod
    def build(cls, settings: CellSettings, inputs: int, steps: int, rng: np.random.Generator) -> Self:
        """The cell of these settings."""
        return cls(inputs, settings.units, settings.cell_layers, steps, rng)

    @staticmethod
    def size(settings: CellSettings, inputs: int, steps: int) -> CellSize:
        """Numbers of parameters and of a row's memory."""
        units, layers = settings.units, settings.cell_layers
        return CellSize(2 * units * (inputs + 1 + (layers - 1) * (units + 1)), layers * units)

    def fresh_memory(self, rows: int) -> Tensor:
        """Zeros, `[rows, N, H]`."""
        shape = rows, len(self.layers), self.outputs
        return torch.zeros(shape, dtype=torch.float32, device=next(self.parameters()).device)

    def forward(self, x: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """The features `[B, L, H]`, and the layers' memories after the last step `[B, N, H]`."""
        features, states = self._states(x, memory)
        return features, torch.stack([state[:, -1] for state in states], dim=1)

    def step(self, x: Floats, memory: Tensor) -> tuple[Floats, Tensor]:
        """`forward` for a single step on a CPU, by NumPy."""
        after, units = torch.empty_like(memory), self.outputs
        old, new = memory.numpy(), after.numpy()
        y = x
        for i, layer in enumerate(self.layers):
            products = affine(layer, standardised(y) if i else y)
            before, h = old[:, i], new[:, i]
            np.subtract(products[:, units:], before, out=h)
            h *= logistic_(products[:, :units])
            h += before
            y = y + h if i else h
        return y, after

    def features_after(self, x: Tensor, memory: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
        """The features `[B, H]` and the memory after the first `steps` `[B]` of each row, by one pass."""
        features, states = self._states(x, memory)
        rows, last = torch.arange(len(x)), steps - 1
        return features[rows, last], torch.stack([state[rows, last] for state in states], dim=1)

    def _states(self, x: Tensor, memory: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The features `[B, L, H]`, and each layer's memory after each step `[B, L, H]`."""
        y, states = x, []
        for i, layer in enumerate(self.layers):
            products = layer(layer_norm(y, y.shape[-1:]) if i else y)
            h = gated_scan(products, memory[:, i], doubling=x.is_cuda)
            y = y + h if i else h
            states.append(h)
        return y, states


def _layer(inputs: int, units: int, steps: int, rng: np.random.Generator) -> nn.Linear:
    """The product of a layer: gates first, then candidates."""
    layer = nn.Linear(inputs, 2 * units, device="meta")
    layer.weight = nn.Parameter(torch.cat([orthogonal(units, inputs, 1.0, rng) for _ in range(2)]))
    constants = np.exp(rng.uniform(math.log(2.0), math.log(max(steps, 2)), units))  # s(b) = 1 / constant
    bias = np.concatenate([-np.log(constants - 1.0), np.zeros(units)])
    layer.bias = nn.Parameter(torch.tensor(bias, dtype=torch.float32))
    return layer
