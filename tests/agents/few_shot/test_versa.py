"""The formulas of VERSA, by hand, against plain loops and by many samples."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from metarl.agents.few_shot.versa import Versa, VersaConfig, moments, predictive_losses, sampled_log_probabilities
from metarl.few_shot.shots import ShotSpaces
from metarl.learning.few_shot.base import Examples
from metarl.learning.few_shot.supports import Summary

FEATURES = 4
REAL = ShotSpaces((3,), 2, classification=False, shots=4, queries=5)
CLASSES = ShotSpaces((3,), 2, classification=True, shots=4, queries=5)


def learner(spaces: ShotSpaces, samples: int = 3) -> tuple[Versa, Tensor]:
    """A small learner, and its parameters in float64, moved from their start."""
    config = VersaConfig(hidden=(7,), features=FEATURES, amortisation=(6,), samples=samples, initial_noise=0.5)
    built = Versa(config, spaces, device=torch.device("cpu"), rng=np.random.default_rng(0))
    noise = 0.3 * np.random.default_rng(1).standard_normal(len(built.parameters))
    return built, built.parameters.detach().double() + torch.tensor(noise)


def examples(seed: int, shots: int, spaces: ShotSpaces) -> Examples:
    """Random examples of two tasks, for a classification one of each class after another."""
    rng = np.random.default_rng(seed)
    count = shots * spaces.per_shot
    x = torch.tensor(rng.standard_normal((2, count, 3)))
    real = torch.tensor(rng.standard_normal((2, count, 2)))
    classes = torch.eye(2, dtype=torch.float64).repeat(shots, 1).expand(2, -1, -1)
    return Examples(x, classes if spaces.classification else real)


def adapted(built: Versa, parameters: Tensor, support: Examples) -> Summary:
    return built._adapted(parameters, built._fresh(parameters, 2), support, exact=False)


def weights_of(built: Versa, parameters: Tensor, support: Examples, task: int) -> tuple[Tensor, Tensor]:
    """Means and variances of the weights of a task, `[O, F + 1]` each, example by example."""
    network, amortisation, *rest = (part.unsqueeze(0) for part in torch.split(parameters, built._sizes))
    features = [built.network(network, x.view(1, 1, -1)).flatten() for x in support.x[task]]
    if built.encoder is None:
        rows = []
        for k in range(2):
            own = [h for h, y in zip(features, support.y[task], strict=True) if y[k] == 1]
            mean = sum(own[1:], own[0]) / len(own)
            rows.append(built.amortisation(amortisation, mean.view(1, 1, -1)).flatten())
        both = torch.stack(rows)
    else:
        pairs = [torch.cat([h, y]) for h, y in zip(features, support.y[task], strict=True)]
        encoded = [built.encoder(rest[0], pair.view(1, 1, -1)).flatten() for pair in pairs]
        mean = sum(encoded[1:], encoded[0]) / len(encoded)
        both = built.amortisation(amortisation, mean.view(1, 1, -1)).view(2, -1)
    return both[:, : FEATURES + 1], both[:, FEATURES + 1 :].exp()


def test_outputs_have_the_mean_and_the_variance_of_sampled_weights() -> None:
    rng = np.random.default_rng(0)
    weights, h = torch.tensor(rng.standard_normal((1, 2, 10))), torch.tensor(rng.standard_normal((1, 3, 4)))
    mean, variance = moments(weights, h)
    for b in range(3):
        for o in range(2):
            padded = [*h[0, b].tolist(), 1.0]
            mu, log_variance = weights[0, o, :5].tolist(), weights[0, o, 5:].tolist()
            by_hand = sum(m * v for m, v in zip(mu, padded, strict=True))
            spread = sum(math.exp(s) * v * v for s, v in zip(log_variance, padded, strict=True))
            assert float(mean[0, b, o]) == pytest.approx(by_hand, abs=1e-10)
            assert float(variance[0, b, o]) == pytest.approx(spread, abs=1e-10)


@pytest.mark.parametrize("spaces", [REAL, CLASSES])
def test_the_posterior_is_that_of_the_mean_of_the_support(spaces: ShotSpaces) -> None:
    built, parameters = learner(spaces)
    support, queries = examples(1, 4, spaces), examples(2, 5, spaces)
    mean, variance = built._moments(parameters, adapted(built, parameters, support), queries.x)
    network = torch.split(parameters, built._sizes)[0]
    for m in range(2):
        mu, s2 = weights_of(built, parameters, support, m)
        for b in range(queries.x.shape[1]):
            h = functional.pad(
                built.network(network.unsqueeze(0), queries.x[m, b].view(1, 1, -1)).flatten(), (0, 1), value=1
            )
            assert torch.allclose(mean[m, b], (mu * h).sum(dim=-1), rtol=0, atol=1e-10)
            assert torch.allclose(variance[m, b], (s2 * h * h).sum(dim=-1), rtol=0, atol=1e-10)


def test_the_loss_of_a_classification_averages_probabilities_of_samples() -> None:
    built, parameters = learner(CLASSES)
    support, queries = examples(1, 1, CLASSES), examples(2, 5, CLASSES)
    mean, variance = built._moments(parameters, adapted(built, parameters, support), queries.x)
    built.rng = np.random.default_rng(4)
    found = float(built._loss(parameters, support, queries))
    again = np.random.default_rng(4)
    again.integers(1, 1, endpoint=True)
    noise = again.standard_normal((3, *mean.shape), dtype=np.float32)
    nats = []
    for m in range(2):
        for b in range(queries.x.shape[1]):
            probabilities = []
            for sample in range(3):
                spread = [
                    math.sqrt(v) * float(e) for v, e in zip(variance[m, b].tolist(), noise[sample, m, b], strict=True)
                ]
                logits = [mu + e for mu, e in zip(mean[m, b].tolist(), spread, strict=True)]
                right = logits[int(queries.y[m, b].argmax())]
                probabilities.append(math.exp(right) / sum(math.exp(logit) for logit in logits))
            nats.append(-math.log(sum(probabilities) / 3))
    assert found == pytest.approx(sum(nats) / len(nats), abs=1e-10)


def test_sampled_logits_have_the_probabilities_of_sampled_weights() -> None:
    rng = np.random.default_rng(0)
    weights, h = torch.tensor(rng.standard_normal((1, 2, 10))), torch.tensor(rng.standard_normal((1, 1, 4)))
    count = 200_000
    noise = torch.tensor(rng.standard_normal((count, 1, 1, 2)))
    found = sampled_log_probabilities(*moments(weights, h), noise).exp().flatten()
    psi = weights[0, :, :5] + (weights[0, :, 5:] / 2).exp() * torch.tensor(rng.standard_normal((count, 2, 5)))
    logits = psi @ functional.pad(h[0, 0], (0, 1), value=1.0)
    assert torch.allclose(found, torch.softmax(logits, dim=-1).mean(dim=0), rtol=0, atol=4 * 0.5 / math.sqrt(count))


def test_the_loss_of_a_regression_is_the_limit_of_many_samples() -> None:
    built, parameters = learner(REAL)
    support, queries = examples(1, 4, REAL), examples(2, 1, REAL)
    mean, variance = built._moments(parameters, adapted(built, parameters, support), queries.x)
    noise = torch.split(parameters, built._sizes)[3].exp()
    found = predictive_losses(mean, variance + noise, queries.y)
    density = torch.distributions.Normal(mean, (variance + noise).sqrt()).log_prob(queries.y)
    assert torch.allclose(found, -density.mean(dim=(1, 2)), rtol=0, atol=1e-10)
    rng, count = np.random.default_rng(7), 400_000
    network = torch.split(parameters, built._sizes)[0].unsqueeze(0)
    for m in range(2):
        mu, s2 = weights_of(built, parameters, support, m)
        psi = mu + s2.sqrt() * torch.tensor(rng.standard_normal((count, 2, FEATURES + 1)))
        h = functional.pad(built.network(network, queries.x[m : m + 1]).flatten(), (0, 1), value=1.0)
        densities = torch.distributions.Normal(psi @ h, noise.sqrt()).log_prob(queries.y[m, 0]).exp()
        error = 5 * densities.std(dim=0) / densities.mean(dim=0) / math.sqrt(count)
        assert ((densities.mean(dim=0).log() - density[m, 0]).abs() < error).all()


def test_the_loss_of_a_regression_uses_a_random_number_of_shots() -> None:
    built, parameters = learner(REAL)
    support, queries = examples(1, 4, REAL), examples(2, 5, REAL)
    noise, by_count = torch.split(parameters, built._sizes)[3].exp(), []
    for count in range(5):
        state = adapted(built, parameters, Examples(support.x[:, :count], support.y[:, :count]))
        mean, variance = built._moments(parameters, state, queries.x)
        by_count.append(float(predictive_losses(mean, variance + noise, queries.y).mean()))
    built.rng = np.random.default_rng(3)
    numbers = np.random.default_rng(3).integers(0, 4, size=40, endpoint=True)
    found = [float(built._loss(parameters, support, queries)) for _ in range(40)]
    assert found == pytest.approx([by_count[n] for n in numbers], abs=1e-10)


def test_predicted_probabilities_average_over_samples_and_are_the_same_every_time() -> None:
    built, parameters = learner(CLASSES)
    state = adapted(built, parameters, examples(1, 4, CLASSES))
    x = examples(2, 5, CLASSES).x
    p = torch.softmax(built._outputs(parameters, state, x), dim=-1)
    assert torch.equal(p, torch.softmax(built._outputs(parameters, state, x), dim=-1))
    mean, variance = built._moments(parameters, state, x)
    noise = torch.tensor(np.random.default_rng(9).standard_normal((20_000, *mean.shape)))
    many = sampled_log_probabilities(mean, variance, noise).exp()
    assert torch.allclose(p, many, rtol=0, atol=0.15)
    assert torch.allclose(p.sum(dim=-1), torch.ones(2, 10, dtype=torch.float64))


@pytest.mark.parametrize("spaces", [REAL, CLASSES])
def test_the_gradient_agrees_with_finite_differences(spaces: ShotSpaces, check_gradient: Callable[..., None]) -> None:
    built, parameters = learner(spaces)
    support, queries = examples(1, 4, spaces), examples(2, 2, spaces)

    def loss(at: Tensor) -> Tensor:
        built.rng = np.random.default_rng(0)
        return built._loss(at, support, queries)

    check_gradient(loss, parameters, rel=1e-5)
