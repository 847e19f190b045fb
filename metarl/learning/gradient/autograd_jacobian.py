"""Products with the Jacobian of any differentiable map, by autograd."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class AutogradJacobian:
    """The Jacobian of some tensors with respect to a vector, from their graph.

    A product with the transposed Jacobian is one backward pass. It is linear in the cotangents, so a second backward
    pass, through the first one and with respect to its cotangents, is a product with the Jacobian itself.

    Args:
        outputs: The tensors, with a graph that is differentiable twice.
        leaf: The vector, `[Q]`.
    """

    def __init__(self, outputs: Sequence[Tensor], leaf: Tensor) -> None:
        self._outputs, self._leaf = tuple(outputs), leaf
        self._pulled: tuple[list[Tensor], Tensor] | None = None

    def _along(self, cotangents: Sequence[Tensor]) -> Tensor:
        return torch.stack([(t * c).sum() for t, c in zip(self._outputs, cotangents, strict=True)]).sum()

    def vjp(self, cotangents: Sequence[Tensor]) -> Tensor:
        """The product of the transposed Jacobian and a cotangent for each output, `[Q]`."""
        with torch.enable_grad():
            along = self._along(cotangents)
        (product,) = torch.autograd.grad(along, self._leaf, retain_graph=True)
        return product

    def jvp(self, v: Tensor) -> tuple[Tensor, ...]:
        """The product of the Jacobian and a tangent `[Q]`: a tangent of each output."""
        with torch.enable_grad():
            if self._pulled is None:  # the same graph serves all tangents
                cotangents = [torch.zeros_like(t, requires_grad=True) for t in self._outputs]
                (pulled,) = torch.autograd.grad(self._along(cotangents), self._leaf, create_graph=True)
                self._pulled = cotangents, pulled
            cotangents, pulled = self._pulled
            along = (pulled * v).sum()
        return torch.autograd.grad(along, cotangents, retain_graph=True, allow_unused=True, materialize_grads=True)
