"""A posterior over a latent task variable from a set of transitions: the product of one Gaussian per transition.

Rakelly et al. 2019 (arXiv:1903.08254), section 4.1. The order of the transitions does not matter. The natural
parameters of the product are sums over the context, so a context is extended by adding to them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import softplus

from metarl.learning.networks.flat import Perceptrons, mlp_init

MIN_VARIANCE = 1e-7
"""Smallest variance of a factor of the posterior."""


class ContextEncoder:
    """An MLP (ReLU) from a transition to a Gaussian factor of the posterior, as a function of its parameters.

    Args:
        inputs: Numbers that describe a transition, `I`.
        hidden: Units of each hidden layer.
        latent: Components of the latent variable, `Z`.

    Attributes:
        network: `I` to `2 Z` numbers, the mean and the variance before the softplus.
    """

    def __init__(self, inputs: int, hidden: tuple[int, ...], latent: int) -> None:
        self.network = Perceptrons((inputs, *hidden, 2 * latent), "relu")

    def initial(self, rng: np.random.Generator) -> Tensor:
        """Initial parameters, `[1, P]`."""
        return mlp_init(self.network.sizes, rng)[None]

    def factors(self, parameters: Tensor, columns: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Mean and variance of each transition's factor, `[*rows, Z]` each.

        Args:
            parameters: `[1, P]`.
            columns: Parts of the input, `[*rows, width]` each, `I` numbers in all.
        """
        mean, raw = self.network(parameters, [c.unsqueeze(0) for c in columns])[0].chunk(2, dim=-1)
        return mean, softplus(raw).clamp_min(MIN_VARIANCE)

    def infer(self, parameters: Tensor, columns: Sequence[Tensor], weight: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of the posterior q(z | c) of each task, `[M, Z]` each.

        Args:
            parameters: `[1, P]`.
            columns: Parts of the input for each row of the context, `[M, B, width]` each.
            weight: Transitions that each row of a task's context stands for, `[M]`.
        """
        return posterior(*natural_parameters(*self.factors(parameters, columns), weight.unsqueeze(-1)))


def natural_parameters(mean: Tensor, variance: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Sums of 1 / variance and mean / variance over the context, `[..., Z]` each.

    Args:
        mean: Means of the factors, `[..., B, Z]`.
        variance: Variances of the factors, `[..., B, Z]`.
        weight: Multiplicity of each factor, `[..., B]`, or of all of them, `[..., 1]`; 0 for padding.
    """
    precision = weight.unsqueeze(-1) / variance
    return precision.sum(dim=-2), (precision * mean).sum(dim=-2)


def posterior(precision: Tensor, weighted_mean: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of q(z | c) from the sums of `natural_parameters`; without context the prior's, 0 and 1."""
    variance = 1.0 / torch.where(precision > 0, precision, torch.ones_like(precision))
    return weighted_mean * variance, variance


def kl_from_prior(mean: Tensor, variance: Tensor) -> Tensor:
    """KL(N(mean, variance) || N(0, 1)) in nats, summed over the last axis."""
    return 0.5 * (variance + mean.square() - 1.0 - variance.log()).sum(dim=-1)
