"""Losses that policy-gradient agents share: weighted means over the samples of each task, `[M]`."""

from __future__ import annotations

from torch import Tensor, exp

from metarl.learning.gradient.policy import Samples
from metarl.learning.networks.distributions import Distribution


def inner_loss(policy: Distribution, samples: Samples) -> Tensor:
    """Minus the mean of log-probability times advantage, `[M]`.

    Its gradient is an estimate of the gradient of minus the return (Finn et al. 2017, arXiv:1703.03400, equation 4).
    """
    return -(samples.weights * policy.log_prob(samples.actions) * samples.advantages).sum(dim=1)


def probability_ratio(new: Distribution, old_log_prob: Tensor, samples: Samples) -> Tensor:
    """Probability ratio of each action, `[M, B]`: under the new policy, over `exp(old_log_prob)` `[M, B]`."""
    return exp(new.log_prob(samples.actions) - old_log_prob)


def surrogate_objective(new: Distribution, old: Distribution, samples: Samples) -> Tensor:
    """Mean of probability ratio times advantage, `[M]` (Schulman et al. 2015, arXiv:1502.05477, equation 14)."""
    ratio = probability_ratio(new, old.log_prob(samples.actions), samples)
    return (samples.weights * ratio * samples.advantages).sum(dim=1)


def mean_divergence(new: Distribution, old: Distribution, samples: Samples) -> Tensor:
    """Mean of KL(old || new) over the samples, `[M]`."""
    return (samples.weights * new.kl_from(old)).sum(dim=1)
