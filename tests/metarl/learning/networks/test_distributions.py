from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, Normal, kl_divergence

from metarl.learning.networks.distributions import Categorical, Distribution, Gaussian, sample, sample_with_log_prob


def pair(seed: int, steps: int = 1) -> tuple[Gaussian, Independent]:
    """Ours and torch's; the deviations of 5 steps are the same if `steps` is 1."""
    generator = torch.Generator().manual_seed(seed)
    mean = torch.randn(2, 5, 3, generator=generator, dtype=torch.float64)
    log_std = 0.3 * torch.randn(2, steps, 3, generator=generator, dtype=torch.float64)
    return Gaussian(mean, log_std), Independent(Normal(mean, log_std.exp().expand_as(mean)), 1)


@pytest.mark.parametrize("steps", [1, 5], ids=["shared deviation", "deviation per state"])
def test_log_probability_entropy_and_divergence_are_torchs(steps: int) -> None:
    (ours, theirs), (old, their_old) = pair(0, steps), pair(1, steps)
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


Problem = tuple[Distribution, Distribution, Tensor, Tensor, Tensor, tuple[Tensor, ...]]


@pytest.fixture(params=["gaussian", "categorical"])
def problem(request) -> Problem:
    """A distribution over `[M, B] = [2, 5]`, another one, actions, weights, second weights, tangents."""
    generator = torch.Generator().manual_seed(3)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    new: Distribution
    if request.param == "gaussian":
        new, old, x = Gaussian(normal(2, 5, 3), 0.3 * normal(2, 1, 3)), pair(1)[0], normal(2, 5, 3)
    else:
        new, old = Categorical(normal(2, 5, 3)), Categorical(normal(2, 5, 3))
        x = torch.randint(3, (2, 5, 1), generator=generator).double()
    return new, old, x, normal(2, 5), normal(2, 5), tuple(normal(*t.shape) for t in new)


def leaves_of(distribution: Distribution) -> Distribution:
    return type(distribution)(*(t.clone().requires_grad_() for t in distribution))


def test_gradients_of_log_probability_and_divergence_are_those_of_autograd(problem: Problem) -> None:
    new, old, x, weight, *_ = problem
    for value, ours in (
        (lambda d: d.log_prob(x), new.log_prob_gradient(x, weight)),
        (lambda d: d.kl_from(old), new.kl_gradient(old, weight)),
    ):
        leaves = leaves_of(new)
        expected = torch.autograd.grad((weight * value(leaves)).sum(), leaves)
        torch.testing.assert_close(ours, expected)


def test_the_hessian_product_of_functions_of_the_log_probability_is_that_of_autograd(problem: Problem) -> None:
    """Each sample's function is `slope * l + bend * l^2 / 2` with l less its value here."""
    new, _, x, slope, bend, tangents = problem
    leaves = leaves_of(new)
    less = leaves.log_prob(x) - new.log_prob(x)
    gradients = torch.autograd.grad((slope * less + 0.5 * bend * less.square()).sum(), leaves, create_graph=True)
    expected = torch.autograd.grad(gradients, leaves, tangents)
    torch.testing.assert_close(new.log_prob_product(x, slope, bend, tangents), expected)


def test_a_divergence_from_itself_has_no_gradient(problem: Problem) -> None:
    new, _, _, weight, *_ = problem
    assert not any(g.any() for g in new.kl_gradient(new, weight))


def test_numbers_by_hand() -> None:
    gaussian = Gaussian(torch.tensor([1.0]), torch.tensor([math.log(2.0)]))
    assert gaussian.log_prob(torch.tensor([3.0])).item() == pytest.approx(
        -0.5 - math.log(2) - 0.5 * math.log(2 * math.pi)
    )
    wider = Gaussian(torch.tensor([0.0]), torch.tensor([0.0]))
    assert wider.kl_from(gaussian).item() == pytest.approx(-math.log(2) + 0.5 * (4 + 1 - 1))
    assert gaussian.kl_from(gaussian).item() == 0.0
    # With z = 1 and a deviation of 2: scores z / 2 of the mean and z^2 - 1 of its logarithm.
    alone = Gaussian(torch.tensor([[[1.0]]]), torch.tensor([[[math.log(2.0)]]]))
    gradient = alone.log_prob_gradient(torch.tensor([[[3.0]]]), torch.tensor([[10.0]]))
    assert [g.item() for g in gradient] == pytest.approx([5.0, 0.0])


@pytest.mark.parametrize("mode", [False, True])
@pytest.mark.parametrize("kind", ["gaussian", "gaussian, deviation per state", "categorical"])
def test_samples_come_with_their_log_probabilities(kind: str, mode: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    shape = (4, 3) if kind.endswith("state") else (3,)
    distribution: Distribution = Gaussian(
        torch.randn(4, 3, generator=generator), torch.randn(shape, generator=generator) - 1.0
    )
    if kind == "categorical":
        distribution = Categorical(torch.randn(4, 3, generator=generator))
    output, log_prob = sample_with_log_prob(distribution, np.random.default_rng(0), mode)
    assert (output.dtype, log_prob.dtype) == (np.float32, np.float32)
    assert np.array_equal(output, sample(distribution, np.random.default_rng(0), mode))
    torch.testing.assert_close(torch.tensor(log_prob), distribution.log_prob(torch.tensor(output)))
