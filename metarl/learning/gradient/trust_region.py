"""The natural-gradient step inside a trust region (Schulman et al. 2015, arXiv:1502.05477, appendix C)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from metarl.learning.networks.linearised import LinearisedPolicy


class DivergenceCurvature:
    """The Hessian of the mean KL divergence of a policy from itself: its Fisher information.

    With the network's Jacobian J and the divergence's Hessian D over the distribution's parameters, the Hessian
    is `J^T D J`: the term with the divergence's gradient vanishes where the two policies are equal.

    Args:
        policy: Around the parameters.
        weight: Weight of each sample in its task's mean, `[M, B]`; each row sums to 1.
    """

    def __init__(self, policy: LinearisedPolicy, weight: Tensor) -> None:
        self._policy, self._weight = policy, weight

    def product(self, u: Tensor) -> Tensor:
        """`J^T D J u`, `[M, P]`."""
        policy = self._policy
        return policy.pull(policy.distribution.metric_product(policy.push(u), self._weight))


def conjugate_gradient(product: Callable[[Tensor], Tensor], target: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    """Approximately solves `F x = target` for symmetric positive definite `F`, starting at zero.

    It always makes all iterations and never reads a number back from the device; once the residual is gone,
    further iterations change nothing.

    Args:
        product: `v -> F v`.
        target: Right-hand side, `[P]`.
        iterations: How many.

    Returns:
        `x`, and the residual `target - F x`, both `[P]`.
    """
    x, residual, direction = torch.zeros_like(target), target.clone(), target.clone()
    squared = residual @ residual
    floor = torch.finfo(target.dtype).tiny
    for _ in range(iterations):
        image = product(direction)
        curvature = direction @ image
        step = torch.where(curvature > floor, squared / curvature.clamp_min(floor), torch.zeros_like(squared))
        x = x + step * direction
        residual = residual - step * image
        new_squared = residual @ residual
        ratio = torch.where(squared > floor, new_squared / squared.clamp_min(floor), torch.zeros_like(squared))
        direction = residual + ratio * direction
        squared = new_squared
    return x, residual


class TrustRegionResult(NamedTuple):
    """Where the step led, and how.

    Attributes:
        parameters: `[P]`, the old ones if nothing was accepted.
        accepted: Whether a candidate was accepted.
        surrogate: Its objective (of the old parameters, if none was).
        kl: Its mean divergence, in nats.
        backtracks: Candidates that were refused before it.
    """

    parameters: Tensor
    accepted: bool
    surrogate: float
    kl: float
    backtracks: int


def trust_region_step(
    parameters: Tensor,
    gradient: Tensor,
    product: Callable[[Tensor], Tensor],
    evaluate: Callable[[Tensor], Tensor],
    *,
    old_surrogate: float,
    max_kl: float,
    iterations: int,
    backtracks: int,
    decay: float,
    at_once: int = 1,
    project: Callable[[Tensor], Tensor] = lambda parameters: parameters,
) -> TrustRegionResult:
    """Maximises a surrogate subject to a mean divergence of at most `max_kl`.

    The direction solves `F x = gradient`; its length is where the quadratic model of the divergence reaches
    `max_kl`; a backtracking line search then looks for the first candidate whose true divergence is within the
    limit and whose surrogate is better. If there is none, the parameters stay.

    Args:
        parameters: `[P]`.
        gradient: Of the surrogate at the parameters, `[P]`.
        product: `v -> F v` with the (damped) curvature of the divergence.
        evaluate: `parameters -> (surrogate, mean divergence)`, `[2]`, left on the device.
        old_surrogate: The surrogate at the parameters.
        max_kl: Limit of the mean divergence, in nats.
        iterations: Of conjugate gradients.
        backtracks: Candidates to try.
        decay: Factor between two candidates' lengths.
        at_once: Candidates evaluated before the host waits for their numbers; the result is the same for any.
        project: From parameters to the nearest ones that are allowed, `[P]`; may change its argument. Candidates are
            projected before they are evaluated.
    """
    direction, residual = conjugate_gradient(product, gradient, iterations)
    curvature = direction @ (gradient - residual)  # x^T F x, without another product
    full_step = direction * torch.sqrt(2.0 * max_kl / curvature.clamp_min(torch.finfo(gradient.dtype).tiny))
    for first in range(0, backtracks, at_once):
        attempts = range(first, min(first + at_once, backtracks))
        candidates = [project(parameters + decay**attempt * full_step) for attempt in attempts]
        values = torch.stack([evaluate(candidate) for candidate in candidates]).tolist()
        for attempt, candidate, (surrogate, kl) in zip(attempts, candidates, values, strict=True):
            if surrogate > old_surrogate and kl <= max_kl:  # False for NaN
                return TrustRegionResult(candidate, True, surrogate, kl, attempt)
    return TrustRegionResult(parameters, False, old_surrogate, 0.0, backtracks)
