"""Perceptrons stacked over tasks, with their first and second derivatives written out.

Autograd would find the same numbers operation by operation. Written out, activations are replaced in place, products
are added up as they are computed, and a product with the Hessian goes once forwards and once backwards through the
network (Pearlmutter 1994, "Fast Exact Multiplication by the Hessian").

With `h_0 = x`, `z_i = h_i W_i + b_i`, `h_(i+1) = f(z_i)` and the last `z` as the output: a cotangent of the output
goes back as `d_(i-1) = f'(z_(i-1)) * (d_i W_i^T)`, and the gradients are `h_i^T d_i` for `W_i`, the sum of `d_i` over
the batch for `b_i`, and `d_0 W_0^T` for `x`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

Activation = Literal["tanh", "relu"]
NARROW = 10
"""Columns up to which a product on the CPU is faster transposed: BLAS fills its registers along the last axis."""
CORE_BYTES = 15 * 2**16
"""Of rows that a core multiplies at once: with the result, about what its own cache holds."""


def on_cpu(x: Tensor) -> bool:
    """Whether what is true of caches and BLAS on a CPU is true of `x`."""
    return x.device.type == "cpu"


class ActivationFunction(ABC):
    """An activation `f`, applied in place; its derivatives are functions of its value `h = f(z)`."""

    @abstractmethod
    def replace(self, z: Tensor) -> Tensor:
        """`f(z)`, in the memory of `z`."""

    @abstractmethod
    def slope(self, tangent: Tensor, h: Tensor) -> Tensor:
        """`f'(z) * tangent`, in the memory of `tangent`."""

    @abstractmethod
    def bend(self, tangent: Tensor, delta: Tensor, h: Tensor) -> Tensor | None:
        """`f''(z) * tangent * c` for `delta = f'(z) * c`; None where it is zero."""


class Tanh(ActivationFunction):
    """The hyperbolic tangent, `f' = 1 - h^2`, `f'' = -2 h f'`."""

    def replace(self, z: Tensor) -> Tensor:
        """On the CPU as `2 / (1 + exp(-2 z)) - 1`, which is faster; float32 is off by at most 2e-7."""
        return z.mul_(2.0).sigmoid_().mul_(2.0).sub_(1.0) if on_cpu(z) else z.tanh_()

    def slope(self, tangent: Tensor, h: Tensor) -> Tensor:
        """See `ActivationFunction.slope`."""
        return torch.ops.aten.tanh_backward.grad_input(tangent, h, grad_input=tangent)

    def bend(self, tangent: Tensor, delta: Tensor, h: Tensor) -> Tensor:
        """See `ActivationFunction.bend`."""
        return (tangent * h).mul_(delta).mul_(-2.0)


class Relu(ActivationFunction):
    """The positive part; at zero its slope is 0."""

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
    """Numbers shaped like the parameters of a perceptron per task: its parameters, their gradients or tangents.

    Attributes:
        weights: Of each layer, `[M, in, out]`.
        biases: Of each layer, `[M, out]`.
    """

    weights: Sequence[Tensor]
    biases: Sequence[Tensor]


class Evaluation(NamedTuple):
    """A forward pass.

    Attributes:
        output: `[M, B, out]`.
        inputs: Of each layer, `[M, B, in]`: x, then the activations.
    """

    output: Tensor
    inputs: Sequence[Tensor]


def _at_once(x: Tensor) -> bool:
    """Whether a product with all tasks and rows of `x` is as fast as can be: always on a GPU.

    On the CPU every core takes tasks of its own, and one task's rows should stay in its cache.
    """
    return not on_cpu(x) or 4 * x.shape[1] * x.shape[2] <= CORE_BYTES


def _blocks(x: Tensor) -> Iterator[tuple[slice, slice]]:
    """Tasks and rows of a product where all cores work on one block after the other, each on what its cache holds."""
    tasks, rows, columns = x.shape
    size = max(CORE_BYTES * torch.get_num_threads() // (4 * columns), 1)
    size = -(-rows // -(-rows // size))  # blocks of the same size
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
    """The forward pass at inputs `[M, B, in]`."""
    f, inputs = ACTIVATIONS[activation], [x]
    for weight, bias in zip(layers.weights[:-1], layers.biases[:-1], strict=True):
        inputs.append(f.replace(_affine(inputs[-1], weight, bias)))
    return Evaluation(_affine(inputs[-1], layers.weights[-1], layers.biases[-1]), inputs)


def pull(layers: Layers, inputs: Sequence[Tensor], cotangent: Tensor, activation: Activation) -> list[Tensor]:
    """The backward pass: cotangents of each layer's `z`, `[M, B, out]`.

    Args:
        layers: The parameters.
        inputs: Of each layer, from `evaluate`.
        cotangent: Of the output, `[M, B, out]`.
        activation: Between the layers.
    """
    f = ACTIVATIONS[activation]
    deltas = [cotangent]  # of the last layer first
    for i in range(len(inputs) - 1, 0, -1):
        deltas.append(f.slope(times_transposed(deltas[-1], layers.weights[i]), inputs[i]))
    return deltas[::-1]


def parameter_gradients(inputs: Sequence[Tensor], deltas: Sequence[Tensor]) -> Layers:
    """What `pull` found, as gradients of the parameters."""
    pairs = zip(inputs, deltas, strict=True)
    return Layers([gram(h, d) for h, d in pairs], [d.sum(dim=1) for d in deltas])


def input_gradient(layers: Layers, deltas: Sequence[Tensor], columns: slice) -> Tensor:
    """What `pull` found, as gradient of some columns of the network's input, `[M, B, columns]`."""
    return times_transposed(deltas[0], layers.weights[0][:, columns])


