"""The formulas of amortised MAML, in closed form and against torch.func."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from metarl.agents.few_shot.amortised_maml import (
    AmortisedMaml,
    AmortisedMamlConfig,
    Posterior,
    divergence,
    hyperprior_loss,
)
from metarl.few_shot.shots import ShotSpaces
from metarl.learning.few_shot.base import Examples

REAL = ShotSpaces((3,), 2, classification=False, shots=4, queries=5)
CLASSES = ShotSpaces((3,), 2, classification=True, shots=4, queries=5)
STEPS, RATE, SAMPLES, WEIGHT, HYPER = 3, 0.05, 2, 0.01, 0.001


def learner(spaces: ShotSpaces = REAL, clip: float = 10.0) -> tuple[AmortisedMaml, Tensor]:
    """A small learner, and the parameters of its prior in float64, moved from their start."""
    config = AmortisedMamlConfig(
        hidden=(6,),
        inner_steps=STEPS,
        inner_lr=RATE,
        inner_clip=clip,
        samples=SAMPLES,
        prediction_samples=5,
        kl_weight=WEIGHT,
        hyperprior_weight=HYPER,
        initial_std=0.2,
        vary_shots=False,
    )
    built = AmortisedMaml(config, spaces, device=torch.device("cpu"), rng=np.random.default_rng(0))
    moved = 0.1 * np.random.default_rng(1).standard_normal(len(built.parameters))
    return built, built.parameters.detach().double() + torch.tensor(moved)


def examples(seed: int, count: int, spaces: ShotSpaces = REAL) -> Examples:
    """Random examples of two tasks."""
    rng = np.random.default_rng(seed)
    x, y = torch.tensor(rng.standard_normal((2, count, 3))), rng.standard_normal((2, count, 2))
    return Examples(x, torch.tensor(np.eye(2)[y.argmax(-1)] if spaces.classification else y))


def plain_loss(built: AmortisedMaml, flat: Tensor, noise: Tensor, x: Tensor, y: Tensor, prior: Tensor) -> Tensor:
    """Mean loss over samples plus the weighted divergence of one task, with torch.distributions."""
    mean, log_std = flat.chunk(2)
    total = flat.new_zeros(())
    for eps in noise:
        outputs = built.network((mean + log_std.exp() * eps).unsqueeze(0), x.unsqueeze(0))[0]
        if built.spaces.classification:
            total = total - (torch.log_softmax(outputs, -1) * y).sum(-1).mean()
        else:
            total = total + ((outputs - y) ** 2).mean()
    mu, log_s = prior.chunk(2)
    q, p = torch.distributions.Normal(mean, log_std.exp()), torch.distributions.Normal(mu, log_s.exp())
    return total / len(noise) + WEIGHT * torch.distributions.kl_divergence(q, p).sum()


def plain_step(built: AmortisedMaml, flat: Tensor, noise: Tensor, x: Tensor, y: Tensor, prior: Tensor) -> Tensor:
    """One step of adaptation of one task, with torch.func."""
    gradient = torch.func.grad(lambda at: plain_loss(built, at, noise, x, y, prior))(flat)
    norm = float(gradient.detach().square().sum().sqrt())
    if norm > built.config.inner_clip:
        gradient = gradient * built.config.inner_clip / gradient.square().sum().sqrt()
    return flat - RATE * gradient


def plain_outer_loss(
    built: AmortisedMaml, prior: Tensor, draws: list[Tensor], support: Examples, queries: Examples
) -> Tensor:
    """The objective of training, task by task; `draws` are one array per step, then that of the queries."""
    total = prior.new_zeros(())
    for m in range(2):
        flat = prior
        for noise in draws[:-1]:
            flat = plain_step(built, flat, noise[:, m], support.x[m], support.y[m], prior)
        total = total + plain_loss(built, flat, draws[-1][:, m], queries.x[m], queries.y[m], prior)
    mu, log_s = prior.chunk(2)
    normal = torch.distributions.Normal(0.0, 1.0).log_prob(mu) + math.log(2 * math.pi) / 2
    precision = (-2 * log_s).exp()
    gamma = torch.distributions.Gamma(1.0, torch.tensor(0.01, dtype=torch.float64)).log_prob(precision) - math.log(0.01)
    return total / 2 - HYPER * (normal + gamma).sum()


def test_divergence_by_numerical_integration() -> None:
    q = Posterior(torch.tensor([[0.3]], dtype=torch.float64), torch.tensor([[-0.5]], dtype=torch.float64))
    prior = Posterior(torch.tensor([[-0.4]], dtype=torch.float64), torch.tensor([[0.2]], dtype=torch.float64))
    w = np.linspace(-10, 10, 200_001)
    densities = [
        np.exp(-((w - float(one.mean)) ** 2) / (2 * math.exp(2 * float(one.log_std))))
        / (math.sqrt(2 * math.pi) * math.exp(float(one.log_std)))
        for one in (q, prior)
    ]
    inside = densities[0] > 1e-200
    integrand = densities[0][inside] * np.log(densities[0][inside] / densities[1][inside])
    assert float(divergence(q, prior)) == pytest.approx(float(integrand.sum() * (w[1] - w[0])), abs=1e-9)
    assert float(divergence(q, q)) == 0.0


def test_hyperprior_by_hand() -> None:
    prior = Posterior(torch.tensor([[1.0, -2.0]]), torch.tensor([[0.0, math.log(0.1)]]))
    assert float(hyperprior_loss(prior)) == pytest.approx((1 + 4) / 2 + 0.01 * (1 + 100), rel=1e-6)


@pytest.mark.parametrize(("spaces", "clip"), [(REAL, 10.0), (CLASSES, 10.0), (REAL, 0.05)])
def test_adaptation_and_meta_gradient_agree_with_torch_func(spaces: ShotSpaces, clip: float) -> None:
    built, parameters = learner(spaces, clip)
    support, queries = examples(1, 4, spaces), examples(2, 5, spaces)
    rng = np.random.default_rng(6)
    shape = (SAMPLES, 2, built.network.size)
    draws = [torch.tensor(rng.standard_normal(shape, dtype=np.float32)).double() for _ in range(STEPS + 1)]
    parameters.requires_grad_()
    built.rng = np.random.default_rng(6)
    found = built._loss(parameters, support, queries)
    expected = plain_outer_loss(built, parameters, draws, support, queries)
    assert float(found.detach()) == pytest.approx(float(expected.detach()), abs=1e-10)
    gradients = [torch.autograd.grad(loss, parameters)[0] for loss in (found, expected)]
    assert torch.allclose(*gradients, rtol=0, atol=1e-10)


def test_adaptation_after_training_uses_fixed_samples() -> None:
    built, parameters = learner()
    support = examples(1, 4)
    noise = torch.tensor(np.random.default_rng(0).standard_normal((5, 1, built.network.size)), dtype=torch.float32)
    state = built._adapted(parameters, built._fresh(parameters, 2), support, exact=False)
    for m in range(2):
        flat = parameters
        for _ in range(STEPS):
            flat = plain_step(built, flat, noise[:, 0].double(), support.x[m], support.y[m], parameters)
        assert torch.allclose(state.flat[m], flat, rtol=0, atol=1e-10)


@pytest.mark.parametrize("spaces", [REAL, CLASSES])
def test_predictions_average_over_samples(spaces: ShotSpaces) -> None:
    built, parameters = learner(spaces)
    state = built._adapted(parameters, built._fresh(parameters, 2), examples(1, 4, spaces), exact=False)
    x = examples(2, 3, spaces).x
    found = built._outputs(parameters, state, x)
    expected = torch.zeros_like(found)
    for eps in built._fixed.double()[:, 0]:
        for m in range(2):
            outputs = built.network((state.mean[m] + state.log_std[m].exp() * eps).unsqueeze(0), x[m : m + 1])[0]
            expected[m] += (torch.softmax(outputs, -1) if spaces.classification else outputs) / 5
    found = torch.softmax(found, dim=-1) if spaces.classification else found
    assert torch.allclose(found, expected, rtol=0, atol=1e-10)


def test_training_uses_a_random_number_of_shots() -> None:
    built, parameters = learner()
    built.config = dataclasses.replace(built.config, vary_shots=True)
    support, queries = examples(1, 4), examples(2, 5)
    shape = (SAMPLES, 2, built.network.size)
    for seed in range(4):
        built.rng, rng = np.random.default_rng(seed), np.random.default_rng(seed)
        count = int(rng.integers(1, 4, endpoint=True))
        draws = [torch.tensor(rng.standard_normal(shape, dtype=np.float32)).double() for _ in range(STEPS + 1)]
        some = Examples(support.x[:, :count], support.y[:, :count])
        expected = float(plain_outer_loss(built, parameters, draws, some, queries).detach())
        assert float(built._loss(parameters, support, queries).detach()) == pytest.approx(expected, abs=1e-10)


def test_a_weight_that_no_example_needs_keeps_its_prior() -> None:
    built, parameters = learner()
    support = examples(1, 4)
    support.x[..., 2] = 0.0  # the weights of this input have no influence on the loss
    state = built._adapted(parameters, built._fresh(parameters, 2), support, exact=False)
    unused = slice(2 * 6, 3 * 6)
    prior = Posterior.of(parameters.unsqueeze(0))
    assert torch.allclose(state.mean[:, unused], prior.mean[:, unused].expand(2, -1), rtol=0, atol=1e-12)
    assert torch.allclose(state.log_std[:, unused], prior.log_std[:, unused].expand(2, -1), rtol=0, atol=1e-12)
    assert not torch.allclose(state.mean[:, :12], prior.mean[:, :12].expand(2, -1), rtol=0, atol=1e-4)
