"""SNAIL: dilated causal convolutions over a trial, and attention to its steps.

Mishra et al. 2018, "A Simple Neural Attentive Meta-Learner" (arXiv:1707.03141).
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Self, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from metarl.learning.networks.acting import affine, logistic_
from metarl.learning.networks.cells.cache import (
    Cache,
    advanced,
    fresh_cache,
    is_fresh,
    previous,
    window_and_capacity,
)
from metarl.learning.networks.cells.cached import CachedCell
from metarl.learning.networks.cells.settings import CellSettings, CellSize
from metarl.learning.networks.cells.windowed import attention_step, entries_to_read, windowed_attention
from metarl.learning.networks.modules import linear
from metarl.types import Floats

EMBEDDING = 32
"""Size of the embedding of an input."""
FILTERS = 16
"""Filters of a dense block. The paper has 32 for RL; half of them make a cache of about half the size."""
KEY, VALUE = 32, 32
"""Sizes of keys and values of the attention."""
TC_BLOCKS = 2
"""TC blocks before the attention."""


class Snail(CachedCell):
    """An embedding, two TC blocks, attention, and a linear layer.

    A TC block for trials of T steps is `ceil(log2 T)` dense blocks. Dense block i convolves all features so far,
    `x_t [c]`, with a kernel of two steps at a distance of `2^i`, and adds its F outputs to them:

        x'_t = (x_t, tanh(a_t) s(b_t)),  (a_t, b_t) = V x_{t - 2^i} + W x_t + bias

    with the logistic function s; x is zero before the trial. The attention reads the steps of the trial so far, the
    current one included, with a single head that knows no positions: those are in the features. Its read is added to
    the features too, and the linear layer maps them all to the cell's output.

    Args:
        inputs: Size of the input.
        units: `H`, size of the output.
        steps: `T`, steps of a trial. In longer ones the attention reads the last `T + 1`.
        rng: Source of the weights.
    """

    def __init__(self, inputs: int, units: int, steps: int, rng: np.random.Generator) -> None:
        super().__init__()
        self.window, self._capacity = window_and_capacity(0, steps)
        self._dilations = _dilations(steps)
        self._sizes = _sizes(steps)
        self.embedding = linear(inputs, EMBEDDING, 1.0, rng)
        self.convolutions = nn.ModuleList(_convolution(size, rng) for size in self._sizes[:-1])
        width = self._sizes[-1]
        self.projection = linear(width, 2 * KEY + VALUE, 1.0, rng)  # query, key, value
        self.output = linear(width + VALUE, units, 1.0, rng)
        self.outputs = units

    @classmethod
    def build(cls, settings: CellSettings, inputs: int, steps: int, rng: np.random.Generator) -> Self:
        """The cell of these settings."""
        return cls(inputs, settings.units, steps, rng)

    @staticmethod
    def size(settings: CellSettings, inputs: int, steps: int) -> CellSize:
        """Numbers of parameters and of a row's memory: features, a key and a value for each step, and counters."""
        sizes, units, (_, capacity) = _sizes(steps), settings.units, window_and_capacity(0, steps)
        parameters = (inputs + 1) * EMBEDDING + sum(2 * FILTERS * (2 * size + 1) for size in sizes[:-1])
        parameters += (sizes[-1] + 1) * (2 * KEY + VALUE) + (sizes[-1] + VALUE + 1) * units
        return CellSize(parameters, capacity * (sizes[-2] + KEY + VALUE) + 3)

    def fresh_memory(self, rows: int) -> Cache:
        """A cache without entries: the input of the last dense block `[rows, C, D]`, keys and values."""
        shapes = [(self._capacity, size) for size in (self._sizes[-2], KEY, VALUE)]
        return fresh_cache(rows, shapes, self.output.weight.device)

    def _dense_blocks(self) -> Iterable[nn.Linear]:
        return cast("Iterable[nn.Linear]", self.convolutions)

    def _through(self, x: Tensor, memory: Cache) -> tuple[Tensor, list[Tensor], int]:
        (features, keys, values), there = previous(memory, 0 if is_fresh(memory) else self.window - 1)
        x = self.embedding(x)
        for layer, size, dilation in zip(self._dense_blocks(), self._sizes[:-1], self._dilations, strict=True):
            inner = x
            gate, update = _convolved(layer, features[:, -dilation:, :size], x, dilation).chunk(2, dim=-1)
            x = torch.cat([x, torch.tanh(update) * torch.sigmoid(gate)], dim=-1)
        query, key, value = self.projection(x).split([KEY, KEY, VALUE], dim=-1)
        joined = [torch.cat(parts, dim=1) for parts in ((features, inner), (keys, key), (values, value))]
        read = windowed_attention(query, joined[1], joined[2], there, self.window, 1)
        return self.output(torch.cat([x, read], dim=-1)), joined, there.shape[1]

    def step(self, x: Floats, memory: Cache) -> tuple[Floats, Cache]:
        """`forward` for a single step on a CPU, by NumPy; features, keys and values are written into the cache."""
        after = advanced(memory, self.window - 1)
        features, keys, values = (part.numpy() for part in after.entries)
        count, rows = after.length.numpy(), np.arange(len(x))
        wide = np.empty((len(x), self._sizes[-1] + VALUE), dtype=np.float32)  # features, and the read
        wide[:, :EMBEDDING] = affine(self.embedding, x)
        for layer, (size, wider), dilation in zip(
            self._dense_blocks(), pairwise(self._sizes), self._dilations, strict=True
        ):
            earlier = features[rows, count - 1 - dilation, :size] * (count > dilation)[:, None]
            gates = affine(layer, np.concatenate([earlier, wide[:, :size]], axis=1))
            np.multiply(logistic_(gates[:, :FILTERS]), np.tanh(gates[:, FILTERS:]), out=wide[:, size:wider])
        inner = wide[:, : self._sizes[-1]]
        query, key, value = np.split(affine(self.projection, inner), [KEY, 2 * KEY], axis=1)
        for part, entry in zip((features, keys, values), (wide[:, : self._sizes[-2]], key, value), strict=True):
            part[rows, count - 1] = entry
        span, unread = entries_to_read(count, self.window)
        wide[:, self._sizes[-1] :] = attention_step(query, keys[:, span], values[:, span], unread, 1)
        return affine(self.output, wide), after


