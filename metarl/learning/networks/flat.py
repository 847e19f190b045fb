"""Networks as pure functions of a flat parameter vector per task.

A network is one row of a tensor `[M, P]`. A gradient step, a dot product of conjugate gradients, or a candidate of the
line search is then a single tensor operation over all tasks, and each layer is one batched matrix product.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metarl.learning.networks import wide
from metarl.learning.networks.perceptron import (
    Activation,
    Layers,
    evaluate,
    input_gradient,
    on_cpu,
    parameter_gradients,
    vjp,
)


@dataclass(frozen=True)
class Layout:
    """The positions of named arrays in a flat parameter vector.

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
    """Names and shapes of the arrays of an MLP with the given layer sizes, input first."""
    shapes: list[tuple[str, tuple[int, ...]]] = []
    for i, (fan_in, fan_out) in enumerate(pairwise(sizes)):
        shapes += [(f"weight_{i}", (fan_in, fan_out)), (f"bias_{i}", (fan_out,))]
    return tuple(shapes)


def mlp_init(sizes: Sequence[int], rng: np.random.Generator) -> Tensor:
    """Initial parameters of an MLP, `[P]`: Xavier-uniform weights (Glorot and Bengio 2010), zero biases."""
    pieces = []
    for fan_in, fan_out in pairwise(sizes):
        bound = math.sqrt(6.0 / (fan_in + fan_out))
        pieces += [rng.uniform(-bound, bound, fan_in * fan_out), np.zeros(fan_out)]
    return torch.tensor(np.concatenate(pieces), dtype=torch.float32)


def mlp_layers(arrays: Mapping[str, Tensor]) -> Layers:
    """The arrays `weight_i` `[M, in, out]` and `bias_i` `[M, out]` of `arrays`, layer by layer."""
    layers = range(sum(name.startswith("weight_") for name in arrays))
    return Layers([arrays[f"weight_{i}"] for i in layers], [arrays[f"bias_{i}"] for i in layers])


def flat_gradients(gradients: Layers) -> list[Tensor]:
    """Gradients `[M, ...]` of `mlp_layers` in the order of `mlp_layout`, each flattened to `[M, size]`."""
    return [t.flatten(1) for layer in zip(*gradients, strict=True) for t in layer]


@dataclass(frozen=True)
class Perceptrons:
    """MLPs of the same shape as functions of their flat parameters, one network per row.

    Args:
        sizes: Units of the layers, input first.
        activation: Activation between the layers.
    """

    sizes: tuple[int, ...]
    activation: Activation

    @cached_property
    def layout(self) -> Layout:
        """Layout of the parameters of one network."""
        return Layout(mlp_layout(self.sizes))

    @property
    def depth(self) -> int:
        """Number of layers, the last one included."""
        return len(self.sizes) - 1

    def layers(self, parameters: Tensor) -> Layers:
        """Parameters `[n, P]` as views, layer by layer."""
        return mlp_layers(self.layout.split(parameters))

    def __call__(self, parameters: Tensor, columns: Sequence[Tensor]) -> Tensor:
        """Outputs of the networks, differentiable once by autograd.

        A gradient with `create_graph=True` raises a RuntimeError.

        Args:
            parameters: `[n, P]`.
            columns: Parts of the inputs, each `[n, *rows, width]`, or `[1, *rows, width]` for all networks; all but the
                first may also be broadcast over rows.

        Returns:
            `[n, *rows, out]`.
        """
        if not torch.is_grad_enabled():
            return _evaluate(self, parameters, columns, keep=False)[0]
        output: Tensor = _Differentiable.apply(self, parameters, *columns)  # type: ignore[no-untyped-call]  # torch has no types
        return output

    def smallest(self, parameters: Tensor, columns: Sequence[Tensor]) -> Tensor:
        """Minimum over the networks of their single output, differentiable once by the columns only.

        The gradient of a row passes through the network with the smallest output.

        Args:
            parameters: `[n, P]`; must not require a gradient.
            columns: Parts of the inputs, as for a call, shared by all networks.

        Returns:
            `[*rows]`.
        """
        if not torch.is_grad_enabled():
            return _evaluate(self, parameters, columns, keep=False)[0].squeeze(-1).amin(dim=0)
        output: Tensor = _Smallest.apply(self, parameters, *columns)  # type: ignore[no-untyped-call]  # torch has no types
        return output


def _evaluate(
    networks: Perceptrons, parameters: Tensor, columns: Sequence[Tensor], *, keep: bool
) -> tuple[Tensor, Sequence[Tensor]]:
    """Outputs `[n, *rows, out]`, and the tensors for the backward pass (those of `wide` only if `keep`)."""
    n, rows = len(parameters), columns[0].shape[:-1]
    if _wide(networks, columns):
        weights = wide.joined_weights(networks.sizes, parameters)
        output, kept = wide.evaluate(weights, wide.joined_columns(columns), keep=keep)
        return output.view(n, *rows[1:], networks.sizes[-1]), [*weights, *kept]
    x = columns[0]
    if len(columns) > 1:
        x = torch.cat([c.expand(*rows, c.shape[-1]) for c in columns], dim=-1)
    x = x.flatten(1, -2)
    output, inputs = evaluate(networks.layers(parameters), x.expand(n, *x.shape[1:]), networks.activation)
    return output.view(n, *rows[1:], networks.sizes[-1]), inputs


def _wide(networks: Perceptrons, columns: Sequence[Tensor]) -> bool:
    """Whether `metarl.learning.networks.wide` is faster for this number of rows."""
    return wide.pays(networks.sizes, networks.activation, columns[0].shape[1:-1].numel(), columns[0])


