"""ReLU MLPs on batches larger than the CPU cache, with fewer passes over memory.

Each layer has one more unit, which is always 1, so that the bias is a row of the weights: no pass adds it, and its
gradient is computed with theirs. Widths are padded with zeros to whole cache lines. Blocks of rows pass through all
layers before the next block starts, in the backward pass too. The numbers equal those of
`metarl.learning.networks.perceptron` up to rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from metarl.learning.networks.perceptron import (
    ACTIVATIONS,
    CORE_BYTES,
    Activation,
    gram,
    on_cpu,
    times,
    times_transposed,
)

LINE = 16
"""float32 numbers per cache line."""
BLOCK_BYTES = 32 * 2**16
"""Size of one layer's rows per core and block: smaller blocks need more calls, larger ones exceed the cache."""
RELU = ACTIVATIONS["relu"]


def pays(sizes: Sequence[int], activation: Activation, rows: int, like: Tensor) -> bool:
    """Whether this module is faster than `perceptron`.

    Args:
        sizes: Units of the layers, input first.
        activation: Activation between the layers.
        rows: Rows of the batch.
        like: A tensor on the device of the batch.
    """
    hidden = len(sizes) > 2 and activation == "relu"
    return hidden and on_cpu(like) and 4 * rows * max(sizes) > CORE_BYTES


def columns(units: int) -> int:
    """Columns of a layer: its units, the unit that is always 1, and zeros up to a whole cache line."""
    return -(-(units + 1) // LINE) * LINE


def joined_weights(sizes: Sequence[int], parameters: Tensor) -> list[Tensor]:
    """Padded copies of each layer's weights with its bias, `[n, columns(in), columns(out)]`; of the last `[..., out]`.

    Args:
        sizes: Units of the layers, input first.
        parameters: `[n, P]` in the layout of `metarl.learning.networks.flat.mlp_layout`: each bias follows its weights.
    """
    weights, start, last = list[Tensor](), 0, len(sizes) - 2
    for i, (fan_in, fan_out) in enumerate(pairwise(sizes)):
        end = start + (fan_in + 1) * fan_out
        own = parameters[:, start:end].view(-1, fan_in + 1, fan_out)
        joined = own.new_empty(len(own), columns(fan_in), fan_out if i == last else columns(fan_out))
        joined[:, : fan_in + 1, :fan_out] = own
        joined[:, fan_in + 1 :] = 0.0
        joined[:, :, fan_out:] = 0.0
        if i < last:
            joined[:, fan_in, fan_out] = 1.0
        weights.append(joined)
        start = end
    return weights


def joined_columns(inputs: Sequence[Tensor]) -> Tensor:
    """Padded input of the first layer, `[1, B, columns(in)]`: concatenated inputs `[1, *rows, width]`.

    Args:
        inputs: All but the first may also be broadcast over rows.
    """
    rows, units = inputs[0].shape[:-1], sum(c.shape[-1] for c in inputs)
    beside = inputs[0].new_zeros(columns(units) - units)
    beside[0] = 1.0
    return torch.cat([c.expand(*rows, c.shape[-1]) for c in (*inputs, beside)], dim=-1).flatten(1, -2)


def evaluate(weights: Sequence[Tensor], x: Tensor, *, keep: bool) -> tuple[Tensor, list[Tensor]]:
    """Outputs `[n, B, out]`, and the inputs of each layer for `gradients`, one block after another.

    Args:
        weights: From `joined_weights`.
        x: From `joined_columns`.
        keep: Keep the inputs; otherwise the list is empty.
    """
    kept, outputs = list[Tensor](), list[Tensor]()
    n = len(weights[0])
    size = max(BLOCK_BYTES * torch.get_num_threads() // (4 * n * max(w.shape[1] for w in weights)), 1)
    size = -(-x.shape[1] // -(-x.shape[1] // size))  # blocks of equal size
    for h in torch.split(x.expand(n, -1, -1), size, dim=1):
        if keep:
            kept.append(h)
        for weight in weights[:-1]:
            h = RELU.replace(torch.bmm(h, weight))
            if keep:
                kept.append(h)
        outputs.append(times(h, weights[-1]))
    return torch.cat(outputs, dim=1), kept


def gradients(
    sizes: Sequence[int],
    weights: Sequence[Tensor],
    kept: Sequence[Tensor],
    cotangent: Tensor,
    *,
    parameters: bool,
    span: slice | None,
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of the parameters `[n, P]` and of a span of the inputs `[n, B, width]`; None if not requested.

    Args:
        sizes: Units of the layers, input first.
        weights: From `joined_weights`.
        kept: Inputs of each layer, from `evaluate`.
        cotangent: Cotangent of the outputs, `[n, B, out]`.
        parameters: Compute the gradient of the parameters.
        span: Columns of the input to compute the gradient of; None for no such gradient.
    """
    sums, by_block = list[Tensor](), list[Tensor]()
    for inputs, part in _blocks(kept, len(weights)):
        deltas = _vjp(weights, inputs, cotangent[:, part])
        if parameters:
            found = [gram(h, d) for h, d in zip(inputs, deltas, strict=True)]
            sums = [s.add_(f) for s, f in zip(sums, found, strict=True)] if sums else found
        if span is not None:
            by_block.append(times_transposed(deltas[0], weights[0][:, span]))
    own = (s[:, : fan_in + 1, :fan_out] for s, (fan_in, fan_out) in zip(sums, pairwise(sizes), strict=False))
    return (
        torch.cat([s.flatten(1) for s in own], dim=1) if parameters else None,
        None if span is None else torch.cat(by_block, dim=1),
    )


def smallest_gradient(
    weights: Sequence[Tensor], kept: Sequence[Tensor], which: Tensor, cotangent: Tensor, span: slice
) -> Tensor:
    """Gradient of a span of the inputs, `[1, B, width]`, through one selected network per row.

    Args:
        weights: From `joined_weights`.
        kept: Inputs of each layer, from `evaluate`.
        which: Index of each row's network, `[B]`.
        cotangent: Cotangent of each row's output, `[1, B, 1]`.
        span: Columns of the input.
    """
    x = cotangent.new_empty(1, len(which), span.stop - span.start)
    for inputs, part in _blocks(kept, len(weights)):
        for n in range(len(weights[0])):
            rows = (which[part] == n).nonzero().squeeze(-1)
            one = [w[n : n + 1] for w in weights]
            own = [
                inputs[0],
                *(h[n : n + 1].index_select(1, rows) for h in inputs[1:]),
            ]  # the input itself is not needed
            deltas = _vjp(one, own, cotangent[:, part].index_select(1, rows))
            x[:, part][:, rows] = times_transposed(deltas[0], one[0][:, span])
    return x


def _blocks(kept: Sequence[Tensor], layers: int) -> Iterator[tuple[Sequence[Tensor], slice]]:
    """The inputs of each layer for one block, and the slice of its rows."""
    start = 0
    for first in range(0, len(kept), layers):
        inputs = kept[first : first + layers]
        yield inputs, slice(start, start + inputs[0].shape[1])
        start += inputs[0].shape[1]


def _vjp(weights: Sequence[Tensor], inputs: Sequence[Tensor], cotangent: Tensor) -> list[Tensor]:
    """See `metarl.learning.networks.perceptron.vjp`; the values in the padding are not used."""
    deltas = [cotangent]  # from the last layer to the first
    for weight, h in zip(reversed(weights[1:]), reversed(inputs[1:]), strict=True):
        deltas.append(RELU.slope(times_transposed(deltas[-1], weight), h))
    return deltas[::-1]
