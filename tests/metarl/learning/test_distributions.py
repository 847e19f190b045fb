from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from metarl.learning.distributions import Categorical, Gaussian


def pair(seed: int) -> tuple[Gaussian, Independent]:
    generator = torch.Generator().manual_seed(seed)
    mean = torch.randn(2, 5, 3, generator=generator, dtype=torch.float64)
    log_std = 0.3 * torch.randn(2, 1, 3, generator=generator, dtype=torch.float64)
    return Gaussian(mean, log_std), Independent(Normal(mean, log_std.exp().expand_as(mean)), 1)


def test_log_probability_entropy_and_divergence_are_torchs() -> None:
    (ours, theirs), (old, their_old) = pair(0), pair(1)
    x = torch.randn(2, 5, 3, dtype=torch.float64)
    torch.testing.assert_close(ours.log_prob(x), theirs.log_prob(x))
    torch.testing.assert_close(ours.entropy(), theirs.entropy())
    torch.testing.assert_close(ours.kl_from(old), kl_divergence(their_old, theirs))


def test_the_categorical_is_torchs() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, old_logits = torch.randn(2, 2, 5, 3, generator=generator, dtype=torch.float64)
    ours, theirs = Categorical(logits), torch.distributions.Categorical(logits=logits)
    x = torch.randint(3, (2, 5), generator=generator)
    torch.testing.assert_close(ours.log_prob(x[..., None].float()), theirs.log_prob(x))
    torch.testing.assert_close(ours.entropy(), theirs.entropy())
    old = torch.distributions.Categorical(logits=old_logits)
    torch.testing.assert_close(ours.kl_from(Categorical(old_logits)), kl_divergence(old, theirs))


def test_the_metric_is_the_hessian_of_the_divergence() -> None:
    weight = torch.ones(1, 1, dtype=torch.float64)
    logits = torch.randn(3, dtype=torch.float64)
    hessian = torch.autograd.functional.hessian(lambda other: Categorical(other).kl_from(Categorical(logits)), logits)
    u = torch.randn(3, dtype=torch.float64)
    (product,) = Categorical(logits.reshape(1, 1, 3)).metric_product((u.reshape(1, 1, 3),), weight)
    torch.testing.assert_close(product.flatten(), hessian @ u)


def test_numbers_by_hand() -> None:
    gaussian = Gaussian(torch.tensor([1.0]), torch.tensor([math.log(2.0)]))
    assert gaussian.log_prob(torch.tensor([3.0])).item() == pytest.approx(
        -0.5 - math.log(2) - 0.5 * math.log(2 * math.pi)
    )
    wider = Gaussian(torch.tensor([0.0]), torch.tensor([0.0]))
    assert wider.kl_from(gaussian).item() == pytest.approx(-math.log(2) + 0.5 * (4 + 1 - 1))
    assert gaussian.kl_from(gaussian).item() == 0.0
