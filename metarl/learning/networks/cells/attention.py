"""Causal self-attention over the steps of a trial: a transformer decoder with a cache of keys and values.

Vaswani et al. 2017 (arXiv:1706.03762), with the layer norm before each branch (Xiong et al. 2020, arXiv:2002.04745) and
rotary position embedding (Su et al. 2021, arXiv:2104.09864). In meta-RL: TrMRL (Melo 2022, arXiv:2206.06614) and AMAGO
(Grigsby et al. 2023, arXiv:2310.09971).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Self, cast

import numpy as np
import torch
from torch import Tensor, nn

from metarl.learning.networks.acting import affine, normalised, through_layers
from metarl.learning.networks.cells.cache import (
    Cache,
    advanced,
    fresh_cache,
    is_fresh,
    previous,
    window_and_capacity,
)
from metarl.learning.networks.cells.cached import CachedCell
from metarl.learning.networks.cells.rotary import rotated, rotations
from metarl.learning.networks.cells.settings import CellSettings, CellSize
from metarl.learning.networks.cells.windowed import attention_step, entries_to_read, windowed_attention
from metarl.learning.networks.modules import biases_before_norm, hidden_layers, linear, orthogonal
from metarl.types import Floats

EXPANSION = 2
"""Units of an MLP's hidden layer, relative to those of its input. TrMRL and AMAGO have 4; 2 make a third fewer
operations."""
FEATURE_SCALE = 0.3
"""Initial weights of the last layer norm. The features are then about as large as those of a recurrent cell, and the
same step sizes suit the layers after them."""
RESIDUAL_GAIN = 0.0
"""Gain of the initial weights of a branch's last layer: a layer is the identity at the start."""


class AttentionLayer(nn.Module):
    """A layer of the decoder: `x + O(attention(norm(x)))`, then `x + MLP(norm(x))`, with ReLU.

    Args:
        units: `H`.
        rng: Source of the weights.
    """

    def __init__(self, units: int, rng: np.random.Generator) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(units, dtype=torch.float32)
        self.projection = linear(units, 3 * units, 1.0, rng)  # queries, keys, values
        self.projection.weight = nn.Parameter(torch.cat([orthogonal(units, units, 1.0, rng) for _ in range(3)]))
        self.output = linear(units, units, RESIDUAL_GAIN, rng)
        self.mlp_norm = nn.LayerNorm(units, dtype=torch.float32)
        self.mlp = hidden_layers((units, EXPANSION * units), "relu", rng)
        self.mlp_output = linear(EXPANSION * units, units, RESIDUAL_GAIN, rng)


