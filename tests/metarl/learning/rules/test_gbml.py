"""The learned direction of GBML, against the gradient and a plain loop over coordinates."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from metarl.learning.rules.base import Evidence, GradientStep
from metarl.learning.rules.gbml import LearnedDirection

DOUBLE = torch.float64
M, P, S, H = 3, 5, 2, 4


@pytest.fixture
def rule() -> LearnedDirection:
    return LearnedDirection(0.1, S, H)


@pytest.fixture
def evidence() -> Evidence:
    rng = np.random.default_rng(0)
    return Evidence(*(torch.tensor(rng.normal(size=shape)) for shape in (M, (M, P), (M, S))))


@pytest.fixture
def parameters() -> Tensor:
    return torch.tensor(np.random.default_rng(1).normal(size=(M, P)))


def test_at_the_start_the_direction_is_the_gradient(rule, evidence: Evidence, parameters: Tensor) -> None:
    before = torch.get_rng_state()
    own = rule.initial(parameters[0], np.random.default_rng(0))
    assert torch.equal(before, torch.get_rng_state())
    assert len(own) == rule.size.own
    assert (own != 0).sum() == H * (4 + S), "the layer behind the inputs is not 0, so that it can learn"
    found, memory = rule.step(own, parameters, evidence, rule.fresh_memory(own, parameters))
    expected, _ = GradientStep(0.1).step(own, parameters, evidence, ())
    torch.testing.assert_close(found, expected, rtol=1e-14, atol=0.0)
    assert memory == ()


def test_a_step_is_that_of_a_plain_loop_over_coordinates(rule, evidence: Evidence, parameters: Tensor) -> None:
    own = torch.tensor(np.random.default_rng(2).normal(size=rule.layout.size))
    arrays = {name: t[0].numpy() for name, t in rule.layout.split(own.unsqueeze(0)).items()}
    found, _ = rule.step(own, parameters, evidence, ())
    for m in range(M):
        size = math.sqrt(sum(float(g) ** 2 for g in evidence.gradient[m]) / P)
        of_task = [float(evidence.loss[m]), math.log(size), *map(float, evidence.statistics[m])]
        for p in range(P):
            g, theta = float(evidence.gradient[m, p]), float(parameters[m, p])
            hidden = [
                math.tanh(
                    arrays["of_coordinate"][k, 0] * math.asinh(g / size)
                    + arrays["of_coordinate"][k, 1] * theta
                    + sum(w * math.asinh(x) for w, x in zip(arrays["of_task"][k], of_task, strict=True))
                    + arrays["bias"][k, 0]
                )
                for k in range(H)
            ]
            factor, added = (
                sum(v * h for v, h in zip(arrays["out"][k], hidden, strict=True)) + arrays["out_bias"][k, 0]
                for k in (0, 1)
            )
            expected = theta - 0.1 * ((1.0 + factor) * g + size * added)
            assert float(found[m, p]) == pytest.approx(expected, rel=1e-10)


def test_a_gradient_of_zero_has_no_step_and_finite_derivatives(rule, parameters: Tensor) -> None:
    own = torch.tensor(np.random.default_rng(2).normal(size=rule.layout.size))
    gradient, zeros = torch.zeros(M, P, dtype=DOUBLE, requires_grad=True), torch.zeros(M, S, dtype=DOUBLE)
    after, _ = rule.step(own, parameters, Evidence(zeros[:, 0], gradient, zeros), ())
    torch.testing.assert_close(after, parameters, rtol=0.0, atol=1e-7)
    (found,) = torch.autograd.grad(after.sum(), gradient)
    assert found.isfinite().all()


def test_other_numbers_about_the_data_than_it_was_made_for_are_refused(evidence: Evidence, parameters: Tensor) -> None:
    rule = LearnedDirection(0.1, S + 1, H)
    own = rule.initial(parameters[0], np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"statistics: got 2 numbers about the data, expected 3"):
        rule.step(own, parameters, evidence, ())