class Pushforward(NamedTuple):
    """A forward pass of tangents.

    Attributes:
        output: `[M, B, out]`.
        activations: Of each hidden layer, `[M, B, out]`.
        bends: Of each hidden layer, what the change of its slope adds to the change of its delta, where asked for.
    """

    output: Tensor
    activations: Sequence[Tensor]
    bends: Sequence[Tensor | None]


def push(
    layers: Layers,
    inputs: Sequence[Tensor],
    tangents: Layers,
    activation: Activation,
    *,
    deltas: Sequence[Tensor] | None = None,
) -> Pushforward:
    """The tangent of the output along tangents of the parameters.

    Args:
        layers: The parameters.
        inputs: Of each layer, from `evaluate`.
        tangents: Of the parameters.
        activation: Between the layers.
        deltas: From `pull`, if `pull_tangents` is to follow.
    """
    f = ACTIVATIONS[activation]
    activations, bends = list[Tensor](), list[Tensor | None]()
    z = _affine(inputs[0], tangents.weights[0], tangents.biases[0])
    for i, h in enumerate(inputs[1:], start=1):
        bends.append(None if deltas is None else f.bend(z, deltas[i - 1], h))
        activations.append(f.slope(z, h))
        z = _affine(h, tangents.weights[i], tangents.biases[i])
        z = _add_times(z, activations[-1], layers.weights[i])
    return Pushforward(z, activations, bends)


def pull_tangents(
    layers: Layers,
    inputs: Sequence[Tensor],
    deltas: Sequence[Tensor],
    tangents: Layers,
    pushed: Pushforward,
    change: Tensor,
    activation: Activation,
) -> Layers:
    """How the parameters' gradients change along tangents of the parameters.

    Args:
        layers: The parameters.
        inputs: Of each layer, from `evaluate`.
        deltas: From `pull`.
        tangents: Of the parameters.
        pushed: From `push`, with its bends.
        change: Of the output's cotangent, `[M, B, out]`.
        activation: Between the layers.
    """
    f = ACTIVATIONS[activation]
    weights, biases = list[Tensor](), list[Tensor]()  # of the last layer first
    for i in range(len(inputs) - 1, -1, -1):
        weight = gram(inputs[i], change)
        biases.append(change.sum(dim=1))
        if i == 0:
            weights.append(weight)
            break
        weights.append(weight + gram(pushed.activations[i - 1], deltas[i]))
        back = times_transposed(deltas[i], tangents.weights[i]).baddbmm_(change, layers.weights[i].mT)
        change, bend = f.slope(back, inputs[i]), pushed.bends[i - 1]
        change = change if bend is None else change.add_(bend)
    return Layers(weights[::-1], biases[::-1])
