from __future__ import annotations

import pytest
import torch
from torch import Tensor

from metarl.learning.gradient.adaptation import PolicyGradientAdaptation, first_order_steps, policy_gradient_steps
from metarl.learning.gradient.losses import inner_loss, mean_divergence, surrogate_objective
from metarl.learning.gradient.meta_trust_region import ChunkLinearisation
from metarl.learning.gradient.policy import Samples, StackedPolicy
from metarl.types import Spaces

DOUBLE = torch.float64
LR = 0.1


@pytest.fixture(params=[1, 2], ids=["one inner step", "two inner steps"])
def problem(request, make_agent, random_samples, spaces: Spaces):
    """A policy, its parameters in float64, and samples of three tasks."""
    agent = make_agent(1, spaces)
    samples = [random_samples(3, 11, spaces, seed) for seed in range(request.param + 1)]
    return agent.policy, agent.tensors()["parameters"].double(), samples


def linearised(steps, policy: StackedPolicy, parameters: Tensor, samples: list[Samples]) -> ChunkLinearisation:
    adaptation = PolicyGradientAdaptation(policy, samples[:-1], parameters, LR, steps)
    return ChunkLinearisation(policy, adaptation, samples[-1])


def adapted_by_hand(policy: StackedPolicy, parameters: Tensor, samples: list[Samples]) -> Tensor:
    at = parameters.expand(3, -1)
    for one in samples[:-1]:
        leaf = at.detach().requires_grad_()
        inner_loss(policy(leaf, one.observations), one).sum().backward()
        at = policy.bound.project_((leaf - LR * leaf.grad).detach())
    return at


def test_the_gradient_is_the_one_at_the_adapted_parameters(problem) -> None:
    policy, parameters, samples = problem
    leaf = adapted_by_hand(policy, parameters, samples).requires_grad_()
    new = policy(leaf, samples[-1].observations)
    surrogate_objective(new, new.detach(), samples[-1]).sum().backward()
    chunk = linearised(first_order_steps, policy, parameters, samples)
    torch.testing.assert_close(chunk.gradient, leaf.grad.sum(dim=0))


def test_the_gradient_is_not_mamls_where_the_inner_loss_bends(problem) -> None:
    policy, parameters, samples = problem
    first = linearised(first_order_steps, policy, parameters, samples).gradient
    second = linearised(policy_gradient_steps, policy, parameters, samples).gradient
    assert (first - second).norm() > 1e-3 * second.norm()


def paired(samples: Samples, choices: int) -> Samples:
    """Every sample twice: with another choice and the opposite advantage.

    The normalisers of the softmax then cancel, so with a linear network the inner loss is linear in the parameters.
    """
    return Samples(
        observations=samples.observations.repeat(1, 2, 1),
        actions=torch.cat([samples.actions, (samples.actions + 1) % choices], dim=1),
        advantages=torch.cat([samples.advantages, -samples.advantages], dim=1),
        weights=samples.weights.repeat(1, 2) / 2,
    )


@pytest.mark.parametrize("steps", [1, 2])
def test_gradient_and_curvature_are_mamls_where_the_inner_loss_is_linear(
    make_agent, random_samples, discrete_spaces: Spaces, steps: int
) -> None:
    agent = make_agent(1, discrete_spaces, hidden=())
    policy, parameters = agent.policy, agent.tensors()["parameters"].double()
    samples = [paired(random_samples(3, 11, discrete_spaces, seed), discrete_spaces.choices) for seed in range(steps)]
    samples.append(random_samples(3, 11, discrete_spaces, 9))
    start = parameters.expand(3, -1)
    moved = adapted_by_hand(policy, parameters, samples) - start
    assert moved.norm(dim=1).min() > 1e-3, "the inner gradient is not zero"

    first, second = (linearised(of, policy, parameters, samples) for of in (first_order_steps, policy_gradient_steps))
    assert first.gradient.norm() > 1e-3
    torch.testing.assert_close(first.gradient, second.gradient)
    v = torch.randn(parameters.shape, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    torch.testing.assert_close(first.curvature_product(v), second.curvature_product(v))


def test_the_curvature_is_that_of_the_divergence_around_the_adapted_parameters(problem) -> None:
    policy, parameters, samples = problem
    end = adapted_by_hand(policy, parameters, samples)
    old = policy(end, samples[-1].observations)
    chunk = linearised(first_order_steps, policy, parameters, samples)
    v = torch.randn(parameters.shape, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)

    def second(h: float) -> Tensor:
        ends = [policy(end + s * h * v, samples[-1].observations) for s in (1, -1)]
        return sum(mean_divergence(new, old, samples[-1]).sum() for new in ends) / h**2

    by_difference = (4 * second(5e-4) - second(1e-3)) / 3
    torch.testing.assert_close(v @ chunk.curvature_product(v), by_difference, rtol=1e-5, atol=1e-6)


def test_what_the_floor_held_in_a_task_has_no_gradient_there(make_agent, random_samples, spaces: Spaces) -> None:
    """The adapted value of a projected log-std does not depend on its initial value (checked by finite differences)."""
    agent = make_agent(1, spaces, min_std=1.3)
    policy, parameters = agent.policy, agent.tensors()["parameters"].double()
    parameters[-2:] = policy.bound.value + 0.01
    samples = [random_samples(3, 11, spaces, seed) for seed in range(2)]
    end = adapted_by_hand(policy, parameters, samples)
    held = end[:, -2:] == policy.bound.value
    assert 0 < held.sum() < held.numel()
    nudged = adapted_by_hand(policy, parameters + 1e-6, samples)
    assert torch.equal(nudged[:, -2:] == end[:, -2:], held)

    leaf = end.requires_grad_()
    new = policy(leaf, samples[-1].observations)
    surrogate_objective(new, new.detach(), samples[-1]).sum().backward()
    leaf.grad[:, -2:][held] = 0.0
    chunk = linearised(first_order_steps, policy, parameters, samples)
    torch.testing.assert_close(chunk.gradient, leaf.grad.sum(dim=0))


def test_candidates_of_the_line_search_are_judged_after_real_adaptation(problem) -> None:
    policy, parameters, samples = problem
    chunk = linearised(first_order_steps, policy, parameters, samples)
    candidate = parameters + 0.05
    old, new = (policy(adapted_by_hand(policy, p, samples), samples[-1].observations) for p in (parameters, candidate))
    expected = [f(new, old, samples[-1]).sum() for f in (surrogate_objective, mean_divergence)]
    torch.testing.assert_close(chunk.evaluate(candidate), torch.stack(expected))
