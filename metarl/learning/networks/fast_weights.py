"""MLPs with slow weights and a memory of fast weights that is read by attention (Munkhdalai and Yu 2017).

Munkhdalai and Yu 2017, "Meta Networks" (arXiv:1703.00837): a memory holds keys `r_i` and fast
weights `W*_i`. An input x reads it by the attention `a_i = softmax_i(cos(r(x), r_i))`, as `W*(x) = sum_i a_i W*_i`. A
hidden layer with slow weights W computes `f(W h + b) + f(W*(x) h + b*(x))`; the last layer is linear. An empty memory
adds nothing, since `f(0) = 0`. Every function here can be differentiated by autograd any number of times.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from metarl.learning.networks.perceptron import Activation, Layers

FUNCTIONS: dict[Activation, Callable[[Tensor], Tensor]] = {"tanh": torch.tanh, "relu": torch.relu}
NORM_FLOOR = 1e-12
"""Number added to the squared norm of a representation, so that the cosine has a derivative at zero."""


class FastMemory(NamedTuple):
    """The memory of each of `n` networks, with `K` entries; K may be 0.

    Attributes:
        keys: Representation of each entry, `[n, K, D]`.
        values: Fast weights of each entry, `[n, K, F]`: the layers of an MLP, flat.
    """

    keys: Tensor
    values: Tensor

    @classmethod
    def empty(cls, networks: int, key_size: int, value_size: int, like: Tensor) -> FastMemory:
        """A memory without entries, with dtype and device of `like`."""
        return cls(like.new_zeros(networks, 0, key_size), like.new_zeros(networks, 0, value_size))

    def with_entries(self, keys: Tensor, values: Tensor) -> FastMemory:
        """The memory with further entries: keys `[n, k, D]` and fast weights `[n, k, F]`."""
        return FastMemory(torch.cat([self.keys, keys], dim=1), torch.cat([self.values, values], dim=1))

    def repeated(self, times: int) -> FastMemory:
        """The memory of each network `times` times in a row, `[n * times, K, ...]`."""
        return FastMemory(*(t.repeat_interleave(times, dim=0) for t in self))


def evaluate(layers: Layers, x: Tensor, activation: Activation) -> Tensor:
    """Outputs `[n, B, out]` of MLPs without fast weights, for inputs `[n, B, in]`."""
    f = FUNCTIONS[activation]
    for weight, bias in zip(layers.weights[:-1], layers.biases[:-1], strict=True):
        x = f(torch.baddbmm(bias.unsqueeze(1), x, weight))
    return torch.baddbmm(layers.biases[-1].unsqueeze(1), x, layers.weights[-1])


def attention(queries: Tensor, keys: Tensor) -> Tensor:
    """Softmax of the cosine similarity over the entries, `[n, B, K]`.

    Args:
        queries: Representations of the inputs, `[n, B, D]`.
        keys: Keys, `[n, K, D]`.
    """
    return torch.softmax(torch.bmm(unit_vectors(queries), unit_vectors(keys).mT), dim=-1)


def unit_vectors(x: Tensor) -> Tensor:
    """Vectors of length 1 in the direction of `x` `[..., D]`."""
    return x * torch.rsqrt(x.square().sum(dim=-1, keepdim=True) + NORM_FLOOR)


def read_affine(weight: Tensor, bias: Tensor, read: Tensor, h: Tensor) -> Tensor:
    """`sum_i a_i (h W*_i + b*_i)`, `[n, B, out]`, without a matrix per input.

    One product with `[n, K * in, out]` or `[n, in, K * out]`, whichever needs the smaller intermediate array.

    Args:
        weight: Fast weights of the layer, `[n, K, in, out]`.
        bias: Fast biases of the layer, `[n, K, out]`.
        read: Attention, `[n, B, K]`.
        h: Inputs of the layer, `[n, B, in]`.
    """
    n, entries, inputs, outputs = weight.shape
    if inputs <= outputs:
        spread = (read.unsqueeze(-1) * h.unsqueeze(-2)).flatten(2)  # [n, B, K * in]
        return torch.baddbmm(torch.bmm(read, bias), spread, weight.flatten(1, 2))
    each = torch.bmm(h, weight.transpose(1, 2).flatten(2)).view(n, -1, entries, outputs)
    return (read.unsqueeze(-1) * (each + bias.unsqueeze(1))).sum(dim=2)


def evaluate_with_memory(slow: Layers, fast: Layers, read: Tensor, x: Tensor, activation: Activation) -> Tensor:
    """Outputs `[n, B, out]` of MLPs with slow and fast weights.

    Args:
        slow: Slow weights, one network per row.
        fast: Fast weights of all entries: weights `[n, K, in, out]` and biases `[n, K, out]`, K at least 1.
        read: Attention, `[n, B, K]`.
        x: Inputs, `[n, B, in]`.
        activation: Activation between the layers, with value 0 at 0.
    """
    f, last = FUNCTIONS[activation], len(slow.weights) - 1
    for i in range(len(slow.weights)):
        z = torch.baddbmm(slow.biases[i].unsqueeze(1), x, slow.weights[i])
        z_fast = read_affine(fast.weights[i], fast.biases[i], read, x)
        x = z + z_fast if i == last else f(z) + f(z_fast)
    return x


def split_entries(values: Tensor, split: Callable[[Tensor], Layers]) -> Layers:
    """Fast weights `[n, K, F]` layer by layer: weights `[n, K, in, out]` and biases `[n, K, out]`.

    Args:
        values: Fast weights, flat.
        split: Layers of flat parameters `[rows, F]`.
    """
    layers, shape = split(values.flatten(0, 1)), values.shape[:2]
    return Layers(*([t.view(*shape, *t.shape[1:]) for t in arrays] for arrays in layers))
