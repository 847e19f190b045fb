"""The outer objective of an adaptation that autograd differentiates as a whole, for the trust-region step."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from metarl.learning.gradient.losses import mean_divergence, surrogate_objective
from metarl.learning.gradient.policy import Samples
from metarl.learning.networks.distributions import Distribution


class AutogradObjective:
    """Outer objective and divergence of some tasks, linearised at the meta-parameters.

    It is a `ChunkLinearisation` of any map from meta-parameters to the adapted policies' distributions. A product with
    the transposed Jacobian is one backward pass. It is linear in the cotangents, so a backward pass through it, with
    respect to these, is a product with the Jacobian itself.

    Args:
        distribution: Maps meta-parameters `[Q]` to the distributions after adaptation at the observations of `last`,
            differentiable twice if the argument requires a gradient.
        meta_parameters: `[Q]`.
        last: Samples of the collect after adaptation.

    Attributes:
        gradient: Gradient of the surrogate, summed over the tasks, `[Q]`.
    """

    def __init__(self, distribution: Callable[[Tensor], Distribution], meta_parameters: Tensor, last: Samples) -> None:
        self._distribution, self._last = distribution, last
        self._leaf = meta_parameters.detach().requires_grad_()
        with torch.enable_grad():
            self._new = distribution(self._leaf)
            self._old = self._new.detach()
            gain = surrogate_objective(self._new, self._old, last).sum()
        (self.gradient,) = torch.autograd.grad(gain, self._leaf, retain_graph=True)
        self._pulled: tuple[list[Tensor], Tensor] | None = None

    def jvp(self, v: Tensor) -> tuple[Tensor, ...]:
        """Tangents of mean and log-std, or of the logits, for a tangent `[Q]`."""
        with torch.enable_grad():
            if self._pulled is None:  # the same graph serves all tangents
                cotangents = [torch.zeros_like(t, requires_grad=True) for t in self._old]
                (pulled,) = torch.autograd.grad(self._along(cotangents), self._leaf, create_graph=True)
                self._pulled = cotangents, pulled
            cotangents, pulled = self._pulled
            along = (pulled * v).sum()
        return torch.autograd.grad(along, cotangents, retain_graph=True, allow_unused=True, materialize_grads=True)

    def vjp(self, cotangents: tuple[Tensor, ...]) -> Tensor:
        """Gradient `[Q]` for cotangents of mean and log-std, or of the logits."""
        with torch.enable_grad():
            along = self._along(cotangents)
        (product,) = torch.autograd.grad(along, self._leaf, retain_graph=True)
        return product

    def _along(self, cotangents: list[Tensor] | tuple[Tensor, ...]) -> Tensor:
        return torch.stack([(t * c).sum() for t, c in zip(self._new, cotangents, strict=True)]).sum()

    def curvature_product(self, v: Tensor) -> Tensor:
        """See `ChunkLinearisation.curvature_product`."""
        return self.vjp(self._old.metric_product(self.jvp(v), self._last.weights))

    def evaluate(self, meta_parameters: Tensor) -> Tensor:
        """See `ChunkLinearisation.evaluate`."""
        new, last = self._distribution(meta_parameters.detach()).detach(), self._last
        return torch.stack(
            [surrogate_objective(new, self._old, last).sum(), mean_divergence(new, self._old, last).sum()]
        )
