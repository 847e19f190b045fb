"""Distributions over actions: log-probability, divergence, and the divergence's curvature.

Both kinds are tuples of their parameters with the same methods, so that an agent need not ask which one it has.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)


class Gaussian(NamedTuple):
    """Independent normal distributions; the last axis is the action's.

    Args:
        mean: `[..., A]`.
        log_std: Logarithm of the standard deviation, broadcast against `mean`.
    """

    mean: Tensor
    log_std: Tensor

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density of `x` `[..., A]`, summed over the action: `[...]`."""
        z = (x - self.mean) * torch.exp(-self.log_std)
        return (-0.5 * z.square() - self.log_std - HALF_LOG_TWO_PI).sum(dim=-1)

    def entropy(self) -> Tensor:
        """Differential entropy in nats, summed over the action."""
        return (self.log_std + HALF_LOG_TWO_PI + 0.5).expand_as(self.mean).sum(dim=-1)

    def kl_from(self, old: Distribution) -> Tensor:
        """KL(old || self), summed over the action; `old` is of the same kind."""
        assert isinstance(old, Gaussian)
        ratio = torch.exp(2.0 * (old.log_std - self.log_std))
        distance = ((old.mean - self.mean) * torch.exp(-self.log_std)).square()
        return (self.log_std - old.log_std + 0.5 * (ratio + distance - 1.0)).sum(dim=-1)

    def metric_product(self, tangents: Sequence[Tensor], weight: Tensor) -> tuple[Tensor, Tensor]:
        """The Hessian of the weighted sum of `KL(self || other)` at `other = self`, times tangents of the parameters.

        Args:
            tangents: Of mean `[M, B, A]` and log-std `[M, 1, A]`.
            weight: Of each sample, `[M, B]`; each row sums to 1.
        """
        mean, log_std = tangents
        return weight.unsqueeze(-1) * torch.exp(-2.0 * self.log_std) * mean, 2.0 * log_std

    def detach(self) -> Gaussian:
        """The same values, without history."""
        return Gaussian(self.mean.detach(), self.log_std.detach())


class Categorical(NamedTuple):
    """A choice among `n` actions; an action is the index of the choice, as one float component.

    Attributes:
        logits: Unnormalised log-probabilities, `[..., n]`.
    """

    logits: Tensor

    def _log_probs(self) -> Tensor:
        return torch.log_softmax(self.logits, dim=-1)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-probability of the choices `x` `[..., 1]`: `[...]`."""
        return self._log_probs().gather(-1, x.long()).squeeze(-1)

    def entropy(self) -> Tensor:
        """Entropy in nats."""
        log_probs = self._log_probs()
        return -(log_probs.exp() * log_probs).sum(dim=-1)

    def kl_from(self, old: Distribution) -> Tensor:
        """KL(old || self); `old` is of the same kind."""
        assert isinstance(old, Categorical)
        before = old._log_probs()
        return (before.exp() * (before - self._log_probs())).sum(dim=-1)

    def metric_product(self, tangents: Sequence[Tensor], weight: Tensor) -> tuple[Tensor]:
        """As for the Gaussian: `p * (u - <p, u>)` for a tangent `u` of the logits, `[M, B, n]`."""
        (u,) = tangents
        p = torch.softmax(self.logits, dim=-1)
        return (weight.unsqueeze(-1) * p * (u - (p * u).sum(dim=-1, keepdim=True)),)

    def detach(self) -> Categorical:
        """The same values, without history."""
        return Categorical(self.logits.detach())


Distribution = Gaussian | Categorical
