from __future__ import annotations

import pytest
import torch
from torch import Tensor

from metarl.learning.gradient.bounds import LowerBound
from metarl.learning.gradient.losses import mean_divergence, surrogate_objective
from metarl.learning.gradient.meta_trust_region import (
    ChunkLinearisation,
    TrustRegionConfig,
    mean_over_tasks,
    meta_trust_region_step,
)

DOUBLE = torch.float64


class LinearAdaptation:
    """Task i's parameters are `offset_i + matrix_i q`: the Jacobian is a known matrix."""

    def __init__(self, offsets: Tensor, matrices: Tensor, q: Tensor) -> None:
        self.offsets, self.matrices, self.end = offsets, matrices, offsets + matrices @ q

    def jvp(self, v: Tensor) -> Tensor:
        return self.matrices @ v

    def vjp(self, w: Tensor) -> Tensor:
        return torch.einsum("mpq,mp->q", self.matrices, w)

    def adapted_from(self, meta_parameters: Tensor) -> Tensor:
        return self.offsets + self.matrices @ meta_parameters


@pytest.fixture
def problem(make_agent, random_samples, spaces, plain):
    agent = make_agent(1, spaces)
    generator = torch.Generator().manual_seed(0)
    offsets = agent.tensors()["parameters"].double().expand(4, -1)
    matrices = 0.3 * torch.randn(*offsets.shape, 6, generator=generator, dtype=DOUBLE)
    q = 0.1 * torch.randn(6, generator=generator, dtype=DOUBLE)
    samples = random_samples(4, 9, spaces, 0)
    chunks = [
        ChunkLinearisation(agent.policy, LinearAdaptation(offsets[p], matrices[p], q), samples.tasks(p))
        for p in (slice(0, 3), slice(3, 4))
    ]
    old = agent.policy(offsets + matrices @ q, samples.observations).detach()

    def outer(meta_parameters: Tensor) -> Tensor:
        new = plain(agent.policy)(offsets + matrices @ meta_parameters, samples.observations)
        return torch.stack([f(new, old, samples).mean() for f in (surrogate_objective, mean_divergence)])

    return q, chunks, outer


def test_gradient_curvature_and_values_equal_those_of_the_composed_function(problem) -> None:
    q, chunks, outer = problem
    expected = torch.autograd.functional.jacobian(lambda x: outer(x)[0], q)
    torch.testing.assert_close(mean_over_tasks(chunks, lambda c: c.gradient, 4), expected)
    hessian = torch.autograd.functional.hessian(lambda x: outer(x)[1], q)
    columns = [mean_over_tasks(chunks, lambda c, e=e: c.curvature_product(e), 4) for e in torch.eye(6, dtype=DOUBLE)]
    torch.testing.assert_close(torch.stack(columns), hessian)
    torch.testing.assert_close(mean_over_tasks(chunks, lambda c: c.evaluate(q + 0.1), 4), outer(q + 0.1))


def test_the_step_is_the_natural_gradient_as_long_as_the_region_allows(problem) -> None:
    """With a small region the quadratic model holds: direction and length in closed form."""
    q, chunks, outer = problem
    config = TrustRegionConfig(max_kl=1e-7, cg_iterations=30, damping=0.0)
    moved, metrics = meta_trust_region_step(q, chunks, 4, config, LowerBound(slice(0, 0), 0.0))
    gradient = torch.autograd.functional.jacobian(lambda x: outer(x)[0], q)
    direction = torch.linalg.solve(torch.autograd.functional.hessian(lambda x: outer(x)[1], q), gradient)
    full = direction * torch.sqrt(2e-7 / (direction @ gradient))
    torch.testing.assert_close(moved - q, 0.8 ** metrics["update/backtracks"] * full, rtol=1e-3, atol=1e-8)
    assert metrics["update/accepted"] == 1.0
    assert metrics["update/kl"] == pytest.approx(outer(moved)[1].item())
    assert metrics["update/kl"] <= 1e-7
    assert metrics["update/surrogate_gain"] == pytest.approx((outer(moved) - outer(q))[0].item())
    assert metrics["update/gradient_norm"] == pytest.approx(gradient.norm().item())


def test_what_the_bound_holds_takes_no_part_in_the_step_and_what_is_to_leave_it_does(problem) -> None:
    """The natural gradient of the free entries: without the rows and columns of the others."""
    q, chunks, outer = problem
    gradient = torch.autograd.functional.jacobian(lambda x: outer(x)[0], q)
    down, up = int(gradient.argmin()), int(gradient.argmax())
    assert gradient[down] < 0 < gradient[up]
    for entry, held in ((down, True), (up, False)):
        bound = LowerBound(slice(entry, entry + 1), q[entry].item())
        free = torch.ones(6, dtype=torch.bool)
        free[entry] = not held
        hessian = torch.autograd.functional.hessian(lambda x: outer(x)[1], q)[free][:, free]
        direction = torch.linalg.solve(hessian, gradient[free])
        full = direction * torch.sqrt(2e-7 / (direction @ gradient[free]))
        config = TrustRegionConfig(max_kl=1e-7, cg_iterations=30, damping=0.0)
        moved, metrics = meta_trust_region_step(q, chunks, 4, config, bound)
        assert metrics["update/accepted"] == 1.0
        expected = q.clone()
        expected[free] += 0.8 ** metrics["update/backtracks"] * full
        torch.testing.assert_close(moved, bound.project_(expected), rtol=1e-3, atol=1e-8)
        assert metrics["update/gradient_norm"] == pytest.approx(gradient[free].norm().item())
        assert (moved[entry] == q[entry]) if held else (moved[entry] > q[entry])
