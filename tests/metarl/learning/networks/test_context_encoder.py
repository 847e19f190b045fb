"""The product of Gaussian factors, by hand and against torch's divergence."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from metarl.learning.networks.context_encoder import (
    MIN_VARIANCE,
    ContextEncoder,
    kl_from_prior,
    natural_parameters,
    posterior,
)

DOUBLE = torch.float64


def test_the_posterior_is_the_product_of_the_gaussians_by_hand() -> None:
    """N(1, 1/2) N(4, 1) N(-2, 1/4): precisions 2 + 1 + 4, mean (2 + 4 - 8) / 7."""
    mean, variance = torch.tensor([[1.0], [4.0], [-2.0]]), torch.tensor([[0.5], [1.0], [0.25]])
    m, v = posterior(*natural_parameters(mean, variance, torch.ones(3)))
    assert v.item() == pytest.approx(1 / 7)
    assert m.item() == pytest.approx(-2 / 7)
    m, v = posterior(*natural_parameters(mean, variance, torch.tensor([1.0, 0.0, 1.0])))
    assert v.item() == pytest.approx(1 / 6), "a masked factor does not count"
    assert m.item() == pytest.approx(-1.0)
    m, v = posterior(*natural_parameters(mean, variance, torch.tensor([3.0])))
    assert v.item() == pytest.approx(1 / 21), "each stands for three"
    assert m.item() == pytest.approx(-2 / 7)


def test_the_posterior_does_not_depend_on_the_order_of_the_context() -> None:
    encoder, rng = ContextEncoder(4, (6, 5), 3), np.random.default_rng(0)
    parameters = encoder.initial(rng).double()
    context = [torch.tensor(rng.standard_normal((2, 5, width))) for width in (3, 1)]
    order, weight = torch.tensor([3, 0, 4, 2, 1]), torch.tensor([0.5, 2.0], dtype=DOUBLE)
    got = encoder.infer(parameters, context, weight)
    again = encoder.infer(parameters, [column[:, order] for column in context], weight)
    for one, other in zip(got, again, strict=True):
        assert one.shape == (2, 3)
        torch.testing.assert_close(one, other)
    assert not torch.equal(*got[0])


def test_no_factor_has_less_than_the_smallest_variance() -> None:
    encoder = ContextEncoder(1, (), 2)
    parameters = torch.tensor([[0.0, 0.0, -1e3, 0.0] + [0.0] * 4])
    _, variance = encoder.factors(parameters, [torch.ones(1, 1, 1)])
    assert variance[0, 0, 0].item() == pytest.approx(MIN_VARIANCE)
    assert variance[0, 0, 1].item() == pytest.approx(np.log(2.0)), "softplus of zero"


def test_kl_from_the_prior_is_torchs() -> None:
    mean, variance = torch.randn(6, 3, dtype=DOUBLE), torch.rand(6, 3, dtype=DOUBLE) + 0.1
    plain = torch.distributions.kl_divergence(
        torch.distributions.Normal(mean, variance.sqrt()),
        torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean)),
    )
    torch.testing.assert_close(kl_from_prior(mean, variance), plain.sum(dim=-1))
