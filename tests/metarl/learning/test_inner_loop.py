from __future__ import annotations

import pytest
import torch
from torch import Tensor

from metarl.learning.inner_loop import inner_loop, pull_back, push_forward


def quadratic(a: Tensor, b: Tensor):
    """Task losses 1/2 p^T A p - b^T p, with gradient A p - b and Hessian A."""
    return lambda p: 0.5 * torch.einsum("mi,mij,mj->m", p, a, p) - (b * p).sum(dim=1)


def symmetric(m: int, p: int, seed: int) -> Tensor:
    x = torch.randn(m, p, p, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return x + x.mT


def test_on_a_quadratic_the_meta_gradient_is_the_closed_form() -> None:
    """p' = p - alpha (A p - b); outer loss 1/2 |p' - c|^2 has the gradient (I - alpha A)^T (p' - c)."""
    a, b, c, p = symmetric(3, 4, 0), *(torch.randn(3, 4, dtype=torch.float64) for _ in range(3))
    (step,) = inner_loop([quadratic(a, b)], p, 0.1, differentiable=True)
    adapted = p - 0.1 * ((a @ p[..., None])[..., 0] - b)
    torch.testing.assert_close(step.end, adapted)
    jacobian = torch.eye(4, dtype=torch.float64) - 0.1 * a
    by_hand = (jacobian.mT @ (adapted - c)[..., None])[..., 0]
    torch.testing.assert_close(pull_back([step], step.end - c), by_hand)


def test_the_simplest_case_in_numbers() -> None:
    """L = 3 p^2, alpha = 0.1, p = 2: p' = 2 - 0.1 * 12 = 0.8, dp'/dp = 1 - 0.6 = 0.4."""
    (step,) = inner_loop([lambda p: 3 * p.square().sum(dim=1)], torch.tensor([[2.0]]), 0.1, differentiable=True)
    assert step.end.item() == pytest.approx(0.8)
    assert step.pull(torch.ones(1, 1)).item() == pytest.approx(0.4)
    assert step.push(torch.ones(1, 1)).item() == pytest.approx(0.4)


def test_several_steps_multiply_their_jacobians_in_the_right_order() -> None:
    first, second = symmetric(2, 3, 1), symmetric(2, 3, 2)
    zero = torch.zeros(2, 3, dtype=torch.float64)
    rate = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)
    losses = [quadratic(first, zero), quadratic(second, zero)]
    steps = inner_loop(losses, torch.randn(2, 3, dtype=torch.float64), rate, differentiable=True)
    identity, scale = torch.eye(3, dtype=torch.float64), torch.diag(rate)
    jacobian = (identity - scale @ second) @ (identity - scale @ first)
    v = torch.randn(2, 3, dtype=torch.float64)
    torch.testing.assert_close(push_forward(steps, v), (jacobian @ v[..., None])[..., 0])
    torch.testing.assert_close(pull_back(steps, v), (jacobian.mT @ v[..., None])[..., 0])


def test_the_jacobian_agrees_with_finite_differences_on_a_curved_loss() -> None:
    target = torch.randn(2, 3, dtype=torch.float64)

    def loss(p: Tensor) -> Tensor:
        return (torch.sin(p * target) + p.pow(4) * target).sum(dim=1)

    start, v = (torch.randn(2, 3, dtype=torch.float64) for _ in range(2))
    steps = inner_loop([loss, loss], start, 0.05, differentiable=True)
    h = 1e-6
    ends = [inner_loop([loss, loss], start + sign * h * v, 0.05, differentiable=False)[-1].end for sign in (1, -1)]
    torch.testing.assert_close(push_forward(steps, v), (ends[0] - ends[1]) / (2 * h), rtol=1e-7, atol=1e-8)


def test_a_linear_loss_has_the_identity_as_jacobian() -> None:
    (step,) = inner_loop([lambda p: (2 * p).sum(dim=1)], torch.ones(1, 3), 0.1, differentiable=True)
    assert step.end.tolist() == [[pytest.approx(0.8)] * 3]
    v = torch.randn(1, 3)
    torch.testing.assert_close(step.pull(v), v)


def test_the_products_can_be_repeated() -> None:
    (step,) = inner_loop([lambda p: p.pow(3).sum(dim=1)], torch.randn(2, 3), 0.1, differentiable=True)
    v = torch.randn(2, 3)
    assert torch.equal(step.pull(v), step.pull(v))
