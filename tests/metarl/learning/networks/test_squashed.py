from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Independent, Normal, TanhTransform, TransformedDistribution

from metarl.learning.networks.squashed import squashed_sample

DOUBLE = torch.float64


def test_log_density_is_that_of_torchs_transformed_distribution() -> None:
    generator = torch.Generator().manual_seed(0)
    mean, log_std, noise = (torch.randn(7, 5, 3, generator=generator, dtype=DOUBLE) for _ in range(3))
    action, log_prob = squashed_sample(mean, 0.5 * log_std, noise)
    base = Independent(Normal(mean, torch.exp(0.5 * log_std)), 1)
    expected = TransformedDistribution(base, [TanhTransform(cache_size=1)])
    torch.testing.assert_close(action, torch.tanh(mean + torch.exp(0.5 * log_std) * noise))
    torch.testing.assert_close(log_prob, expected.log_prob(action))


def test_gradients_are_those_of_the_reparametrised_density() -> None:
    generator = torch.Generator().manual_seed(1)
    start = [torch.randn(4, 2, generator=generator, dtype=DOUBLE) for _ in range(3)]
    gradients = []
    for plain in (False, True):
        mean, log_std = (t.clone().requires_grad_() for t in start[:2])
        if plain:
            base = Independent(Normal(mean, log_std.exp()), 1)
            u = mean + log_std.exp() * start[2]
            log_prob = base.log_prob(u) - torch.log(1 - torch.tanh(u) ** 2).sum(dim=-1)
        else:
            _, log_prob = squashed_sample(mean, log_std, start[2])
        gradients.append(torch.autograd.grad(log_prob.sum(), [mean, log_std]))
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("mean", [-30.0, 30.0])
def test_log_density_stays_finite_where_tanh_is_one(mean: float) -> None:
    m = torch.tensor([mean], requires_grad=True)
    action, log_prob = squashed_sample(m, torch.zeros(1), torch.zeros(1))
    assert action.abs().item() == 1.0
    assert log_prob.item() == pytest.approx(-0.5 * math.log(2 * math.pi) + 2 * (30 - math.log(2)), rel=1e-6)
    (gradient,) = torch.autograd.grad(log_prob, m)
    assert gradient.item() == pytest.approx(math.copysign(2.0, mean))