class Attention(CachedCell):
    """Layers of causal self-attention over the last steps, the current one included.

    With inputs x, layer norm N, and heads of d units each, the queries q, keys k and values v of a layer are the parts
    of `W N(x)`. Queries and keys are rotated according to their step (`rotary`), so that their products depend on the
    distance of two steps alone. The read of a head at step t is

        sum_s softmax_s(q_t k_s / sqrt(d)) v_s,  t - window < s <= t

    The cell's features are the layer norm of the last layer's output. See `AttentionLayer` for the rest.

    Args:
        inputs: Size of the input.
        units: `H`, size of the features.
        layers: Number of layers.
        heads: Heads of each layer.
        window: Steps that a layer reads, the current one included.
        capacity: Steps that the cache has room for, at least the window.
        rng: Source of the weights.
    """

    def __init__(
        self,
        inputs: int,
        units: int,
        *,
        layers: int,
        heads: int,
        window: int,
        capacity: int,
        rng: np.random.Generator,
    ) -> None:
        super().__init__()
        self.input = linear(inputs, units, max(1.0, math.sqrt(units / inputs)), rng)
        self.input.bias = nn.Parameter(biases_before_norm(units, rng))
        self.layers = nn.ModuleList(AttentionLayer(units, rng) for _ in range(layers))
        self.norm = nn.LayerNorm(units, dtype=torch.float32)
        nn.init.constant_(self.norm.weight, FEATURE_SCALE)
        self.outputs, self._heads, self.window, self._capacity = units, heads, window, capacity

    @classmethod
    def build(cls, settings: CellSettings, inputs: int, steps: int, rng: np.random.Generator) -> Self:
        """The cell of these settings."""
        _check(settings)
        window, capacity = window_and_capacity(settings.attention_window, steps)
        heads, layers = settings.attention_heads, settings.cell_layers
        return cls(inputs, settings.units, layers=layers, heads=heads, window=window, capacity=capacity, rng=rng)

    @staticmethod
    def size(settings: CellSettings, inputs: int, steps: int) -> CellSize:
        """Numbers of parameters and of a row's memory: a key and a value for each step and layer, and counters."""
        _check(settings)
        units, layers = settings.units, settings.cell_layers
        layer = (4 + 2 * EXPANSION) * units**2 + (9 + EXPANSION) * units
        _, capacity = window_and_capacity(settings.attention_window, steps)
        return CellSize((inputs + 3) * units + layers * layer, 2 * layers * capacity * units + 3)

    def fresh_memory(self, rows: int) -> Cache:
        """A cache without entries: keys and values of each layer in turn, `[rows, C, H]` each."""
        shapes = [(self._capacity, self.outputs)] * (2 * len(self.layers))
        return fresh_cache(rows, shapes, self.norm.weight.device)

    def _through(self, x: Tensor, memory: Cache) -> tuple[Tensor, list[Tensor], int]:
        """The features of a pass; keys and values `[B, 2 layers, P + L, H]`, those of `P` steps before first; `P`."""
        fresh = is_fresh(memory)
        before, there = previous(memory, 0 if fresh else self.window - 1)
        start = memory.position[:1] if fresh else memory.position
        position = start.unsqueeze(1) + torch.arange(x.shape[1], device=x.device)
        rotation = rotations(position, self.outputs // self._heads, x.dtype)
        x, joined = self.input(x), []
        for i, layer in enumerate(cast("Iterable[AttentionLayer]", self.layers)):
            query, key, value = layer.projection(layer.attention_norm(x)).chunk(3, dim=-1)
            key = torch.cat([before[2 * i], rotated(key, rotation)], dim=1)
            value = torch.cat([before[2 * i + 1], value], dim=1)
            query = rotated(query, rotation)
            x = x + layer.output(windowed_attention(query, key, value, there, self.window, self._heads))
            x = x + layer.mlp_output(layer.mlp(layer.mlp_norm(x)))
            joined += [key, value]
        return self.norm(x), joined, there.shape[1]

    def step(self, x: Floats, memory: Cache) -> tuple[Floats, Cache]:
        """`forward` for a single step on a CPU, by NumPy; keys and values are written into the cache in place."""
        after = advanced(memory, self.window - 1)
        entries, count = [part.numpy() for part in after.entries], after.length.numpy()
        span, unread = entries_to_read(count, self.window)
        rows, slot = np.arange(len(x)), count - 1
        rotation = rotations(memory.position, self.outputs // self._heads, torch.float32)
        x = affine(self.input, x)
        for i, layer in enumerate(cast("Iterable[AttentionLayer]", self.layers)):
            projected = affine(layer.projection, normalised(layer.attention_norm, x)).reshape(len(x), 3, -1)
            query, key = (rotated(torch.from_numpy(projected[:, j]), rotation).numpy() for j in (0, 1))
            keys, values = entries[2 * i : 2 * i + 2]
            keys[rows, slot], values[rows, slot] = key, projected[:, 2]
            x += affine(layer.output, attention_step(query, keys[:, span], values[:, span], unread, self._heads))
            x += affine(layer.mlp_output, through_layers(layer.mlp, normalised(layer.mlp_norm, x)))
        return normalised(self.norm, x), after


def _check(settings: CellSettings) -> None:
    """Raises a ValueError if the heads do not divide the units into heads of an even size."""
    units, heads = settings.units, settings.attention_heads
    if units % (2 * heads):
        possible = [str(n) for n in range(1, min(units // 2, 64) + 1) if units % (2 * n) == 0]
        raise ValueError(
            f"attention_heads: got {heads} with {units} units, expected a divisor that leaves heads of an even size; "
            + (f"possible are {', '.join(possible)}" if possible else f"use a multiple of {2 * heads} units")
        )
