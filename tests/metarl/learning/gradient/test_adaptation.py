from __future__ import annotations

import torch

from metarl.learning.gradient.adaptation import (
    PolicyGradientAdaptation,
    adapted_by_policy_gradient,
    first_order_steps,
    policy_gradient_steps,
)
from metarl.learning.gradient.losses import inner_loss


def test_each_step_starts_where_the_last_one_ended_on_its_own_samples(make_agent, random_samples, spaces) -> None:
    agent = make_agent(1, spaces)
    policy, start = agent.policy, agent.tensors()["parameters"].double().expand(2, -1).contiguous()
    samples = [random_samples(2, 7, spaces, seed) for seed in (0, 1)]
    rates = torch.linspace(0.0, 0.2, start.shape[1], dtype=torch.float64)
    steps = policy_gradient_steps(policy, samples, start, rates)
    at = start
    for step, one in zip(steps, samples, strict=True):
        leaf = at.clone().requires_grad_()
        inner_loss(policy(leaf, one.observations), one).sum().backward()
        at = at - rates * leaf.grad
        torch.testing.assert_close(step.end, at)
    torch.testing.assert_close(adapted_by_policy_gradient(policy, samples, start, rates), at)


def test_tasks_may_share_their_start(make_agent, random_samples, spaces) -> None:
    agent, samples = make_agent(1, spaces), [random_samples(3, 7, spaces, seed) for seed in (0, 1)]
    shared = agent.parameters.double()
    for steps in (policy_gradient_steps, first_order_steps):
        ends = [steps(agent.policy, samples, start, 0.1)[-1].end for start in (shared, shared.expand(3, -1))]
        assert torch.equal(*ends)
        assert torch.equal(ends[0], adapted_by_policy_gradient(agent.policy, samples, shared, 0.1))


def test_the_products_of_an_adaptation_are_those_of_its_jacobian(make_agent, random_samples, spaces, plain) -> None:
    """Against autograd through the plain policy, for all tasks together."""
    agent, samples = make_agent(1, spaces), [random_samples(3, 7, spaces, seed) for seed in (0, 1)]
    policy, start = plain(agent.policy), agent.parameters.double()

    def adapted(parameters: torch.Tensor) -> torch.Tensor:
        at = parameters.expand(3, -1)
        for one in samples:
            loss = inner_loss(policy(at, one.observations), one).sum()
            at = at - 0.1 * torch.autograd.grad(loss, at, create_graph=True)[0]
        return at

    generator = torch.Generator().manual_seed(0)
    v = torch.randn(start.shape, generator=generator, dtype=torch.float64)
    w = torch.randn(3, *start.shape, generator=generator, dtype=torch.float64)
    adaptation = PolicyGradientAdaptation(agent.policy, samples, start, 0.1)
    end, pulled = torch.autograd.functional.vjp(adapted, start, w)
    torch.testing.assert_close(adaptation.end, end)
    torch.testing.assert_close(adaptation.vjp(w), pulled)
    torch.testing.assert_close((adaptation.jvp(v) * w).sum(), pulled @ v)
    torch.testing.assert_close(adaptation.adapted_from(start + 0.1), adapted((start + 0.1).requires_grad_()).detach())
