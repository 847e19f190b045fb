from __future__ import annotations

import pytest
import torch
from torch import Tensor

from metarl.learning.inner_loop import InnerStep, pull_back, push_forward


def quadratic_step(a: Tensor, b: Tensor, p: Tensor, rate: float | Tensor) -> InnerStep:
    """A step on the task losses 1/2 p^T A p - b^T p, with gradient A p - b and Hessian A."""

    def product(v: Tensor) -> Tensor:
        return (a @ v[..., None])[..., 0]

    return InnerStep(p, product(p) - b, product, rate)


def symmetric(m: int, p: int, seed: int) -> Tensor:
    x = torch.randn(m, p, p, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return x + x.mT


def test_on_a_quadratic_the_meta_gradient_is_the_closed_form() -> None:
    """p' = p - alpha (A p - b); outer loss 1/2 |p' - c|^2 has the gradient (I - alpha A)^T (p' - c)."""
    a, b, c, p = symmetric(3, 4, 0), *(torch.randn(3, 4, dtype=torch.float64) for _ in range(3))
    step = quadratic_step(a, b, p, 0.1)
    adapted = p - 0.1 * ((a @ p[..., None])[..., 0] - b)
    torch.testing.assert_close(step.end, adapted)
    jacobian = torch.eye(4, dtype=torch.float64) - 0.1 * a
    by_hand = (jacobian.mT @ (adapted - c)[..., None])[..., 0]
    torch.testing.assert_close(pull_back([step], step.end - c), by_hand)


def test_the_simplest_case_in_numbers() -> None:
    """L = 3 p^2, alpha = 0.1, p = 2: p' = 2 - 0.1 * 12 = 0.8, dp'/dp = 1 - 0.6 = 0.4."""
    step = InnerStep(torch.tensor([[2.0]]), torch.tensor([[12.0]]), lambda v: 6.0 * v, 0.1)
    assert step.end.item() == pytest.approx(0.8)
    assert step.pull(torch.ones(1, 1)).item() == pytest.approx(0.4)
    assert step.push(torch.ones(1, 1)).item() == pytest.approx(0.4)


def test_several_steps_multiply_their_jacobians_in_the_right_order() -> None:
    first, second = symmetric(2, 3, 1), symmetric(2, 3, 2)
    zero = torch.zeros(2, 3, dtype=torch.float64)
    rate = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)
    steps = [quadratic_step(a, zero, zero, rate) for a in (first, second)]
    identity, scale = torch.eye(3, dtype=torch.float64), torch.diag(rate)
    jacobian = (identity - scale @ second) @ (identity - scale @ first)
    v = torch.randn(2, 3, dtype=torch.float64)
    torch.testing.assert_close(push_forward(steps, v), (jacobian @ v[..., None])[..., 0])
    torch.testing.assert_close(pull_back(steps, v), (jacobian.mT @ v[..., None])[..., 0])
