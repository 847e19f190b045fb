"""The outer objective of an adaptation that autograd differentiates as a whole, for the trust-region step."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from metarl.learning.gradient.autograd_jacobian import AutogradJacobian
from metarl.learning.gradient.losses import mean_divergence, surrogate_objective
from metarl.learning.gradient.policy import Samples
from metarl.learning.networks.distributions import Distribution


class AutogradObjective:
    """Outer objective and divergence of some tasks, linearised at the meta-parameters.

    It is a `ChunkLinearisation` of any map from meta-parameters to the adapted policies' distributions.

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
        leaf = meta_parameters.detach().requires_grad_()
        with torch.enable_grad():
            new = distribution(leaf)
            self._old = new.detach()
            gain = surrogate_objective(new, self._old, last).sum()
        (self.gradient,) = torch.autograd.grad(gain, leaf, retain_graph=True)
        self._jacobian = AutogradJacobian(new, leaf)

    def jvp(self, v: Tensor) -> tuple[Tensor, ...]:
        """Tangents of mean and log-std, or of the logits, for a tangent `[Q]`."""
        return self._jacobian.jvp(v)

    def vjp(self, cotangents: tuple[Tensor, ...]) -> Tensor:
        """Gradient `[Q]` for cotangents of mean and log-std, or of the logits."""
        return self._jacobian.vjp(cotangents)

    def curvature_product(self, v: Tensor) -> Tensor:
        """See `ChunkLinearisation.curvature_product`."""
        return self.vjp(self._old.metric_product(self.jvp(v), self._last.weights))

    def evaluate(self, meta_parameters: Tensor) -> Tensor:
        """See `ChunkLinearisation.evaluate`."""
        new, last = self._distribution(meta_parameters.detach()).detach(), self._last
        return torch.stack(
            [surrogate_objective(new, self._old, last).sum(), mean_divergence(new, self._old, last).sum()]
        )
