"""The linearised policy in closed form, against autograd through PyTorch's own layers."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from metarl.learning.gradient.losses import inner_loss
from metarl.learning.gradient.policy import StackedPolicy
from metarl.learning.networks.distributions import Distribution
from metarl.learning.networks.linearised import DistributionLoss, HeadAutograd, LinearisedPolicy, LossDerivatives
from metarl.types import Spaces

DOUBLE = torch.float64


@pytest.fixture(params=["continuous", "discrete"])
def problem(request, spaces: Spaces, discrete_spaces: Spaces, random_samples):
    """A policy, two tasks' parameters, and their samples."""
    chosen = spaces if request.param == "continuous" else discrete_spaces
    policy = StackedPolicy(chosen, hidden=(5, 4), activation="tanh", init_std=1.0, min_std=0.4, action_scale=1.0)
    generator = torch.Generator().manual_seed(0)
    parameters = 0.5 * torch.randn(2, policy.layout.size, dtype=DOUBLE, generator=generator)
    return policy, parameters, random_samples(2, 9, chosen, 0)


def flat(distribution: Distribution) -> Tensor:
    return torch.cat([t.flatten() for t in distribution])


def derivatives_of(loss: DistributionLoss, linear: LinearisedPolicy) -> LossDerivatives:
    return LossDerivatives(linear, HeadAutograd(linear.distribution, loss))


def test_jvp_and_vjp_are_the_jacobian_and_its_transpose(problem, plain) -> None:
    policy, parameters, samples = problem
    linear = policy.linearise(parameters, samples.observations)

    def outputs(p: Tensor) -> Tensor:
        return flat(plain(policy)(p, samples.observations))

    torch.testing.assert_close(flat(linear.distribution), outputs(parameters))
    jacobian = torch.autograd.functional.jacobian(outputs, parameters).flatten(1)  # [outputs, M * P]
    v = torch.randn_like(parameters)
    torch.testing.assert_close(flat(linear.jvp(v)), jacobian @ v.flatten())
    cotangents = [torch.randn_like(t) for t in linear.distribution]
    torch.testing.assert_close(linear.vjp(cotangents).flatten(), flat(cotangents) @ jacobian)


def test_gradient_and_hessian_product_are_those_of_autograd(problem, plain) -> None:
    policy, parameters, samples = problem
    loss = partial(inner_loss, samples=samples)
    derivatives = derivatives_of(loss, policy.linearise(parameters, samples.observations))
    leaf = parameters.clone().requires_grad_()
    total = loss(plain(policy)(leaf, samples.observations)).sum()
    (gradient,) = torch.autograd.grad(total, leaf, create_graph=True)
    torch.testing.assert_close(derivatives.gradient, gradient)
    for _ in range(2):  # a product does not change the next one
        v = torch.randn_like(parameters)
        (expected,) = torch.autograd.grad(gradient, leaf, v, retain_graph=True)
        torch.testing.assert_close(derivatives.hessian_product(v), expected)


def test_further_cotangents_go_back_in_the_same_pass(problem) -> None:
    policy, parameters, samples = problem
    linear = policy.linearise(parameters, samples.observations)
    derivatives = derivatives_of(partial(inner_loss, samples=samples), linear)
    v, more = torch.randn_like(parameters), [torch.randn_like(t) for t in linear.distribution]
    apart = derivatives.hessian_product(v) + linear.vjp(more)
    torch.testing.assert_close(derivatives.hessian_product(v, more), apart)


def test_a_loss_that_is_linear_in_the_outputs_bends_only_with_the_network(problem, plain) -> None:
    policy, parameters, samples = problem

    def loss(new: Distribution) -> Tensor:
        return new[0].sum(dim=(1, 2))

    product = derivatives_of(loss, policy.linearise(parameters, samples.observations)).hessian_product
    leaf, v = parameters.clone().requires_grad_(), torch.randn_like(parameters)
    (gradient,) = torch.autograd.grad(loss(plain(policy)(leaf, samples.observations)).sum(), leaf, create_graph=True)
    torch.testing.assert_close(product(v), torch.autograd.grad(gradient, leaf, v)[0])


def test_cotangents_of_a_loss_pull_back_to_its_gradient(problem) -> None:
    policy, parameters, samples = problem
    linear, loss = policy.linearise(parameters, samples.observations), partial(inner_loss, samples=samples)
    torch.testing.assert_close(linear.vjp(linear.cotangents(loss)), derivatives_of(loss, linear).gradient)
