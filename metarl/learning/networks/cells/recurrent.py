"""Parts that GRU and LSTM share: initial weights, sizes, and products of a single step."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from metarl.learning.networks.acting import views
from metarl.learning.networks.modules import orthogonal
from metarl.types import Floats

TOGETHER = 4
"""Rows that the compiled loops take through time at once."""
GROUPS = 16
"""Largest number of groups of rows that have a sum of their own of the gradients of weights."""


def rows_of_a_group(rows: int) -> int:
    """Rows that share a sum of the gradients of weights: a multiple of `TOGETHER`, whatever the number of threads."""
    return TOGETHER * -(-rows // (TOGETHER * GROUPS))


def initialise(layer: nn.RNNBase, gates: int, rng: np.random.Generator) -> None:
    """Orthogonal matrices, gate by gate, and zero biases in place of parameters on torch's `meta` device."""
    for name, shape in [(name, p.shape) for name, p in layer.named_parameters()]:
        if name.startswith("weight"):
            filled = torch.cat([orthogonal(layer.hidden_size, shape[1], 1.0, rng) for _ in range(gates)])
        else:
            filled = torch.zeros(shape, dtype=torch.float32)
        setattr(layer, name, nn.Parameter(filled))


def parameters_of(inputs: int, units: int, gates: int) -> int:
    """Number of parameters of a recurrent layer with two biases per gate."""
    return gates * units * (inputs + units + 2)


def products(layer: nn.Module, x: Floats, h: Floats) -> tuple[Floats, Floats]:
    """The products of a recurrent layer with inputs `[B, I]` and hidden state `[B, H]`, biases added."""
    of_input, of_state, input_bias, state_bias = views(layer)
    inputs, states = x @ of_input, h @ of_state
    inputs += input_bias
    states += state_bias
    return inputs, states


def compiled_for(x: Tensor) -> bool:
    """Whether the compiled loops take these inputs: on a CPU, in single or double precision."""
    return not x.is_cuda and x.dtype in (torch.float32, torch.float64)


def array(tensor: Tensor) -> Floats:
    """The numbers of a tensor on the CPU, contiguous."""
    numbers: Floats = tensor.detach().contiguous().numpy()
    return numbers
