"""The formulas of the conditional neural process, by hand and against plain loops."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from metarl.agents.few_shot.neural_process import NeuralProcess, NeuralProcessConfig, gaussian_losses
from metarl.few_shot.shots import ShotSpaces
from metarl.learning.few_shot.base import Examples

REAL = ShotSpaces((3,), 2, classification=False, shots=4, queries=5)
CLASSES = ShotSpaces((3,), 2, classification=True, shots=4, queries=5)
IMAGES = ShotSpaces((1, 8, 8), 2, classification=True, shots=2, queries=2)


def learner(spaces: ShotSpaces = REAL) -> tuple[NeuralProcess, Tensor]:
    """A small learner, and its parameters in float64."""
    config = NeuralProcessConfig(hidden=(7,), encoding=4, features=5, channels=3, least_std=0.05)
    built = NeuralProcess(config, spaces, device=torch.device("cpu"), rng=np.random.default_rng(0))
    return built, built.parameters.detach().double()


def examples(seed: int, count: int, spaces: ShotSpaces = REAL) -> Examples:
    """Random examples of two tasks."""
    rng = np.random.default_rng(seed)
    x = torch.tensor(rng.standard_normal((2, count, *spaces.x_shape)))
    y = rng.standard_normal((2, count, 2))
    return Examples(x, torch.tensor(np.eye(2)[y.argmax(-1)] if spaces.classification else y))


def adapted(built: NeuralProcess, parameters: Tensor, support: Examples) -> object:
    return built._adapted(parameters, built._fresh(parameters, 2), support, exact=False)


def test_density_by_hand() -> None:
    mean, std = torch.tensor([[[0.0, 1.0]]], dtype=torch.float64), torch.tensor([[[1.0, 2.0]]], dtype=torch.float64)
    y = torch.tensor([[[1.0, 5.0]]], dtype=torch.float64)
    nats = [0.5 + 0.5 * math.log(2 * math.pi), 2.0 + math.log(2.0) + 0.5 * math.log(2 * math.pi)]
    assert float(gaussian_losses(mean, std, y)) == pytest.approx(sum(nats) / 2, abs=1e-12)
    density = torch.distributions.Normal(mean, std).log_prob(y)
    assert float(gaussian_losses(mean, std, y)) == pytest.approx(-float(density.mean()), abs=1e-12)


@pytest.mark.parametrize("spaces", [REAL, CLASSES, IMAGES])
def test_the_order_of_the_support_does_not_matter(spaces: ShotSpaces) -> None:
    built, parameters = learner(spaces)
    support, queries = examples(1, 6, spaces), examples(2, 3, spaces)
    order = torch.tensor(np.random.default_rng(0).permutation(6))
    shuffled = Examples(support.x[:, order], support.y[:, order])
    one, other = (built._outputs(parameters, adapted(built, parameters, s), queries.x) for s in (support, shuffled))
    assert torch.allclose(one, other, rtol=0, atol=1e-12)


def test_predictions_by_plain_loops() -> None:
    built, parameters = learner()
    support, queries = examples(1, 4), examples(2, 5)
    encoder, decoder = built._split(parameters)
    state = adapted(built, parameters, support)
    for m in range(2):
        encodings = []
        for i in range(4):
            pair = torch.cat([support.x[m, i], support.y[m, i]])
            encodings.append(built.encoder(encoder.unsqueeze(0), pair.view(1, 1, -1)).flatten())
        mean = sum(encodings[1:], encodings[0]) / 4
        for b in range(5):
            joined = torch.cat([queries.x[m, b], mean]).view(1, 1, -1)
            expected = built.decoder(decoder.unsqueeze(0), joined).flatten()[:2]
            assert torch.allclose(built._outputs(parameters, state, queries.x)[m, b], expected, rtol=0, atol=1e-10)


def test_a_classification_has_one_mean_encoding_of_each_class() -> None:
    built, parameters = learner(CLASSES)
    support, queries = examples(1, 6, CLASSES), examples(2, 5, CLASSES)
    encoder, decoder = built._split(parameters)
    found = built._outputs(parameters, adapted(built, parameters, support), queries.x)
    for m in range(2):
        means = []
        for k in range(2):
            own = [torch.cat([x, y]) for x, y in zip(support.x[m], support.y[m], strict=True) if y[k] == 1]
            encodings = [built.encoder(encoder.unsqueeze(0), pair.view(1, 1, -1)).flatten() for pair in own]
            means.append(sum(encodings[1:], encodings[0]) / len(encodings))
        for b in range(5):
            joined = torch.cat([queries.x[m, b], *means]).view(1, 1, -1)
            assert torch.allclose(
                found[m, b], built.decoder(decoder.unsqueeze(0), joined).flatten(), rtol=0, atol=1e-10
            )


def test_a_repeated_support_has_the_same_mean_encoding() -> None:
    built, parameters = learner()
    support, queries = examples(1, 4), examples(2, 3)
    twice = Examples(support.x.repeat(1, 2, 1), support.y.repeat(1, 2, 1))
    one, other = (built._outputs(parameters, adapted(built, parameters, s), queries.x) for s in (support, twice))
    assert torch.allclose(one, other, rtol=0, atol=1e-12)


def test_training_draws_the_number_of_shots_from_the_learners_generator() -> None:
    built, parameters = learner()
    support, queries = examples(1, 4), examples(2, 5)
    by_count = []
    for count in range(5):
        state = adapted(built, parameters, Examples(support.x[:, :count], support.y[:, :count]))
        mean, raw = built._decoded(parameters, state, queries.x).chunk(2, dim=-1)
        std = 0.05 + torch.log1p(raw.exp())
        by_count.append(-float(torch.distributions.Normal(mean, std).log_prob(queries.y).mean()))
    built.rng = np.random.default_rng(3)
    numbers = np.random.default_rng(3).integers(0, 4, size=40, endpoint=True)
    found = [float(built._loss(parameters, support, queries)) for _ in range(40)]
    assert found == pytest.approx([by_count[n] for n in numbers], abs=1e-10)
    assert set(numbers) == {0, 1, 2, 3, 4}


@pytest.mark.parametrize("spaces", [REAL, IMAGES])
def test_the_gradient_agrees_with_finite_differences(spaces: ShotSpaces, check_gradient: Callable[..., None]) -> None:
    built, parameters = learner(spaces)
    support, queries = examples(1, 4, spaces), examples(2, 2, spaces)

    def loss(at: Tensor) -> Tensor:
        built.rng = np.random.default_rng(0)
        return built._loss(at, support, queries)

    check_gradient(loss, parameters, rel=1e-5)
