"""MLPs stacked over tasks, with first and second derivatives in closed form.

Autograd computes the same numbers, one operation at a time. In closed form, activations are applied in place, products
are accumulated as they are computed, and a Hessian-vector product takes one forward and one backward pass (Pearlmutter
1994, "Fast Exact Multiplication by the Hessian").

Let `h_0 = x`, `z_i = h_i W_i + b_i`, `h_(i+1) = f(z_i)`, and let the output be the last `z`. The backward pass of a
cotangent of the output is `d_(i-1) = f'(z_(i-1)) * (d_i W_i^T)`. The gradients are `h_i^T d_i` for `W_i`, the sum of
`d_i` over the batch for `b_i`, and `d_0 W_0^T` for `x`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

Activation = Literal["tanh", "relu"]
NARROW = 10
"""Largest number of columns for which a CPU computes a product faster transposed (BLAS vectorises the last axis)."""
CORE_BYTES = 15 * 2**16
"""Size of the rows that one core multiplies at once; together with the result, about the size of its cache."""


def on_cpu(x: Tensor) -> bool:
    """Whether `x` is on a CPU, with its caches and its BLAS."""
    return x.device.type == "cpu"


class ActivationFunction(ABC):
    """An activation `f`, applied in place, with derivatives as functions of its value `h = f(z)`."""

    @abstractmethod
    def replace(self, z: Tensor) -> Tensor:
        """`f(z)`, in the memory of `z`."""

    @abstractmethod
    def slope(self, tangent: Tensor, h: Tensor) -> Tensor:
        """`f'(z) * tangent`, in the memory of `tangent`."""

    @abstractmethod
    def bend(self, tangent: Tensor, delta: Tensor, h: Tensor) -> Tensor | None:
        """`f''(z) * tangent * c` for `delta = f'(z) * c`; None if `f''` is zero everywhere."""


class Tanh(ActivationFunction):
    """The hyperbolic tangent, `f' = 1 - h^2`, `f'' = -2 h f'`."""

    def replace(self, z: Tensor) -> Tensor:
        """`tanh(z)`; on a CPU as `2 / (1 + exp(-2 z)) - 1`, which is faster (largest error in float32: 2e-7)."""
        return z.mul_(2.0).sigmoid_().mul_(2.0).sub_(1.0) if on_cpu(z) else z.tanh_()

    def slope(self, tangent: Tensor, h: Tensor) -> Tensor:
        """See `ActivationFunction.slope`."""
        return torch.ops.aten.tanh_backward.grad_input(tangent, h, grad_input=tangent)

    def bend(self, tangent: Tensor, delta: Tensor, h: Tensor) -> Tensor:
        """See `ActivationFunction.bend`."""
        return (tangent * h).mul_(delta).mul_(-2.0)


class Relu(ActivationFunction):
    """The rectifier `max(z, 0)`, with slope 0 at zero."""

    def replace(self, z: Tensor) -> Tensor:
        """See `ActivationFunction.replace`."""
        return z.relu_()

    def slope(self, tangent: Tensor, h: Tensor) -> Tensor:
        """See `ActivationFunction.slope`."""
        return torch.ops.aten.threshold_backward.grad_input(tangent, h, 0.0, grad_input=tangent)

    def bend(self, tangent: Tensor, delta: Tensor, h: Tensor) -> None:
        """See `ActivationFunction.bend`."""
        return


ACTIVATIONS: dict[Activation, ActivationFunction] = {"tanh": Tanh(), "relu": Relu()}


class Layers(NamedTuple):
    """Parameters of an MLP per task, or numbers of the same shapes: gradients, tangents.

    Attributes:
        weights: One per layer, `[M, in, out]`.
        biases: One per layer, `[M, out]`.
    """

    weights: Sequence[Tensor]
    biases: Sequence[Tensor]


class Evaluation(NamedTuple):
    """A forward pass.

    Attributes:
        output: `[M, B, out]`.
        inputs: Input of each layer, `[M, B, in]`: x, then the activations.
    """

    output: Tensor
    inputs: Sequence[Tensor]


def _at_once(x: Tensor) -> bool:
    """Whether to multiply all tasks and rows of `x` in one call: always on a GPU.

    On a CPU each core takes some of the tasks, and the rows of one task should fit into its cache.
    """
    return not on_cpu(x) or 4 * x.shape[1] * x.shape[2] <= CORE_BYTES


def _blocks(x: Tensor) -> Iterator[tuple[slice, slice]]:
    """Slices of tasks and rows for a product in blocks: all cores share a block, which fits into their caches."""
    tasks, rows, columns = x.shape
    size = max(CORE_BYTES * torch.get_num_threads() // (4 * columns), 1)
    size = -(-rows // -(-rows // size))  # blocks of equal size
    for task in range(tasks):
        for start in range(0, rows, size):
            yield slice(task, task + 1), slice(start, start + size)


def _affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """`x W + b`, `[M, B, out]`."""
    if weight.shape[-1] <= NARROW and on_cpu(x):
        return torch.bmm(weight.mT, x.mT).mT.contiguous().add_(bias.unsqueeze(1))
    if _at_once(x):
        return torch.baddbmm(bias.unsqueeze(1), x, weight)
    z = x.new_empty(*x.shape[:2], weight.shape[-1])
    for tasks, rows in _blocks(x):
        torch.baddbmm(bias[tasks].unsqueeze(1), x[tasks, rows], weight[tasks], out=z[tasks, rows])
    return z


def times(x: Tensor, weight: Tensor) -> Tensor:
    """`x W`, `[M, B, out]`."""
    return torch.bmm(weight.mT, x.mT).mT if weight.shape[-1] <= NARROW and on_cpu(x) else torch.bmm(x, weight)


def _add_times(sum_: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """`sum + x W`, in the memory of `sum`."""
    if weight.shape[-1] <= NARROW and on_cpu(x):
        return sum_.add_(torch.bmm(weight.mT, x.mT).mT)
    if _at_once(x):
        return sum_.baddbmm_(x, weight)
    for tasks, rows in _blocks(x):
        sum_[tasks, rows].baddbmm_(x[tasks, rows], weight[tasks])
    return sum_


def times_transposed(delta: Tensor, weight: Tensor) -> Tensor:
    """`d W^T`, `[M, B, in]`."""
    if weight.shape[-1] == 1:  # an outer product
        return delta * weight.mT
    if weight.shape[1] <= NARROW and on_cpu(delta):
        return torch.bmm(weight, delta.mT).mT
    if _at_once(delta):
        return torch.bmm(delta, weight.mT)
    back = delta.new_empty(*delta.shape[:2], weight.shape[1])
    for tasks, rows in _blocks(delta):
        torch.bmm(delta[tasks, rows], weight[tasks].mT, out=back[tasks, rows])
    return back


def gram(h: Tensor, delta: Tensor) -> Tensor:
    """`h^T d`, `[M, in, out]`."""
    if delta.shape[-1] <= NARROW and on_cpu(h):
        return torch.bmm(delta.mT, h).mT
    return torch.bmm(h.mT, delta)


def evaluate(layers: Layers, x: Tensor, activation: Activation) -> Evaluation:
    """The forward pass for inputs `[M, B, in]`."""
    f, inputs = ACTIVATIONS[activation], [x]
    for weight, bias in zip(layers.weights[:-1], layers.biases[:-1], strict=True):
        inputs.append(f.replace(_affine(inputs[-1], weight, bias)))
    return Evaluation(_affine(inputs[-1], layers.weights[-1], layers.biases[-1]), inputs)


def vjp(layers: Layers, inputs: Sequence[Tensor], cotangent: Tensor, activation: Activation) -> list[Tensor]:
    """The backward pass (vector-Jacobian product): cotangents `d_i` of each layer's `z_i`, `[M, B, out]`.

    Args:
        layers: The parameters.
        inputs: Input of each layer, from `evaluate`.
        cotangent: Cotangent of the output, `[M, B, out]`.
        activation: Activation between the layers.
    """
    f = ACTIVATIONS[activation]
    deltas = [cotangent]  # from the last layer to the first
    for i in range(len(inputs) - 1, 0, -1):
        deltas.append(f.slope(times_transposed(deltas[-1], layers.weights[i]), inputs[i]))
    return deltas[::-1]


def parameter_gradients(inputs: Sequence[Tensor], deltas: Sequence[Tensor]) -> Layers:
    """Gradients of the parameters from the cotangents of `vjp`."""
    pairs = zip(inputs, deltas, strict=True)
    return Layers([gram(h, d) for h, d in pairs], [d.sum(dim=1) for d in deltas])


def input_gradient(layers: Layers, deltas: Sequence[Tensor], columns: slice) -> Tensor:
    """Gradient of some columns of the input from the cotangents of `vjp`, `[M, B, columns]`."""
    return times_transposed(deltas[0], layers.weights[0][:, columns])


class Tangents(NamedTuple):
    """A forward pass of tangents.

    Attributes:
        output: Tangent of the output, `[M, B, out]`.
        activations: Tangent of each hidden layer's activations, `[M, B, out]`.
        bends: For each hidden layer, the term with `f''` in the tangent of its `d_i`; None if zero or not requested.
    """

    output: Tensor
    activations: Sequence[Tensor]
    bends: Sequence[Tensor | None]


def jvp(
    layers: Layers,
    inputs: Sequence[Tensor],
    tangents: Layers,
    activation: Activation,
    *,
    deltas: Sequence[Tensor] | None = None,
) -> Tangents:
    """The Jacobian-vector product: the tangent of the output for tangents of the parameters.

    Args:
        layers: The parameters.
        inputs: Input of each layer, from `evaluate`.
        tangents: Tangents of the parameters.
        activation: Activation between the layers.
        deltas: Cotangents from `vjp`, if `gradients_jvp` is to follow.
    """
    f = ACTIVATIONS[activation]
    activations, bends = list[Tensor](), list[Tensor | None]()
    z = _affine(inputs[0], tangents.weights[0], tangents.biases[0])
    for i, h in enumerate(inputs[1:], start=1):
        bends.append(None if deltas is None else f.bend(z, deltas[i - 1], h))
        activations.append(f.slope(z, h))
        z = _affine(h, tangents.weights[i], tangents.biases[i])
        z = _add_times(z, activations[-1], layers.weights[i])
    return Tangents(z, activations, bends)


def gradients_jvp(
    layers: Layers,
    inputs: Sequence[Tensor],
    deltas: Sequence[Tensor],
    tangents: Layers,
    forward: Tangents,
    change: Tensor,
    activation: Activation,
) -> Layers:
    """Tangents of the parameters' gradients: the backward pass of a Hessian-vector product.

    Args:
        layers: The parameters.
        inputs: Input of each layer, from `evaluate`.
        deltas: Cotangents from `vjp`.
        tangents: Tangents of the parameters.
        forward: Forward pass of the tangents, from `jvp` with `deltas`.
        change: Tangent of the output's cotangent, `[M, B, out]`.
        activation: Activation between the layers.
    """
    f = ACTIVATIONS[activation]
    weights, biases = list[Tensor](), list[Tensor]()  # from the last layer to the first
    for i in range(len(inputs) - 1, -1, -1):
        weight = gram(inputs[i], change)
        biases.append(change.sum(dim=1))
        if i == 0:
            weights.append(weight)
            break
        weights.append(weight + gram(forward.activations[i - 1], deltas[i]))
        back = times_transposed(deltas[i], tangents.weights[i]).baddbmm_(change, layers.weights[i].mT)
        change, bend = f.slope(back, inputs[i]), forward.bends[i - 1]
        change = change if bend is None else change.add_(bend)
    return Layers(weights[::-1], biases[::-1])
