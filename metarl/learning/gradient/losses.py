"""The losses that policy-gradient agents share; each is a weighted mean over one task's samples, `[M]`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import Tensor, exp

from metarl.learning.gradient.inner_loop import InnerStep
from metarl.learning.gradient.policy import Samples, StackedPolicy
from metarl.learning.networks.distributions import Distribution
from metarl.learning.networks.linearised import HeadAutograd, LossDerivatives


def inner_loss(policy: Distribution, samples: Samples) -> Tensor:
    """Minus the mean of log-probability times advantage, `[M]`.

    Its gradient estimates that of minus the return (Finn et al. 2017, arXiv:1703.03400, equation 4).
    """
    return -(samples.weights * policy.log_prob(samples.actions) * samples.advantages).sum(dim=1)


def probability_ratio(new: Distribution, old_log_prob: Tensor, samples: Samples) -> Tensor:
    """Probability of each action under the new policy over what it was, `exp(old_log_prob)`; both `[M, B]`."""
    return exp(new.log_prob(samples.actions) - old_log_prob)


def surrogate_objective(new: Distribution, old: Distribution, samples: Samples) -> Tensor:
    """Mean of probability ratio times advantage, `[M]` (Schulman et al. 2015, arXiv:1502.05477, equation 14)."""
    ratio = probability_ratio(new, old.log_prob(samples.actions), samples)
    return (samples.weights * ratio * samples.advantages).sum(dim=1)


def mean_divergence(new: Distribution, old: Distribution, samples: Samples) -> Tensor:
    """Mean KL(old || new) over the samples, `[M]`."""
    return (samples.weights * new.kl_from(old)).sum(dim=1)


def policy_gradient_steps(
    policy: StackedPolicy, samples: Sequence[Samples], start: Tensor, rate: float | Tensor
) -> list[InnerStep]:
    """One step on `inner_loss` per collect, each from where the last one ended, differentiable.

    A step ends at the nearest parameters that keep the policy's bound.

    Args:
        policy: The policy.
        samples: One per step.
        start: Parameters, `[M, P]`.
        rate: Step size: a number, or one per parameter, `[P]`.
    """
    steps: list[InnerStep] = []
    for one in samples:
        at = steps[-1].end if steps else start
        linear = policy.linearise(at, one.observations)
        loss = LossDerivatives(linear, HeadAutograd(linear.distribution, partial(inner_loss, samples=one)))
        steps.append(InnerStep(at, loss.gradient, rate, policy.bound, loss.hessian_product))
    return steps


def first_order_steps(
    policy: StackedPolicy, samples: Sequence[Samples], start: Tensor, rate: float | Tensor
) -> list[InnerStep]:
    """The same steps with their gradients taken to be constant; arguments as for `policy_gradient_steps`."""
    steps: list[InnerStep] = []
    for one in samples:
        at = steps[-1].end if steps else start
        linear = policy.linearise(at, one.observations)
        gradient = linear.pull(linear.cotangents(partial(inner_loss, samples=one)))
        steps.append(InnerStep(at, gradient, rate, policy.bound, None))
    return steps


def adapted_by_policy_gradient(
    policy: StackedPolicy, samples: Sequence[Samples], start: Tensor, rate: float | Tensor
) -> Tensor:
    """Where the same steps lead, `[M, P]`, keeping nothing of the way."""
    for one in samples:
        start = first_order_steps(policy, [one], start, rate)[0].end
    return start
