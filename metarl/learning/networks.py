"""Networks as pure functions of a flat parameter vector per task.

A whole network is one row of a tensor `[M, P]`: a gradient step, a dot product in conjugate gradients and a
candidate of the line search are then single tensor operations over all tasks, and every layer is one batched
matrix product.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from metarl.learning.perceptron import Activation, Layers, perceptron


@dataclass(frozen=True)
class Layout:
    """Where each named array lies in a flat parameter vector.

    Args:
        shapes: Pairs of name and shape, in order.
    """

    shapes: tuple[tuple[str, tuple[int, ...]], ...]

    @property
    def size(self) -> int:
        """`P`, the number of parameters."""
        return sum(math.prod(shape) for _, shape in self.shapes)

    def split(self, flat: Tensor) -> dict[str, Tensor]:
        """Views of `flat` `[M, P]` by name, each `[M, *shape]`."""
        pieces = torch.split(flat, [math.prod(shape) for _, shape in self.shapes], dim=1)
        return {name: p.view(-1, *shape) for (name, shape), p in zip(self.shapes, pieces, strict=True)}


def mlp_layout(sizes: Sequence[int]) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Names and shapes of a multi-layer perceptron with the given layer sizes, input first."""
    shapes: list[tuple[str, tuple[int, ...]]] = []
    for i, (fan_in, fan_out) in enumerate(pairwise(sizes)):
        shapes += [(f"weight_{i}", (fan_in, fan_out)), (f"bias_{i}", (fan_out,))]
    return tuple(shapes)


def mlp_init(sizes: Sequence[int], rng: np.random.Generator) -> Tensor:
    """Initial parameters of such a perceptron, `[P]`: Xavier-uniform weights (Glorot and Bengio 2010), zero biases."""
    pieces = []
    for fan_in, fan_out in pairwise(sizes):
        bound = math.sqrt(6.0 / (fan_in + fan_out))
        pieces += [rng.uniform(-bound, bound, fan_in * fan_out), np.zeros(fan_out)]
    return torch.tensor(np.concatenate(pieces), dtype=torch.float32)


def mlp_layers(arrays: Mapping[str, Tensor]) -> Layers:
    """The arrays `weight_i` and `bias_i` among `arrays`, `[M, in, out]` and `[M, out]`, layer by layer."""
    layers = range(sum(name.startswith("weight_") for name in arrays))
    return Layers([arrays[f"weight_{i}"] for i in layers], [arrays[f"bias_{i}"] for i in layers])


def mlp(arrays: Mapping[str, Tensor], x: Tensor, activation: Activation) -> Tensor:
    """A perceptron per task.

    Args:
        arrays: By name, as in `mlp_layout`: `[M, in, out]` and `[M, out]`.
        x: Inputs, `[M, B, in]`.
        activation: Between the layers.

    Returns:
        Outputs, `[M, B, out]`.
    """
    return perceptron(mlp_layers(arrays), x, activation)
