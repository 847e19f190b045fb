"""S5: state spaces with a complex diagonal, constant over time.

Smith, Warrington and Linderman 2023, "Simplified State Space Layers for Sequence Modeling" (arXiv:2208.04933); as the
memory of RL2, Lu et al. 2023, "Structured State Space Models for In-Context Reinforcement Learning" (arXiv:2303.03982).
"""

from __future__ import annotations

import math
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, layer_norm

from metarl.learning.networks.acting import affine, gelu_, logistic_, standardised, views
from metarl.learning.networks.cells.base import Cell
from metarl.learning.networks.cells.scan import rotated_scan
from metarl.learning.networks.cells.settings import CellSettings, CellSize
from metarl.learning.networks.modules import biases_before_norm, linear
from metarl.types import Floats

STEP_SIZES = 1e-3, 1e-1
"""Range of the initial step sizes."""
BLOCK = 8
"""Real states of a block of initial eigenvalues (section 4.3 of Smith et al. 2023)."""


class S5Layer(nn.Module):
    """One state space, and a gated unit on its output.

    With u = N(x) the layer norm of the inputs without scale and shift, s the logistic function, and Re the real part,

        h_t = a h_{t-1} + w (B u_t),  v_t = 2 Re(C h_t) + D u_t + b,  y_t = gelu(v_t),  x_t + y_t s(G y_t + g)

    is the output. The states h are one half of conjugate pairs. The continuous system `dh/dt = l h + B u` with u
    constant during a step of size d (zero-order hold) has `a = exp(d l)` and `w = (a - 1) / l`, both elementwise. The
    real part of l is `-exp(decay)`, so that states cannot grow. The memory is h, real and imaginary parts in turn.
    B and D contain the scale of the layer norm. B is complex normal with variance 1 / H, D standard normal;
    C and G are orthogonal as real matrices; biases are 0.

    Args:
        units: `H`, size of inputs, outputs and memory; there are P = H / 2 complex states.
        rng: Source of the weights.
    """

    def __init__(self, units: int, rng: np.random.Generator) -> None:
        super().__init__()
        eigenvalues = np.resize(hippo_eigenvalues(min(BLOCK, units)), units // 2)
        step = rng.uniform(math.log(STEP_SIZES[0]), math.log(STEP_SIZES[1]), units // 2)
        self.decay, self.frequency, self.log_step = (
            _parameter(values) for values in (np.log(-eigenvalues.real), eigenvalues.imag, step)
        )
        self.into = _parameter(rng.standard_normal((units, units)) / math.sqrt(2 * units))  # B, real and imaginary rows
        self.skip = _parameter(rng.standard_normal(units))  # D
        self.read = linear(units, units, 1.0, rng)  # columns: 2 Re C and -2 Im C
        self.gate = linear(units, units, 1.0, rng)

    def forward(self, x: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs and memories after each step, `[B, L, H]` each, for inputs `[B, L, H]` and a memory `[B, H]`."""
        factors, weights = discretised(torch, self.decay, self.frequency, self.log_step)
        into = _times(weights, self.into)
        normal = layer_norm(x, x.shape[-1:])
        h = rotated_scan(torch.stack(factors, dim=-1).flatten(), normal @ into.T, memory, doubling=x.is_cuda)
        y = gelu(torch.addcmul(self.read(h), normal, self.skip), approximate="tanh")
        return torch.addcmul(x, y, torch.sigmoid(self.gate(y))), h

    def step(self, x: Floats, memory: Floats, after: Floats) -> Floats:
        """`forward` for a single step by NumPy: outputs `[B, H]`; fills `after` with the memory."""
        decay, frequency, log_step, into, skip = views(self)
        (a_re, a_im), (w_re, w_im) = discretised(np, decay, frequency, log_step)
        normal = standardised(x)
        given = (normal @ into).view(np.complex64)
        given *= w_re + 1j * w_im
        h = after.view(np.complex64)
        np.multiply(memory.view(np.complex64), a_re + 1j * a_im, out=h)
        h += given
        normal *= skip
        normal += affine(self.read, after)
        y = gelu_(normal)
        gate = logistic_(affine(self.gate, y))
        gate *= y
        gate += x
        return gate


class S5(Cell[Tensor]):
    """A linear map to `H` numbers, with initial biases N(0, 0.1^2) (`biases_before_norm`), and layers `S5Layer`.

    Eigenvalues l start as those of the normal part of HiPPO-LegS for `BLOCK` real states, repeated, step sizes as
    log-uniform in `STEP_SIZES`. Small blocks have more slow rotations, which add up what a trial shows.

    Args:
        inputs: Size of the input.
        units: `H`, size of the features, and of the memory of each layer; even.
        layers: Number of layers, `N`.
        rng: Source of the weights.

    Raises:
        ValueError: The units are odd.
    """

    def __init__(self, inputs: int, units: int, layers: int, rng: np.random.Generator) -> None:
        if units % 2:
            raise ValueError(f"units: got {units}, expected an even number where cell is 's5'; use {units + 1}")
        super().__init__()
        self.outputs = units
        self.enter = linear(inputs, units, 1.0, rng)
        self.enter.bias = nn.Parameter(biases_before_norm(units, rng))
        self.layers = nn.ModuleList(S5Layer(units, rng) for _ in range(layers))

    @classmethod
    def build(cls, settings: CellSettings, inputs: int, steps: int, rng: np.random.Generator) -> Self:
        """The cell of these settings."""
        return cls(inputs, settings.units, settings.cell_layers, rng)

    @staticmethod
    def size(settings: CellSettings, inputs: int, steps: int) -> CellSize:
        """Numbers of parameters and of a row's memory."""
        units, layers = settings.units, settings.cell_layers
        each = 3 * (units // 2) + units + units**2 + 2 * units * (units + 1)
        return CellSize(units * (inputs + 1) + layers * each, layers * units)

    def fresh_memory(self, rows: int) -> Tensor:
        """Zeros, `[rows, N, H]`."""
        return torch.zeros(rows, len(self.layers), self.outputs, dtype=torch.float32, device=self.enter.weight.device)

    def forward(self, x: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """The features `[B, L, H]`, and the layers' memories after the last step `[B, N, H]`."""
        features, states = self._states(x, memory)
        return features, torch.stack([state[:, -1] for state in states], dim=1)

    def step(self, x: Floats, memory: Tensor) -> tuple[Floats, Tensor]:
        """`forward` for a single step on a CPU, by NumPy."""
        after = torch.empty_like(memory)
        old, new = memory.numpy(), after.numpy()
        x = affine(self.enter, x)
        layer: Any
        for i, layer in enumerate(self.layers):
            x = layer.step(x, old[:, i], new[:, i])
        return x, after

    def features_after(self, x: Tensor, memory: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
        """The features `[B, H]` and the memory after the first `steps` `[B]` of each row, by one pass."""
        features, states = self._states(x, memory)
        rows, last = torch.arange(len(x)), steps - 1
        return features[rows, last], torch.stack([state[rows, last] for state in states], dim=1)

    def _states(self, x: Tensor, memory: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The features `[B, L, H]`, and each layer's memory after each step `[B, L, H]`."""
        x, states = self.enter(x), []
        for i, layer in enumerate(self.layers):
            x, h = layer(x, memory[:, i])
            states.append(h)
        return x, states


def hippo_eigenvalues(size: int) -> Floats:
    """Eigenvalues with positive imaginary part of the normal part of HiPPO-LegS, `[size / 2]` complex numbers.

    The HiPPO-LegS matrix (Gu et al. 2020, arXiv:2008.07669) is `-sqrt(2 n + 1) sqrt(2 k + 1)` below the diagonal and
    `-(n + 1)` on it. The rank-1 term `p p^T` with `p_n = sqrt(n + 1/2)` added, -1/2 times the identity and a
    skew-symmetric matrix remain (Gu et al. 2022, arXiv:2111.00396).
    """
    roots = np.sqrt(2.0 * np.arange(size) + 1.0)
    below = np.tril(np.outer(roots, roots), -1)
    imaginary = np.linalg.eigvalsh(-0.5j * (below.T - below))
    return -0.5 + 1j * imaginary[size // 2 :]


def discretised(of: Any, decay: Any, frequency: Any, log_step: Any) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Factors a and weights w of `S5Layer`, real and imaginary parts `[P]`, free of cancellation for small steps.

    Args:
        of: The module `torch` or `numpy`, whose functions are used.
        decay: Logarithm of the negative real part of l, `[P]`.
        frequency: Imaginary part of l, `[P]`.
        log_step: Logarithm of the step size, `[P]`.
    """
    step, rate = of.exp(log_step), of.exp(decay)
    angle, shrinks = step * frequency, of.expm1(-step * rate)
    half = of.sin(0.5 * angle)
    re, im = shrinks * of.cos(angle) - 2.0 * half * half, (shrinks + 1.0) * of.sin(angle)  # a - 1
    share = 1.0 / (rate * rate + frequency * frequency)
    return (re + 1.0, im), ((im * frequency - re * rate) * share, (-im * rate - re * frequency) * share)


def _times(factors: tuple[Tensor, Tensor], rows: Tensor) -> Tensor:
    """Rows `[2 P, H]`, real and imaginary ones in turn, times complex factors `[P]`."""
    (w_re, w_im), (re, im) = (factor.unsqueeze(1) for factor in factors), rows.view(-1, 2, rows.shape[1]).unbind(1)
    return torch.stack([w_re * re - w_im * im, w_re * im + w_im * re], dim=1).view(rows.shape)


def _parameter(values: Floats) -> nn.Parameter:
    return nn.Parameter(torch.tensor(values, dtype=torch.float32))