class _Differentiable(torch.autograd.Function):
    """The outputs as functions of parameters and columns; differentiable once."""

    @staticmethod
    def forward(ctx: Any, networks: Perceptrons, parameters: Tensor, *columns: Tensor) -> Tensor:
        output, kept = _evaluate(networks, parameters, columns, keep=True)
        ctx.networks, ctx.shapes, ctx.wide = networks, [c.shape for c in columns], _wide(networks, columns)
        ctx.save_for_backward(parameters, *kept)
        return output

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        _refuse_second_derivative()
        parameters, *kept = ctx.saved_tensors
        _, want_parameters, *wanted = ctx.needs_input_grad
        networks, span, flat = ctx.networks, _span(ctx.shapes, wanted), cotangent.flatten(1, -2)
        if ctx.wide:
            weights, kept = kept[: networks.depth], kept[networks.depth :]
            gradient, x = wide.gradients(networks.sizes, weights, kept, flat, parameters=want_parameters, span=span)
        else:
            layers, gradient = networks.layers(parameters), None
            deltas = vjp(layers, kept, flat, networks.activation)
            if want_parameters:
                gradient = torch.cat(flat_gradients(parameter_gradients(kept, deltas)), dim=1)
            x = None if span is None else input_gradient(layers, deltas, span)
        if x is None or span is None:
            return None, gradient, *(None for _ in wanted)
        return None, gradient, *_by_column(x.view(*cotangent.shape[:-1], -1), span, ctx.shapes, wanted)


class _Smallest(torch.autograd.Function):
    """The smallest output as a function of the columns; differentiable once."""

    @staticmethod
    def forward(ctx: Any, networks: Perceptrons, parameters: Tensor, *columns: Tensor) -> Tensor:
        outputs, kept = _evaluate(networks, parameters, columns, keep=True)
        smallest, which = outputs.squeeze(-1).min(dim=0)
        ctx.networks, ctx.shapes, ctx.wide = networks, [c.shape for c in columns], _wide(networks, columns)
        ctx.save_for_backward(parameters, which, *kept)
        return smallest

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        _refuse_second_derivative()
        parameters, which, *kept = ctx.saved_tensors
        _, want_parameters, *wanted = ctx.needs_input_grad
        span = _span(ctx.shapes, wanted)
        if want_parameters or span is None:
            raise RuntimeError("smallest: got parameters that require a gradient, expected detached ones")
        networks, which, flat = ctx.networks, which.flatten(), cotangent.reshape(1, -1, 1)
        if ctx.wide:
            weights, kept = kept[: networks.depth], kept[networks.depth :]
            x = wide.smallest_gradient(weights, kept, which, flat, span)
        else:
            x = _vjp_smallest(networks, parameters, kept, which, flat, span)
        return None, None, *_by_column(x.view(1, *cotangent.shape, -1), span, ctx.shapes, wanted)


def _vjp_smallest(
    networks: Perceptrons, parameters: Tensor, inputs: Sequence[Tensor], which: Tensor, cotangent: Tensor, span: slice
) -> Tensor:
    """Gradient of a span of the inputs, `[1, B, width]`, through one selected network per row.

    Args:
        networks: The networks.
        parameters: `[n, P]`.
        inputs: Input of each layer, `[n, B, in]`.
        which: Index of each row's network, `[B]`.
        cotangent: Cotangent of each row's output, `[1, B, 1]`.
        span: Columns of the input.
    """
    if not on_cpu(cotangent):  # all rows through all networks: selecting rows would make the host wait for the GPU
        layers = networks.layers(parameters)
        own = which == torch.arange(len(parameters), device=which.device).unsqueeze(-1)
        deltas = vjp(layers, inputs, cotangent * own.unsqueeze(-1), networks.activation)
        return input_gradient(layers, deltas, span).sum(dim=0, keepdim=True)
    x = cotangent.new_empty(1, len(which), span.stop - span.start)
    for n in range(len(parameters)):
        rows = (which == n).nonzero().squeeze(-1)
        one = networks.layers(parameters[n : n + 1])
        kept = [inputs[0], *(h[n : n + 1].index_select(1, rows) for h in inputs[1:])]  # the input itself is not needed
        deltas = vjp(one, kept, cotangent.index_select(1, rows), networks.activation)
        x[:, rows] = input_gradient(one, deltas, span)
    return x


def _refuse_second_derivative() -> None:
    if torch.is_grad_enabled():  # the second derivative would be silently wrong
        raise RuntimeError(
            "perceptrons: got create_graph=True, expected a first derivative; for a second one use "
            "metarl.learning.networks.linearised.LossDerivatives, or layers of torch.nn"
        )


def _spans(shapes: Sequence[torch.Size]) -> list[tuple[int, int]]:
    """Start and end of each part within the inputs."""
    return list(pairwise([0, *accumulate(shape[-1] for shape in shapes)]))


def _span(shapes: Sequence[torch.Size], wanted: Sequence[bool]) -> slice | None:
    """The smallest slice of the inputs with all parts that need a gradient; None if no part does."""
    ends = [end for span, want in zip(_spans(shapes), wanted, strict=True) if want for end in span]
    return slice(min(ends), max(ends)) if ends else None


def _by_column(x: Tensor, span: slice, shapes: Sequence[torch.Size], wanted: Sequence[bool]) -> list[Tensor | None]:
    """Gradients of the parts from that of their span `[n, *rows, width]`, summed over broadcast axes."""
    return [
        x[..., start - span.start : stop - span.start].sum_to_size(shape) if want else None
        for (start, stop), shape, want in zip(_spans(shapes), shapes, wanted, strict=True)
    ]
