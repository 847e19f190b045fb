"""The diagonal Gaussian over actions: log-probability, divergence, curvature."""

from __future__ import annotations

import math
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

    def kl_from(self, old: Gaussian) -> Tensor:
        """KL(old || self), summed over the action."""
        ratio = torch.exp(2.0 * (old.log_std - self.log_std))
        distance = ((old.mean - self.mean) * torch.exp(-self.log_std)).square()
        return (self.log_std - old.log_std + 0.5 * (ratio + distance - 1.0)).sum(dim=-1)

    def detach(self) -> Gaussian:
        """The same values, without history."""
        return Gaussian(self.mean.detach(), self.log_std.detach())
