"""A single step of each cell by plain operations on one row, with a memory of a flat vector that starts as zeros.

Caches (attention, snail) are shifted by one entry in each step, so the newest is always last. The number of entries
follows from the number of steps. Attention keeps its keys unrotated and rotates them by their age: products of rotated
queries and keys depend on the distance of two steps alone (`metarl.learning.networks.cells.rotary`).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, linear

from metarl.learning.networks.acting import GELU_SCALE
from metarl.learning.networks.cells.aggregated import Aggregated
from metarl.learning.networks.cells.attention import Attention, AttentionLayer
from metarl.learning.networks.cells.base import Cell, leaves, rebuilt
from metarl.learning.networks.cells.convolution import Convolution
from metarl.learning.networks.cells.gru import Gru
from metarl.learning.networks.cells.lstm import Lstm
from metarl.learning.networks.cells.mingru import MinGru
from metarl.learning.networks.cells.rotary import rotated, rotations
from metarl.learning.networks.cells.s5 import S5, discretised
from metarl.learning.networks.cells.snail import FILTERS, KEY, VALUE, Snail
from metarl.learning.networks.exported.step import Part

NEVER = -1e30
"""Score of a step that attention does not read."""


class Remembered(NamedTuple):
    """A memory on its way through a network.

    Attributes:
        numbers: `[1, S]`.
        steps: Steps of the trial before this one, `[1, 1]`.
    """

    numbers: Tensor
    steps: Tensor


class CellStep(nn.Module, ABC):
    """A cell for sequences of one step, in place of a `Cell` within a network.

    Attributes:
        parts: Parts of the memory.
        outputs: `H`, size of the features.
    """

    def __init__(self, outputs: int, parts: tuple[Part, ...]) -> None:
        super().__init__()
        self.outputs, self.parts = outputs, parts

    @property
    def size(self) -> int:
        """`S`, numbers of the memory."""
        return sum(part.size for part in self.parts)

    def forward(self, x: Tensor, memory: Remembered) -> tuple[Tensor, Remembered]:
        """Features `[1, 1, H]` and memory after an input `[1, 1, I]`."""
        features, numbers = self._step(x[:, 0], memory.numbers, memory.steps)
        return features.unsqueeze(1), memory._replace(numbers=numbers)

    def _split(self, memory: Tensor) -> tuple[Tensor, ...]:
        """The parts of a memory, `[1, size]` each."""
        return torch.split(memory, [part.size for part in self.parts], dim=1)

    @abstractmethod
    def _step(self, x: Tensor, memory: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
        """Features `[1, H]` and memory `[1, S]` after an input `[1, I]`; `steps` `[1, 1]` came before."""


class GruStep(CellStep):
    """See `Gru`."""

    def __init__(self, cell: Gru) -> None:
        super().__init__(cell.outputs, (Part("hidden state", cell.outputs, "hidden state of the GRU"),))
        self.cell = _parameters(cell)

    def _step(self, x: Tensor, memory: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
        w = self.cell
        reset, update, new = linear(x, w.weight_ih_l0, w.bias_ih_l0).chunk(3, dim=1)
        reset_h, update_h, new_h = linear(memory, w.weight_hh_l0, w.bias_hh_l0).chunk(3, dim=1)
        candidate = torch.tanh(new + torch.sigmoid(reset + reset_h) * new_h)
        h = candidate + torch.sigmoid(update + update_h) * (memory - candidate)
        return h, h


class LstmStep(CellStep):
    """See `Lstm`."""

    def __init__(self, cell: Lstm) -> None:
        units = cell.outputs
        parts = Part("hidden state", units, "hidden state of the LSTM"), Part("cell state", units, "its cell state")
        super().__init__(units, parts)
        self.cell = _parameters(cell)

    def _step(self, x: Tensor, memory: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
        w, (hidden, inner) = self.cell, self._split(memory)
        gates = linear(x, w.weight_ih_l0, w.bias_ih_l0) + linear(hidden, w.weight_hh_l0, w.bias_hh_l0)
        gate_in, forget, candidate, gate_out = gates.chunk(4, dim=1)
        inner = torch.sigmoid(forget) * inner + torch.sigmoid(gate_in) * torch.tanh(candidate)
        hidden = torch.sigmoid(gate_out) * torch.tanh(inner)
        return hidden, torch.cat([hidden, inner], dim=1)


class MinGruStep(CellStep):
    """See `MinGru`."""

    def __init__(self, cell: MinGru) -> None:
        parts = (Part(f"layer {i}", cell.outputs, "its state") for i in range(len(cell.layers)))
        super().__init__(cell.outputs, tuple(parts))
        self.layers = cell.layers

    def _step(self, x: Tensor, memory: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
        y, after = x, []
        for i, (layer, before) in enumerate(zip(self.layers, self._split(memory), strict=True)):
            gate, candidate = layer(layer_norm(y, y.shape[-1:]) if i else y).chunk(2, dim=1)
            h = before + torch.sigmoid(gate) * (candidate - before)
            y = y + h if i else h
            after.append(h)
        return y, torch.cat(after, dim=1)


class S5Step(CellStep):
    """See `S5`."""

    def __init__(self, cell: S5) -> None:
        meaning = "its complex states, real and imaginary parts in turn"
        parts = (Part(f"layer {i}", cell.outputs, meaning) for i in range(len(cell.layers)))
        super().__init__(cell.outputs, tuple(parts))
        self.enter, self.layers = cell.enter, cell.layers
        of_layers: Iterable[Any] = cell.layers
        with torch.no_grad():
            self._constants = [
                [torch.stack(pair, dim=-1) for pair in discretised(torch, one.decay, one.frequency, one.log_step)]
                for one in of_layers
            ]

    def _step(self, x: Tensor, memory: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
        x, after = self.enter(x), []
        layer: Any
        for layer, before, (factor, weight) in zip(self.layers, self._split(memory), self._constants, strict=True):
            normal = layer_norm(x, x.shape[-1:])
            h = _product(factor, before) + _product(weight, linear(normal, layer.into))
            y = layer.read(h) + normal * layer.skip
            y = 0.5 * y * (1.0 + torch.tanh(GELU_SCALE * (y + 0.044715 * y * y * y)))
            x = x + y * torch.sigmoid(layer.gate(y))
            after.append(h)
        return x, torch.cat(after, dim=1)


def _product(factors: Tensor, x: Tensor) -> Tensor:
    """Complex products of factors `[P, 2]` and numbers `[1, 2 P]`, real and imaginary parts in turn."""
    re, im = x.view(-1, 2).unbind(1)
    a, b = factors.unbind(1)
    return torch.stack([a * re - b * im, a * im + b * re], dim=1).view(1, -1)


class AttentionStep(CellStep):
    """See `Attention`."""

    def __init__(self, cell: Attention) -> None:
        units, kept = cell.outputs, cell.window - 1
        parts = [
            Part(f"{kind} of layer {i}", kept * units, f"of the last {kept} steps, {units} numbers each, newest last")
            for i in range(len(cell.layers))
            for kind in ("keys", "values")
        ]
        super().__init__(units, tuple(parts))
        self.input, self.layers, self.norm = cell.input, cell.layers, cell.norm
        self._heads, self._kept = cell._heads, kept
        position = torch.arange(kept + 1)
        self._of_keys = rotations(position, units // cell._heads, torch.float32)
        self._of_query = self._of_keys[:, -1:]

    def _step(self, x: Tensor, memory: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
        parts, after, there = self._split(memory), list[Tensor](), _there(self._kept, steps)
        x = self.input(x)
        for i, layer in enumerate(cast("Iterable[AttentionLayer]", self.layers)):
            query, key, value = layer.projection(layer.attention_norm(x)).chunk(3, dim=1)
            before = [part.view(self._kept, self.outputs) for part in parts[2 * i : 2 * i + 2]]
            keys, values = (torch.cat(pair) for pair in zip(before, (key, value), strict=True))
            query, turned = rotated(query, self._of_query), rotated(keys, self._of_keys)
            x = x + layer.output(_attention(query, turned, values, there, self._heads))
            x = x + layer.mlp_output(layer.mlp(layer.mlp_norm(x)))
            after += [keys[1:].reshape(1, -1), values[1:].reshape(1, -1)]
        return self.norm(x), torch.cat(after, dim=1)


class SnailStep(CellStep):
    """See `Snail`."""

    def __init__(self, cell: Snail) -> None:
        kept = cell.window - 1
        self._widths = (cell._sizes[-2], KEY, VALUE)
        parts = [
            Part(name, kept * width, f"of the last {kept} steps, {width} numbers each, newest last")
            for name, width in zip(("features", "keys", "values"), self._widths, strict=True)
        ]
        super().__init__(cell.outputs, tuple(parts))
        self.embedding, self.convolutions = cell.embedding, cell.convolutions
        self.projection, self.output = cell.projection, cell.output
        self._sizes, self._dilations, self._kept = cell._sizes, cell._dilations, kept

    def _step(self, x: Tensor, memory: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
        features, keys, values = (p.view(self._kept, w) for p, w in zip(self._split(memory), self._widths, strict=True))
        x = self.embedding(x)
        for layer, size, dilation in zip(self.convolutions, self._sizes[:-1], self._dilations, strict=True):
            inner = x
            earlier = features[self._kept - dilation, :size].unsqueeze(0) * (steps >= dilation).to(x.dtype)
            gates = layer(torch.cat([earlier, x], dim=1))
            update = torch.tanh(gates[:, FILTERS:]) * torch.sigmoid(gates[:, :FILTERS])
            x = torch.cat([x, update], dim=1)
        query, key, value = self.projection(x).split([KEY, KEY, VALUE], dim=1)
        features, keys, values = (torch.cat(pair) for pair in ((features, inner), (keys, key), (values, value)))
        read = _attention(query, keys, values, _there(self._kept, steps), 1)
        after = [part[1:].reshape(1, -1) for part in (features, keys, values)]
        return self.output(torch.cat([x, read], dim=1)), torch.cat(after, dim=1)


class AggregatedStep(CellStep):
    """See `Aggregated`; the maximum before the first step is not read."""

    def __init__(self, cell: Aggregated) -> None:
        self._passed, inner = cell._passed, cell_step(cell.inner)
        own = Part("previous input", cell._inputs, "input of the cell in the last step")
        maximum = Part("maximum", cell.outputs - cell._passed, "maximum of the aggregated features so far")
        super().__init__(cell.outputs, (*inner.parts, own, maximum))
        self.inner = inner

    def _step(self, x: Tensor, memory: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
        *_, previous, maximum = self._split(memory)
        inner = memory[:, : self.inner.size]
        features, inner = self.inner._step(torch.cat([x, previous], dim=1), inner, steps)
        new = features[:, self._passed :]
        maximum = torch.where(steps > 0, torch.maximum(new, maximum), new)
        return torch.cat([features[:, : self._passed], maximum], dim=1), torch.cat([inner, x, maximum], dim=1)


class OtherStep(CellStep):
    """Any other cell whose `forward` can be traced, and whose memory starts as zeros.

    Raises:
        ValueError: The memory starts as other numbers.
    """

    def __init__(self, cell: Cell[Any]) -> None:
        fresh = cell.fresh_memory(1)
        tensors = leaves(fresh)
        if any(bool(t.any()) for t in tensors):
            raise ValueError(
                f"export: got a {type(cell).__name__} whose memory does not start as zeros, expected zeros; give the "
                "agent a policy_step of its own"
            )
        parts = (Part(f"memory {i}", t.numel(), f"tensor {i} of the cell's memory") for i, t in enumerate(tensors))
        super().__init__(cell.outputs, tuple(parts))
        self.cell, self._fresh, self._shapes = cell, fresh, [t.shape for t in tensors]

    def _step(self, x: Tensor, memory: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
        before = (part.view(shape) for part, shape in zip(self._split(memory), self._shapes, strict=True))
        features, after = self.cell(x.unsqueeze(1), rebuilt(self._fresh, before))
        return features[:, 0], torch.cat([part.reshape(1, -1) for part in leaves(after)], dim=1)


class ConvolutionStep(OtherStep):
    """See `Convolution`."""

    def __init__(self, cell: Convolution) -> None:
        super().__init__(cell)
        (window,), (_, kept, size) = self.parts, self._shapes[0]
        meaning = f"of the last {kept} steps, {size} numbers each, newest last"
        self.parts = (window._replace(name="window", meaning=meaning),)


def _there(kept: int, steps: Tensor) -> Tensor:
    """Which of the kept steps and the current one there are, `[1, kept + 1]`."""
    return torch.arange(kept, -1, -1) <= steps


def _attention(query: Tensor, keys: Tensor, values: Tensor, there: Tensor, heads: int) -> Tensor:
    """The reads of all heads `[1, V]`, for a query `[1, heads * d]`, keys `[n, heads * d]` and values `[n, V]`."""
    q, k, v = (t.view(len(t), heads, -1).transpose(0, 1) for t in (query, keys, values))  # [heads, ., d]
    scores = (q @ k.transpose(1, 2)) * (1.0 / math.sqrt(q.shape[-1]))  # [heads, 1, n]
    weights = torch.softmax(torch.where(there, scores, torch.full_like(scores, NEVER)), dim=-1)
    return (weights @ v).view(1, -1)


STEPS: dict[type, Any] = {
    Gru: GruStep,
    Lstm: LstmStep,
    MinGru: MinGruStep,
    S5: S5Step,
    Attention: AttentionStep,
    Snail: SnailStep,
    Aggregated: AggregatedStep,
    Convolution: ConvolutionStep,
}
"""The step of each kind of cell; `OtherStep` for any other."""


def cell_step(cell: Cell[Any]) -> CellStep:
    """A single step of a cell."""
    made: CellStep = STEPS.get(type(cell), OtherStep)(cell)
    return made


def _parameters(cell: Any) -> Any:
    """The parameters of a recurrent layer by their names, in a module without its forward pass."""
    return nn.ParameterDict({name: p.detach().clone() for name, p in cell.named_parameters()})
