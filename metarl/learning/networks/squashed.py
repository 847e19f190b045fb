"""The tanh-squashed normal distribution of soft actor-critic."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import softplus

from metarl.learning.networks.distributions import HALF_LOG_TWO_PI


def squashed_sample(mean: Tensor, log_std: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """A reparametrised action in (-1, 1) and its exact log-probability (density).

    With `u = mean + std * noise` and `a = tanh(u)`: `log p(a) = log N(u; mean, std^2) - sum log(1 - tanh(u)^2)`
    (Haarnoja et al. 2018, arXiv:1801.01290, appendix C). The last term is computed as
    `2 (log 2 - u - softplus(-2 u))`, which is equal and finite for every `u`.

    Args:
        mean: Mean of the normal distribution, `[..., A]`.
        log_std: Logarithm of its standard deviation, `[..., A]`.
        noise: Standard normal numbers, `[..., A]`.

    Returns:
        Actions `[..., A]`, and log-probabilities summed over the components, `[...]`; both differentiable.
    """
    u = mean + log_std.exp() * noise
    gaussian = -0.5 * noise.square() - log_std - HALF_LOG_TWO_PI
    log_slope = 2.0 * (math.log(2.0) - u - softplus(-2.0 * u))
    return torch.tanh(u), (gaussian - log_slope).sum(dim=-1)