def _dilations(steps: int) -> list[int]:
    """Dilations of all dense blocks, for trials of `steps` steps."""
    return [2**i for i in range(max(1, (steps - 1).bit_length()))] * TC_BLOCKS


def _sizes(steps: int) -> list[int]:
    """Numbers of features before each dense block, and after the last."""
    return [EMBEDDING + FILTERS * i for i in range(len(_dilations(steps)) + 1)]


def _convolution(size: int, rng: np.random.Generator) -> nn.Linear:
    """Gates and updates `[2 F]` from `size` features of the earlier step and those of the current one."""
    return linear(2 * size, 2 * FILTERS, 1.0, rng)


def _convolved(layer: nn.Linear, earlier: Tensor, x: Tensor, dilation: int) -> Tensor:
    """A dilated causal convolution with a kernel of two steps, `[B, L, 2 F]`.

    Args:
        layer: The kernel: weights of the earlier step, then those of the current one.
        earlier: Features of the last `dilation` steps before the sequence, `[B, dilation, c]`; or none, `[B, 0, c]`,
            which are zeros.
        x: Features of the sequence, `[B, L, c]`.
        dilation: Distance of the two steps.
    """
    size, steps = x.shape[2], x.shape[1]
    old, new = layer.weight[:, :size], layer.weight[:, size:]
    delayed = torch.cat([earlier, x[:, : max(steps - dilation, 0)]], dim=1)[:, :steps] @ old.T
    missing = dilation - earlier.shape[1]
    return pad(delayed, (0, 0, missing, 0))[:, :steps] + x @ new.T + layer.bias
