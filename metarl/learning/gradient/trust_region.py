"""The natural-gradient step inside a trust region (Schulman et al. 2015, arXiv:1502.05477, appendix C)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from metarl.learning.networks.linearised import LinearisedPolicy


class DivergenceCurvature:
    """The Fisher information of a policy: the Hessian of its mean KL divergence from itself.

    With the Jacobian J of the policy's outputs and the Hessian D of the divergence with respect to these outputs, it is
    `J^T D J`: the other term contains the gradient of the divergence, which is zero where both policies are equal.

    Args:
        policy: The policy, linearised at its parameters.
        weight: Weight of each sample in its task's mean, `[M, B]`; each row sums to 1.
    """

    def __init__(self, policy: LinearisedPolicy, weight: Tensor) -> None:
        self._policy, self._weight = policy, weight

    def product(self, u: Tensor) -> Tensor:
        """Fisher-vector product `J^T D J u`, `[M, P]`."""
        policy = self._policy
        return policy.vjp(policy.distribution.metric_product(policy.jvp(u), self._weight))


def conjugate_gradient(product: Callable[[Tensor], Tensor], target: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    """Approximate solution of `F x = target` for symmetric positive definite `F`, starting at zero.

    The number of iterations is fixed, so no number is read back from the device. After convergence, further iterations
    change nothing.

    Args:
        product: `v -> F v`.
        target: Right-hand side, `[P]`.
        iterations: Number of iterations.

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
    """The outcome of a trust-region step.

    Attributes:
        parameters: New parameters `[P]`; the old ones if no candidate was accepted.
        accepted: Whether a candidate was accepted.
        surrogate: Surrogate objective at the new parameters.
        kl: Mean divergence of the new policy from the old one, in nats.
        backtracks: Number of rejected candidates.
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
    """A step that maximises a surrogate subject to a mean divergence of at most `max_kl`.

    The direction `x` solves `F x = gradient`. The full step is as long as the quadratic model of the divergence allows.
    A backtracking line search accepts the first candidate with a divergence within the limit and a better surrogate. If
    there is none, the parameters stay the same.

    Args:
        parameters: Old parameters, `[P]`.
        gradient: Gradient of the surrogate at the old parameters, `[P]`.
        product: `v -> F v` with the (damped) curvature of the divergence.
        evaluate: `parameters -> (surrogate, mean divergence)`, a tensor `[2]` on the device.
        old_surrogate: Surrogate at the old parameters.
        max_kl: Limit of the mean divergence, in nats.
        iterations: Iterations of conjugate gradients.
        backtracks: Largest number of candidates.
        decay: Ratio of the lengths of successive candidates.
        at_once: Candidates to evaluate before the host waits for their numbers; does not change the result.
        project: Projection onto the feasible parameters, `[P]`; may change its argument. Candidates are projected
            before they are evaluated.
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
