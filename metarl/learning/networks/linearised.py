"""A policy linearised at given parameters, and the derivatives of losses of its distributions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from metarl.learning.networks import perceptron
from metarl.learning.networks.distributions import Distribution
from metarl.learning.networks.flat import Layout, flat_gradients, mlp_layers
from metarl.learning.networks.perceptron import Activation, Layers

DistributionLoss = Callable[[Distribution], Tensor]
"""Maps action distributions over `[M, B]` to one loss per task, `[M]`."""


class LinearisedPolicy:
    """The distributions at given parameters, with the Jacobian products of their own parameters.

    A distribution's own parameters are mean `[M, B, A]` and log-std `[M, 1, A]`, or logits `[M, B, n]`.

    Args:
        layout: Layout of the parameters: an MLP, followed by `log_std` for a Gaussian.
        parameters: `[M, P]`.
        observations: `[M, B, O]`.
        activation: Activation between the layers.
        distribution: Maps the network's output and the arrays of the parameters to distributions.

    Attributes:
        distribution: The distributions, without a graph.
    """

    def __init__(
        self,
        layout: Layout,
        parameters: Tensor,
        observations: Tensor,
        activation: Activation,
        distribution: Callable[[Tensor, dict[str, Tensor]], Distribution],
    ) -> None:
        self.layout, self.activation = layout, activation
        arrays = layout.split(parameters.detach())
        self.layers = mlp_layers(arrays)
        output, self.inputs = perceptron.evaluate(self.layers, observations, activation)
        self.distribution = distribution(output, arrays)

    def split(self, tangent: Tensor) -> tuple[Layers, tuple[Tensor, ...]]:
        """Parts of a tangent `[M, P]`: those of the network, and that of the log-std `[M, 1, A]`, if there is one."""
        arrays = self.layout.split(tangent)
        rest = (arrays["log_std"].unsqueeze(1),) if "log_std" in arrays else ()
        return mlp_layers(arrays), rest

    def flat(self, gradients: Layers, rest: Sequence[Tensor]) -> Tensor:
        """A gradient `[M, P]` from its parts: the inverse of `split`."""
        return torch.cat([*flat_gradients(gradients), *(r.squeeze(1) for r in rest)], dim=1)

    def jvp(self, tangent: Tensor) -> tuple[Tensor, ...]:
        """Jacobian-vector product: tangents of mean and log-std, or of the logits, for a tangent `[M, P]`."""
        layers, rest = self.split(tangent)
        return perceptron.jvp(self.layers, self.inputs, layers, self.activation).output, *rest

    def vjp(self, cotangents: Sequence[Tensor]) -> Tensor:
        """Vector-Jacobian product: the gradient `[M, P]` for cotangents of mean and log-std, or of the logits."""
        output, *rest = cotangents
        deltas = perceptron.vjp(self.layers, self.inputs, output, self.activation)
        return self.flat(perceptron.parameter_gradients(self.inputs, deltas), rest)

    def cotangents(self, loss: DistributionLoss) -> tuple[Tensor, ...]:
        """Gradients of each task's loss with respect to mean and log-std, or to the logits."""
        _, gradients = head_gradients(self.distribution, loss, create_graph=False)
        return gradients


def head_gradients(
    distribution: Distribution, loss: DistributionLoss, *, create_graph: bool
) -> tuple[Distribution, tuple[Tensor, ...]]:
    """The distribution with its own parameters as leaves, and the gradients of a loss with respect to them."""
    leaves = type(distribution)(*(t.detach().requires_grad_() for t in distribution))
    with torch.enable_grad():
        gradients = torch.autograd.grad(
            loss(leaves).sum(), leaves, create_graph=create_graph, allow_unused=True, materialize_grads=True
        )
    return leaves, gradients


class HeadDerivatives(Protocol):
    """Derivatives of a loss with respect to the distributions' own parameters.

    These are mean `[M, B, A]` and log-std `[M, 1, A]`, or logits `[M, B, n]`, as are their gradients and tangents.

    Attributes:
        gradient: Gradient of the loss, without a graph.
    """

    gradient: tuple[Tensor, ...]

    def hessian_product(self, tangents: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Hessian of the loss times tangents of the distributions' own parameters."""


class HeadAutograd:
    """`HeadDerivatives` of any loss, by autograd.

    Args:
        distribution: Distributions to differentiate at, over `[M, B]`.
        loss: One loss per task, `[M]`.
    """

    def __init__(self, distribution: Distribution, loss: DistributionLoss) -> None:
        self._leaves, self._gradients = head_gradients(distribution, loss, create_graph=True)
        self.gradient = tuple(g.detach() for g in self._gradients)

    def hessian_product(self, tangents: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Hessian of the loss times tangents of the distributions' own parameters."""
        curved = [(g, t) for g, t in zip(self._gradients, tangents, strict=True) if g.requires_grad]
        if not curved:
            return tuple(torch.zeros_like(t) for t in tangents)
        # The gradient of a scalar: with `grad_outputs`, autograd.grad imports sympy, which takes a second.
        with torch.enable_grad():
            along = torch.stack([(g * t).sum() for g, t in curved]).sum()
        return torch.autograd.grad(along, self._leaves, retain_graph=True, allow_unused=True, materialize_grads=True)


class LossDerivatives:
    """Gradient and Hessian-vector products of a loss of the policy's distributions.

    Let J be the Jacobian of the policy, g and D the gradient and the Hessian of the loss over the distributions' own
    parameters. A Hessian-vector product is `J^T D J v + (dJ^T) g`, with the change `dJ^T` of `J^T` along `v`. One
    forward and one backward pass compute both terms (see `metarl.learning.networks.perceptron`).

    Args:
        policy: The policy, linearised at its parameters.
        head: Derivatives of one loss per task at the policy's distributions.

    Attributes:
        gradient: Gradient of each task's loss, `[M, P]`.
    """

    def __init__(self, policy: LinearisedPolicy, head: HeadDerivatives) -> None:
        self._policy, self._head = policy, head
        output, *rest = head.gradient
        self._deltas = perceptron.vjp(policy.layers, policy.inputs, output, policy.activation)
        self.gradient = policy.flat(perceptron.parameter_gradients(policy.inputs, self._deltas), rest)

    def hessian_product(self, v: Tensor, cotangents: Sequence[Tensor] = ()) -> Tensor:
        """`H v` plus `LinearisedPolicy.vjp` of further cotangents, in one pass, `[M, P]`; `v` is `[M, P]`."""
        policy = self._policy
        layers, rest = policy.split(v)
        forward = perceptron.jvp(policy.layers, policy.inputs, layers, policy.activation, deltas=self._deltas)
        change, *others = self._head.hessian_product((forward.output, *rest))
        if cotangents:
            change, *others = (a + b for a, b in zip((change, *others), cotangents, strict=True))
        gradients = perceptron.gradients_jvp(
            policy.layers, policy.inputs, self._deltas, layers, forward, change, policy.activation
        )
        return policy.flat(gradients, others)
