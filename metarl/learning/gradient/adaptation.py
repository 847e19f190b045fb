"""The inner loop of policy-gradient agents: K steps per task, and their derivatives for the outer step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from torch import Tensor

from metarl.learning.gradient.inner_loop import InnerStep, chained_jvp, chained_vjp
from metarl.learning.gradient.losses import inner_loss
from metarl.learning.gradient.policy import Samples, StackedPolicy
from metarl.learning.networks.linearised import HeadAutograd, LossDerivatives

Steps = Callable[[StackedPolicy, Sequence[Samples], Tensor, float | Tensor], list[InnerStep]]
"""Takes one step per sample from a start; see `policy_gradient_steps`."""


def policy_gradient_steps(
    policy: StackedPolicy, samples: Sequence[Samples], start: Tensor, step_size: float | Tensor
) -> list[InnerStep]:
    """Gradient steps on `inner_loss`, one per collect, differentiable; each is projected onto the policy's bound.

    Args:
        policy: The policy.
        samples: One per step.
        start: Parameters before the first step, `[M, P]`, or `[P]` for all tasks.
        step_size: A number, or one per parameter, `[P]`.
    """
    at, steps = _per_task(start, samples), list[InnerStep]()
    for one in samples:
        linear = policy.linearise(at, one.observations)
        loss = LossDerivatives(linear, HeadAutograd(linear.distribution, partial(inner_loss, samples=one)))
        steps.append(InnerStep(at, loss.gradient, step_size, policy.bound, loss.hessian_product))
        at = steps[-1].end
    return steps


def first_order_steps(
    policy: StackedPolicy, samples: Sequence[Samples], start: Tensor, step_size: float | Tensor
) -> list[InnerStep]:
    """The steps of `policy_gradient_steps` with their gradients as constants; same arguments."""
    at, steps = _per_task(start, samples), list[InnerStep]()
    for one in samples:
        linear = policy.linearise(at, one.observations)
        gradient = linear.vjp(linear.cotangents(partial(inner_loss, samples=one)))
        steps.append(InnerStep(at, gradient, step_size, policy.bound, None))
        at = steps[-1].end
    return steps


def adapted_by_policy_gradient(
    policy: StackedPolicy, samples: Sequence[Samples], start: Tensor, step_size: float | Tensor
) -> Tensor:
    """The adapted parameters `[M, P]`, without a graph; arguments as for `policy_gradient_steps`."""
    for one in samples:
        start = first_order_steps(policy, [one], start, step_size)[0].end
    return start


def _per_task(start: Tensor, samples: Sequence[Samples]) -> Tensor:
    """Parameters of each task, `[M, P]`."""
    return start.expand(len(samples[0].weights), -1).contiguous()


class Adaptation(Protocol):
    """Some tasks' parameters as a function of the meta-parameters `[Q]`, with the products of its Jacobian."""

    @property
    def end(self) -> Tensor:
        """Parameters after adaptation, `[M, P]`, without a graph."""
        ...

    def jvp(self, v: Tensor) -> Tensor:
        """Jacobian times a tangent `[Q]` of the meta-parameters: `[M, P]`."""
        ...

    def vjp(self, w: Tensor) -> Tensor:
        """Transposed Jacobian times cotangents `[M, P]`, summed over the tasks: `[Q]`."""
        ...

    def adapted_from(self, meta_parameters: Tensor) -> Tensor:
        """Parameters after adaptation from other meta-parameters with the same samples, `[M, P]`, without a graph."""
        ...


class PolicyGradientAdaptation:
    """The adaptation of some tasks from shared initial parameters, with `J = product of D_k (I - alpha H_k)`.

    Args:
        policy: The policy.
        samples: One per step, of these tasks.
        parameters: Initial parameters, `[P]`.
        step_size: Step size of the inner loop.
        steps: Takes the steps: `policy_gradient_steps`, or `first_order_steps`, for which `J` is the product of `D_k`.
    """

    def __init__(
        self,
        policy: StackedPolicy,
        samples: Sequence[Samples],
        parameters: Tensor,
        step_size: float,
        steps: Steps = policy_gradient_steps,
    ) -> None:
        self._policy, self._samples, self._step_size = policy, samples, step_size
        self._steps = steps(policy, samples, parameters, step_size)

    @property
    def end(self) -> Tensor:
        """See `Adaptation.end`."""
        return self._steps[-1].end

    def jvp(self, v: Tensor) -> Tensor:
        """See `Adaptation.jvp`; `v` is `[P]`."""
        return chained_jvp(self._steps, v.expand_as(self.end))

    def vjp(self, w: Tensor) -> Tensor:
        """See `Adaptation.vjp`: the chain rule of the meta-gradient, `[P]`."""
        return chained_vjp(self._steps, w).sum(dim=0)

    def adapted_from(self, meta_parameters: Tensor) -> Tensor:
        """See `Adaptation.adapted_from`."""
        return adapted_by_policy_gradient(self._policy, self._samples, meta_parameters, self._step_size)
