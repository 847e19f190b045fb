"""A policy around given parameters: what its distributions and the losses of them do when the parameters move."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from metarl.learning.networks.distributions import Distribution
from metarl.learning.networks.flat import Layout, flat_gradients, mlp_layers
from metarl.learning.networks.perceptron import (
    Activation,
    Layers,
    evaluate,
    parameter_gradients,
    pull,
    pull_tangents,
    push,
)

DistributionLoss = Callable[[Distribution], Tensor]
"""Maps action distributions over `[M, B]` to one loss per task, `[M]`."""


class LinearisedPolicy:
    """The distributions at given parameters, and the products with the Jacobian of what they are made of.

    Args:
        layout: Of the parameters: a perceptron, then perhaps `log_std`.
        parameters: `[M, P]`.
        observations: `[M, B, O]`.
        activation: Between the layers.
        distribution: From the network's output and the arrays of the parameters.

    Attributes:
        distribution: The distributions, without history.
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
        output, self.inputs = evaluate(self.layers, observations, activation)
        self.distribution = distribution(output, arrays)

    def along(self, tangent: Tensor) -> tuple[Layers, tuple[Tensor, ...]]:
        """A tangent `[M, P]` as the network's share of it, and that of the log-std `[M, 1, A]` if there is one."""
        arrays = self.layout.split(tangent)
        rest = (arrays["log_std"].unsqueeze(1),) if "log_std" in arrays else ()
        return mlp_layers(arrays), rest

    def flat(self, gradients: Layers, rest: Sequence[Tensor]) -> Tensor:
        """A gradient `[M, P]` from the network's share of it and that of the log-std, if there is one."""
        return torch.cat([*flat_gradients(gradients), *(r.squeeze(1) for r in rest)], dim=1)

    def push(self, tangent: Tensor) -> tuple[Tensor, ...]:
        """From a tangent of the parameters, `[M, P]`, to those of mean and log-std, or of the logits."""
        layers, rest = self.along(tangent)
        return push(self.layers, self.inputs, layers, self.activation).output, *rest

    def pull(self, cotangents: Sequence[Tensor]) -> Tensor:
        """From cotangents of mean and log-std, or of the logits, to the gradient `[M, P]`."""
        output, *rest = cotangents
        deltas = pull(self.layers, self.inputs, output, self.activation)
        return self.flat(parameter_gradients(self.inputs, deltas), rest)

    def cotangents(self, loss: DistributionLoss) -> tuple[Tensor, ...]:
        """Gradients of the tasks' losses with respect to mean and log-std, or to the logits."""
        _, gradients = head_gradients(self.distribution, loss, create_graph=False)
        return gradients


def head_gradients(
    distribution: Distribution, loss: DistributionLoss, *, create_graph: bool
) -> tuple[Distribution, tuple[Tensor, ...]]:
    """The distribution's parameters as leaves, and the gradients of a loss with respect to them."""
    leaves = type(distribution)(*(t.detach().requires_grad_() for t in distribution))
    with torch.enable_grad():
        gradients = torch.autograd.grad(
            loss(leaves).sum(), leaves, create_graph=create_graph, allow_unused=True, materialize_grads=True
        )
    return leaves, gradients


class HeadDerivatives(Protocol):
    """Derivatives of a loss with respect to what the distributions are made of.

    That is mean `[M, B, A]` and log-std `[M, 1, A]`, or the logits `[M, B, n]`; gradient and tangents are shaped alike.

    Attributes:
        gradient: Of the loss, without history.
    """

    gradient: tuple[Tensor, ...]

    def hessian_product(self, tangents: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The loss's Hessian times tangents of what the distributions are made of."""


class HeadAutograd:
    """`HeadDerivatives` of any loss, by autograd.

    Args:
        distribution: Where to differentiate, over `[M, B]`.
        loss: One loss per task, `[M]`.
    """

    def __init__(self, distribution: Distribution, loss: DistributionLoss) -> None:
        self._leaves, self._gradients = head_gradients(distribution, loss, create_graph=True)
        self.gradient = tuple(g.detach() for g in self._gradients)

    def hessian_product(self, tangents: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The loss's Hessian times tangents of what the distributions are made of."""
        curved = [(g, t) for g, t in zip(self._gradients, tangents, strict=True) if g.requires_grad]
        if not curved:
            return tuple(torch.zeros_like(t) for t in tangents)
        # As a number to differentiate: handed the tangents, autograd.grad imports sympy, a second of the first update.
        with torch.enable_grad():
            along = torch.stack([(g * t).sum() for g, t in curved]).sum()
        return torch.autograd.grad(along, self._leaves, retain_graph=True, allow_unused=True, materialize_grads=True)


class LossDerivatives:
    """Gradient of a loss of the policy's distributions, and products with its Hessian.

    With the policy's Jacobian J and the loss's Hessian D over the distributions' parameters, the Hessian over the
    policy's parameters is `J^T D J` and the change of `J^T` along the tangent, times the loss's gradient: both in
    one pass forwards and one backwards (see `metarl.learning.networks.perceptron`).

    Args:
        policy: Around the parameters.
        head: Of one loss per task, at the policy's distributions.

    Attributes:
        gradient: Of each task's loss, `[M, P]`.
    """

    def __init__(self, policy: LinearisedPolicy, head: HeadDerivatives) -> None:
        self._policy, self._head = policy, head
        output, *rest = head.gradient
        self._deltas = pull(policy.layers, policy.inputs, output, policy.activation)
        self.gradient = policy.flat(parameter_gradients(policy.inputs, self._deltas), rest)

    def hessian_product(self, v: Tensor, cotangents: Sequence[Tensor] = ()) -> Tensor:
        """`H v`, and what `LinearisedPolicy.pull` makes of further cotangents, together `[M, P]`; `v` is `[M, P]`."""
        policy = self._policy
        layers, rest = policy.along(v)
        pushed = push(policy.layers, policy.inputs, layers, policy.activation, deltas=self._deltas)
        change, *others = self._head.hessian_product((pushed.output, *rest))
        if cotangents:
            change, *others = (a + b for a, b in zip((change, *others), cotangents, strict=True))
        gradients = pull_tangents(policy.layers, policy.inputs, self._deltas, layers, pushed, change, policy.activation)
        return policy.flat(gradients, others)
