from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from metarl.learning.gradient.policy import StackedPolicy
from metarl.learning.gradient.trust_region import DivergenceCurvature, conjugate_gradient, trust_region_step
from metarl.types import Spaces

FLOAT = torch.float64


def positive(n: int) -> Tensor:
    x = torch.randn(n, n, dtype=FLOAT, generator=torch.Generator().manual_seed(0))
    return x @ x.T + torch.eye(n, dtype=FLOAT)


def test_conjugate_gradients_solve_in_as_many_steps_as_dimensions() -> None:
    f, b = positive(6), torch.randn(6, dtype=FLOAT)
    x, residual = conjugate_gradient(lambda v: f @ v, b, 6)
    torch.testing.assert_close(x, torch.linalg.solve(f, b))
    torch.testing.assert_close(residual, b - f @ x, rtol=0, atol=1e-8)


def test_iterations_after_convergence_change_nothing() -> None:
    f, b = positive(3), torch.randn(3, dtype=FLOAT)
    x, _ = conjugate_gradient(lambda v: f @ v, b, 50)
    torch.testing.assert_close(x, torch.linalg.solve(f, b))
    zero, _ = conjugate_gradient(lambda v: f @ v, torch.zeros(3, dtype=FLOAT), 10)
    assert zero.tolist() == [0.0] * 3


@pytest.mark.parametrize("choices", [None, 3])
def test_the_curvature_is_the_hessian_of_the_mean_divergence(choices: int | None, plain) -> None:
    """The product against the autograd Hessian of the mean KL."""
    x, weight = torch.randn(1, 7, 3, dtype=FLOAT), torch.rand(1, 7, dtype=FLOAT)
    weight = weight / weight.sum()
    spaces = Spaces(3, (-1.0,) * 2, (1.0,) * 2, 10) if choices is None else Spaces(3, (0.0,), (2.0,), 10, choices)
    policy = StackedPolicy(spaces, hidden=(4, 3), activation="tanh", init_std=1.0, min_std=0.5, action_scale=1.0)
    start = torch.randn(1, policy.layout.size, dtype=FLOAT)
    if choices is None:
        start[0, -2:] = torch.tensor([0.3, -2.0])
    old = policy(start, x)

    def divergence(p: Tensor) -> Tensor:
        return (weight * plain(policy)(p[None], x).kl_from(old)).sum()

    hessian = torch.autograd.functional.hessian(divergence, start[0])
    curvature = DivergenceCurvature(policy.linearise(start, x), weight)
    for i, unit in enumerate(torch.eye(policy.layout.size, dtype=FLOAT)):
        torch.testing.assert_close(curvature.product(unit[None])[0], hessian[:, i])


def step(evaluate, **changes):
    """A step on maximise g^T p subject to 1/2 p^T F p <= 0.01, with F = diag(1, 4), g = (1, 1)."""
    f, g = torch.tensor([1.0, 4.0], dtype=FLOAT), torch.ones(2, dtype=FLOAT)
    settings = {"old_surrogate": 0.0, "max_kl": 0.01, "iterations": 5, "backtracks": 15, "decay": 0.8, **changes}
    return trust_region_step(torch.zeros(2, dtype=FLOAT), g, lambda v: f * v, evaluate, **settings)


def quadratic(p: Tensor) -> Tensor:
    return torch.stack([p.sum(), (0.5 * (torch.tensor([1.0, 4.0]) * p * p).sum())])


def test_the_step_is_the_natural_gradient_scaled_to_the_limit() -> None:
    """F^-1 g = (1, 1/4); x^T F x = 5/4; scale sqrt(2 * 0.01 / 1.25)."""
    result = step(quadratic, max_kl=0.01)
    scale = math.sqrt(0.02 / 1.25)
    candidate = [scale, scale / 4]
    if result.backtracks:  # rounding may put the full step a hair over the limit
        candidate = [0.8 * c for c in candidate]
    assert result.accepted
    assert result.parameters.tolist() == pytest.approx(candidate)
    assert result.kl <= 0.01


def test_a_candidate_over_the_limit_is_refused_however_good() -> None:
    result = step(lambda p: torch.tensor([1e9, 0.011 if p.norm() > 0.05 else 0.001], dtype=FLOAT))
    assert result.accepted
    assert result.backtracks > 0
    assert result.kl == 0.001


@pytest.mark.parametrize(
    "outcome", [(-1.0, 0.0), (0.0, 0.0), (float("nan"), 0.0), (1.0, float("nan")), (1.0, 0.02)],
    ids=["worse", "no better", "surrogate nan", "divergence nan", "too far"],
)  # fmt: skip
def test_when_nothing_is_acceptable_the_parameters_stay(outcome: tuple[float, float]) -> None:
    result = step(lambda p: torch.tensor(outcome))
    assert not result.accepted
    assert result.parameters.tolist() == [0.0, 0.0]
    assert result.backtracks == 15


@pytest.mark.parametrize("at_once", [2, 4, 100])
def test_it_does_not_matter_how_many_candidates_are_evaluated_at_once(at_once: int) -> None:
    """The first acceptable candidate is accepted, even if later ones of the group are better."""
    lengths: list[float] = []

    def evaluate(p: Tensor) -> Tensor:
        lengths.append(p.norm().item())
        return torch.tensor([1.0 / p.norm().item(), 0.011 if p.norm() > 0.06 else 0.001], dtype=FLOAT)

    one = step(evaluate)
    alone = len(lengths)
    several = step(evaluate, at_once=at_once)
    assert several.parameters.tolist() == one.parameters.tolist()
    assert several[1:] == one[1:]
    assert len(lengths) - alone == min(-(-alone // at_once) * at_once, 15)
    nothing = step(lambda p: torch.tensor([-1.0, 0.0]), at_once=at_once)
    assert not nothing.accepted
    assert nothing.backtracks == 15


def test_candidates_are_evaluated_where_the_projection_puts_them() -> None:
    """The upper bound of the second component is 0.02; the step would take it to 0.25 * 0.1265 = 0.0316."""
    bound, seen = torch.tensor([1.0, 0.02], dtype=FLOAT), list[Tensor]()

    def evaluate(p: Tensor) -> Tensor:
        seen.append(p.clone())
        return quadratic(p)

    result = step(evaluate, project=lambda p: torch.minimum(p, bound))
    assert result.accepted
    assert result.parameters[1] == 0.02
    assert torch.equal(result.parameters, seen[-1]), "what was evaluated is kept"
    assert result.surrogate == pytest.approx(result.parameters.sum().item())


def test_a_gradient_that_is_not_a_number_changes_nothing() -> None:
    nan = torch.full((2,), float("nan"), dtype=FLOAT)
    result = trust_region_step(
        torch.zeros(2, dtype=FLOAT), nan, lambda v: v, quadratic,
        old_surrogate=0.0, max_kl=0.01, iterations=3, backtracks=3, decay=0.5,
    )  # fmt: skip
    assert not result.accepted
    assert result.parameters.tolist() == [0.0, 0.0]
