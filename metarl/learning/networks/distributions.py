"""Action distributions with log-probability, KL divergence and their derivatives.

Gaussian and categorical are tuples of their parameters with the same methods, so that agents treat both alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from metarl.types import Floats

HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)


class Gaussian(NamedTuple):
    """Independent normal distributions over the components of an action.

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
        """Fisher-vector product: Hessian of the weighted sum of `KL(self || other)` at `other = self`, times tangents.

        Args:
            tangents: Tangents of mean `[M, B, A]` and log-std `[M, 1, A]`.
            weight: Weight of each sample, `[M, B]`; each row sums to 1.
        """
        mean, log_std = tangents
        return weight.unsqueeze(-1) * torch.exp(-2.0 * self.log_std) * mean, 2.0 * log_std

    def log_prob_gradient(self, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Gradient of the weighted sum of `log_prob(x)` with respect to the parameters.

        Args:
            x: Actions, `[M, B, A]`.
            weight: Weight of each sample, `[M, B]`.

        Returns:
            Gradients of mean `[M, B, A]` and log-std `[M, 1, A]`.
        """
        score, squared = self._scores(x)
        return weight.unsqueeze(-1) * score, _sums(weight, squared) - weight.sum(dim=1)[:, None, None]

    def log_prob_product(
        self, x: Tensor, slope: Tensor, bend: Tensor, tangents: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Hessian-vector product of a sum over samples of functions of `log_prob(x)`, for tangents of the parameters.

        The Hessian is the sum of `bend * s s^T + slope * ds`, with the score s of a sample and the Hessian ds of its
        `log_prob`.

        Args:
            x: Actions, `[M, B, A]`.
            slope: First derivative of each sample's function, `[M, B]`.
            bend: Second derivative of each sample's function, `[M, B]`.
            tangents: Tangents of mean `[M, B, A]` and log-std `[M, 1, A]`.
        """
        mean, log_std = tangents
        score, squared = self._scores(x)
        shift = torch.addcmul(score * mean, squared, log_std)  # z times the tangent of -z
        bent = bend * (shift.sum(dim=-1) - log_std.sum(dim=-1))  # times s . tangents
        change = torch.addcmul(torch.exp(-2.0 * self.log_std) * mean, score, 2.0 * log_std)  # tangent of -score
        return (
            bent.unsqueeze(-1) * score - slope.unsqueeze(-1) * change,
            _sums(bent, squared) - bent.sum(dim=1)[:, None, None] - 2.0 * _sums(slope, shift),
        )

    def kl_gradient(self, old: Distribution, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Gradient of the weighted sum of `kl_from(old)` with respect to the parameters; `weight` is `[M, B]`."""
        assert isinstance(old, Gaussian)
        score, squared = self._scores(old.mean)
        ratio = torch.exp(2.0 * (old.log_std - self.log_std))
        total = weight.sum(dim=1)[:, None, None]
        return -weight.unsqueeze(-1) * score, total * (1.0 - ratio) - _sums(weight, squared)

    def _scores(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The score of the mean, `z / std` with `z = (x - mean) / std`, and `z^2`, both `[M, B, A]`."""
        distance = x - self.mean
        score = distance * torch.exp(-2.0 * self.log_std)
        return score, distance * score

    def detach(self) -> Gaussian:
        """The distributions without a graph."""
        return Gaussian(self.mean.detach(), self.log_std.detach())


class Categorical(NamedTuple):
    """Categorical distributions over `n` choices; an action is the index of a choice, as one float component.

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
        """See `Gaussian.metric_product`: `p * (u - <p, u>)` for a tangent `u` of the logits, `[M, B, n]`."""
        (u,) = tangents
        p = torch.softmax(self.logits, dim=-1)
        return (weight.unsqueeze(-1) * p * (u - (p * u).sum(dim=-1, keepdim=True)),)

    def log_prob_gradient(self, x: Tensor, weight: Tensor) -> tuple[Tensor]:
        """See `Gaussian.log_prob_gradient`: `weight * score`, `[M, B, n]`; `x` is `[M, B, 1]`."""
        return (weight.unsqueeze(-1) * self._score(x),)

    def log_prob_product(self, x: Tensor, slope: Tensor, bend: Tensor, tangents: Sequence[Tensor]) -> tuple[Tensor]:
        """See `Gaussian.log_prob_product`; the Hessian of `log_prob` is minus that of `metric_product`."""
        (u,) = tangents
        score = self._score(x)
        bent = bend * (score * u).sum(dim=-1)
        return (bent.unsqueeze(-1) * score - self.metric_product(tangents, slope)[0],)

    def kl_gradient(self, old: Distribution, weight: Tensor) -> tuple[Tensor]:
        """See `Gaussian.kl_gradient`: `weight * (p - p_old)`, `[M, B, n]`."""
        assert isinstance(old, Categorical)
        return (weight.unsqueeze(-1) * (torch.softmax(self.logits, dim=-1) - torch.softmax(old.logits, dim=-1)),)

    def _score(self, x: Tensor) -> Tensor:
        """Gradient of `log_prob(x)` with respect to the logits: 1 at the choice, minus the probabilities."""
        return (-torch.softmax(self.logits, dim=-1)).scatter_add(-1, x.long(), torch.ones_like(x))

    def detach(self) -> Categorical:
        """The distributions without a graph."""
        return Categorical(self.logits.detach())


Distribution = Gaussian | Categorical


def joined(pieces: Sequence[Distribution]) -> Distribution:
    """Concatenation of distributions of one kind over consecutive steps, `[B, L, ...]` each.

    A log-std `[A]` that all steps share is taken from the first piece.
    """
    first = pieces[0]
    if isinstance(first, Categorical):
        return Categorical(torch.cat([p.logits for p in pieces if isinstance(p, Categorical)], dim=1))
    gaussians = [p for p in pieces if isinstance(p, Gaussian)]
    shared = first.log_std.ndim < first.mean.ndim
    log_std = first.log_std if shared else torch.cat([p.log_std for p in gaussians], dim=1)
    return Gaussian(torch.cat([p.mean for p in gaussians], dim=1), log_std)


def at_step(distribution: Distribution, t: int) -> Distribution:
    """The distributions `[B, ...]` at one step of `[B, L, ...]`; a log-std `[A]` is that of all steps."""
    if isinstance(distribution, Categorical):
        return Categorical(distribution.logits[:, t])
    mean, log_std = distribution
    return Gaussian(mean[:, t], log_std if log_std.ndim < mean.ndim else log_std[:, t])


def _sums(weight: Tensor, x: Tensor) -> Tensor:
    """Weighted sums over the samples of each task, `[M, 1, A]`, for weights `[M, B]` and values `[M, B, A]`."""
    return torch.bmm(weight.unsqueeze(1), x)


def sample(distribution: Distribution, rng: np.random.Generator, mode: bool = False) -> Floats:
    """Samples of a distribution, or its modes, `[..., A]` float32.

    The noise comes from NumPy, so that a run draws the same numbers on every device. A choice is drawn by the
    Gumbel-max trick: the index of the largest sum of a logit and Gumbel noise.

    Args:
        distribution: The distribution.
        rng: Source of the noise.
        mode: Take the modes.
    """
    if isinstance(distribution, Categorical):
        logits = distribution.logits.cpu().numpy()
        if mode:
            return np.argmax(logits, axis=-1, keepdims=True).astype(np.float32)
        return np.argmax(logits + rng.gumbel(size=logits.shape), axis=-1, keepdims=True).astype(np.float32)
    if mode:
        return np.asarray(distribution.mean.cpu().numpy(), dtype=np.float32)
    mean, std = distribution.mean.cpu().numpy(), distribution.log_std.exp().cpu().numpy()
    return mean + std * rng.standard_normal(mean.shape, dtype=np.float32)


def sample_with_log_prob(
    distribution: Distribution, rng: np.random.Generator, mode: bool = False
) -> tuple[Floats, Floats]:
    """`sample`, and `log_prob` of its output, for few rows: NumPy's operations start faster than torch's.

    Returns:
        Samples `[..., A]` and their log-probabilities `[...]`, float32.
    """
    output = sample(distribution, rng, mode)
    if isinstance(distribution, Categorical):
        device = distribution.logits.device
        return output, distribution.log_prob(torch.tensor(output, device=device)).cpu().numpy()
    mean, log_std = distribution.mean.cpu().numpy(), distribution.log_std.cpu().numpy()
    z = (output - mean) * np.exp(-log_std)
    z *= z
    z *= -0.5
    z -= log_std + np.float32(HALF_LOG_TWO_PI)
    return output, z.sum(axis=-1)
