from __future__ import annotations

import pytest
import torch
from torch import Tensor

from metarl.learning.gradient.bounds import LowerBound
from metarl.learning.gradient.inner_loop import InnerStep, chained_jvp, chained_vjp

NO_BOUND = LowerBound(slice(0, 0), 0.0)


def quadratic_step(
    a: Tensor, b: Tensor, p: Tensor, step_size: float | Tensor, bound: LowerBound = NO_BOUND
) -> InnerStep:
    """A step on the task losses 1/2 p^T A p - b^T p, with gradient A p - b and Hessian A."""

    def product(v: Tensor) -> Tensor:
        return (a @ v[..., None])[..., 0]

    return InnerStep(p, product(p) - b, step_size, bound, product)


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
    torch.testing.assert_close(chained_vjp([step], step.end - c), by_hand)


def test_the_simplest_case_in_numbers() -> None:
    """L = 3 p^2, alpha = 0.1, p = 2: p' = 2 - 0.1 * 12 = 0.8, dp'/dp = 1 - 0.6 = 0.4."""
    step = InnerStep(torch.tensor([[2.0]]), torch.tensor([[12.0]]), 0.1, NO_BOUND, lambda v: 6.0 * v)
    assert step.end.item() == pytest.approx(0.8)
    assert step.vjp(torch.ones(1, 1)).item() == pytest.approx(0.4)
    assert step.jvp(torch.ones(1, 1)).item() == pytest.approx(0.4)


def test_several_steps_multiply_their_jacobians_in_the_right_order() -> None:
    first, second = symmetric(2, 3, 1), symmetric(2, 3, 2)
    zero = torch.zeros(2, 3, dtype=torch.float64)
    step_size = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)
    steps = [quadratic_step(a, zero, zero, step_size) for a in (first, second)]
    identity, scale = torch.eye(3, dtype=torch.float64), torch.diag(step_size)
    jacobian = (identity - scale @ second) @ (identity - scale @ first)
    v = torch.randn(2, 3, dtype=torch.float64)
    torch.testing.assert_close(chained_jvp(steps, v), (jacobian @ v[..., None])[..., 0])
    torch.testing.assert_close(chained_vjp(steps, v), (jacobian.mT @ v[..., None])[..., 0])


BOUND = LowerBound(slice(1, 3), -0.2)


def projected_quadratics() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Losses 1/2 p^T A p - b^T p of three tasks, a start within the bound, and step sizes."""
    generator = torch.Generator().manual_seed(4)
    b, p = (torch.randn(3, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    p[:, BOUND.where].clamp_(min=BOUND.value + 0.01)
    return symmetric(3, 4, 3), b, p, torch.tensor([0.3, 0.5, 0.4, 0.2], dtype=torch.float64)


def test_a_step_over_the_bound_ends_at_it_and_the_products_are_those_of_the_projected_step() -> None:
    """Finite differences in start and step sizes; the projection moves some entries of some tasks."""
    a, b, p, step_size = projected_quadratics()
    step = quadratic_step(a, b, p, step_size, BOUND)
    raw = p - step_size * ((a @ p[..., None])[..., 0] - b)
    moved = raw[:, 1:3] < -0.2
    assert 0 < moved.sum() < 6
    assert moved.any(dim=1).sum() < 3, "one task is not touched"
    torch.testing.assert_close(step.end, torch.cat([raw[:, :1], raw[:, 1:3].clamp_min(-0.2), raw[:, 3:]], dim=1))

    generator = torch.Generator().manual_seed(5)
    v, w = (torch.randn(3, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    r, h = torch.randn(4, generator=generator, dtype=torch.float64), 1e-6
    ends = [quadratic_step(a, b, p + s * h * v, step_size + s * h * r, BOUND).end for s in (1, -1)]
    torch.testing.assert_close(step.jvp(v, r), (ends[0] - ends[1]) / (2 * h))
    ends = [quadratic_step(a, b, p + s * h * v, step_size, BOUND).end for s in (1, -1)]
    torch.testing.assert_close(step.jvp(v), (ends[0] - ends[1]) / (2 * h))
    torch.testing.assert_close((step.vjp(w) * v).sum(), (w * step.jvp(v)).sum())
    by_step_size = -step.through_projection(w) * step.gradient
    torch.testing.assert_close((by_step_size * r).sum(), (w * (step.jvp(v, r) - step.jvp(v))).sum())


def test_to_first_order_only_the_projection_is_left_of_the_jacobian() -> None:
    """p = (0, 0), gradient (5, -5), alpha = 0.1: (-0.5, 0.5), and the bound of both is -0.2."""
    bound = LowerBound(slice(0, 2), -0.2)
    step = InnerStep(torch.zeros(1, 2), torch.tensor([[5.0, -5.0]]), 0.1, bound, None)
    assert step.end[0].tolist() == pytest.approx([-0.2, 0.5])
    assert step.jvp(torch.ones(1, 2)).tolist() == [[0.0, 1.0]]
    assert step.vjp(torch.ones(1, 2)).tolist() == [[0.0, 1.0]]


def test_a_start_at_the_bound_passes_the_gradient_of_a_step_that_leaves_it_or_stays() -> None:
    at = torch.full((1, 2), -0.2)
    step = InnerStep(at, torch.tensor([[0.0, -1.0]]), 0.1, LowerBound(slice(0, 2), -0.2), lambda v: 0.0 * v)
    assert step.end[0].tolist() == pytest.approx([-0.2, -0.1])
    assert step.vjp(torch.ones(1, 2)).tolist() == [[1.0, 1.0]]
