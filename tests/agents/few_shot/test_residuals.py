"""Regressions that correct a learned prediction by residuals: VERSA and the neural process, against plain loops."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from metarl.agents.few_shot.neural_process import NeuralProcess, NeuralProcessConfig
from metarl.agents.few_shot.versa import Versa, VersaConfig
from metarl.few_shot.shots import Shots, ShotSpaces
from metarl.learning.few_shot.base import Examples
from metarl.learning.few_shot.supports import ZEROS
from metarl.types import MetaBatch, Task

REAL = ShotSpaces((3,), 2, classification=False, shots=4, queries=5)
IMAGES = ShotSpaces((1, 8, 8), 2, classification=False, shots=2, queries=2)
CLASSES = ShotSpaces((3,), 2, classification=True, shots=4, queries=5)
CONFIGS: dict[str, Any] = {
    "versa": VersaConfig(hidden=(7,), features=4, amortisation=(6,), channels=3, residuals=True, learning_rate=3e-3),
    "neural-process": NeuralProcessConfig(
        hidden=(7,), encoding=4, features=5, channels=3, residuals=True, learning_rate=3e-3
    ),
}
KINDS: dict[str, Any] = {"versa": Versa, "neural-process": NeuralProcess}


def built(name: str, spaces: ShotSpaces = REAL) -> Any:
    return KINDS[name](CONFIGS[name], spaces, device=torch.device("cpu"), rng=np.random.default_rng(0))


def moved(learner: Any) -> Tensor:
    """Parameters in float64, moved from their start."""
    noise = 0.3 * np.random.default_rng(1).standard_normal(len(learner.parameters))
    return learner.parameters.detach().double() + torch.tensor(noise)


def examples(seed: int, count: int, spaces: ShotSpaces = REAL) -> Examples:
    """Random examples of two tasks."""
    rng = np.random.default_rng(seed)
    x = torch.tensor(rng.standard_normal((2, count, *spaces.x_shape)))
    return Examples(x, torch.tensor(rng.standard_normal((2, count, 2))))


def adapted(learner: Any, parameters: Tensor, support: Examples) -> Any:
    return learner._adapted(parameters, learner._fresh(parameters, 2), support, exact=False)


def one(network: Any, parameters: Tensor, x: Tensor) -> Tensor:
    """Output of a network for one input, `[O]`."""
    return network(parameters.unsqueeze(0), x.view(1, 1, *x.shape)).flatten()


def with_bias(x: Tensor) -> Tensor:
    return functional.pad(x, (0, 1), value=1.0)


def test_weights_of_versa_by_plain_loops() -> None:
    learner = built("versa")
    parameters = moved(learner)
    support, queries = examples(1, 4), examples(2, 5)
    mean, variance = learner._moments(parameters, adapted(learner, parameters, support), queries.x)
    network, amortisation, base, _ = torch.split(parameters, learner._sizes)
    for o, own in enumerate(base.view(2, 10)):
        for m in range(2):
            total = torch.zeros(5, dtype=torch.float64)
            for x, y in zip(support.x[m], support.y[m], strict=True):
                h = with_bias(one(learner.network, network, x))
                total += (y[o] - own[:5] @ h) * h
            psi = own + one(learner.amortisation, amortisation, total / (4 + ZEROS))
            for b, x in enumerate(queries.x[m]):
                h = with_bias(one(learner.network, network, x))
                assert float(mean[m, b, o]) == pytest.approx(float(psi[:5] @ h), abs=1e-10)
                assert float(variance[m, b, o]) == pytest.approx(float(psi[5:].exp() @ (h * h)), abs=1e-10)


def test_predictions_of_the_process_by_plain_loops() -> None:
    learner = built("neural-process")
    parameters = moved(learner)
    support, queries = examples(1, 4), examples(2, 5)
    decoded = learner._decoded(parameters, adapted(learner, parameters, support), queries.x)
    encoder, decoder, coefficients = learner._split(parameters)
    for o in range(2):
        for m in range(2):
            total = torch.zeros(5, dtype=torch.float64)
            for x, y in zip(support.x[m], support.y[m], strict=True):
                total += (y[o] - one(learner.decoder, decoder, x)[o]) * with_bias(one(learner.encoder, encoder, x))
            found = one(learner.coefficients, coefficients, total / (4 + ZEROS))
            for b, x in enumerate(queries.x[m]):
                first = one(learner.decoder, decoder, x)
                expected = first[o] + first[4:] @ found[:4] + found[4]
                assert float(decoded[m, b, o]) == pytest.approx(float(expected), abs=1e-10)
                assert float(decoded[m, b, 2 + o]) == pytest.approx(float(first[2 + o] + found[5]), abs=1e-10)


def test_a_residual_times_a_feature_is_the_gradient_of_the_last_layer() -> None:
    learner = built("versa")
    parameters = moved(learner)
    support = examples(1, 4)
    base = learner._base(parameters)[..., :5].detach().requires_grad_()
    network = torch.split(parameters, learner._sizes)[0]
    h = with_bias(learner.network.shared(network, support.x))
    (gradient,) = torch.autograd.grad((support.y - h @ base.mT)[:1].square().sum() / 2, base)
    assert torch.allclose(adapted(learner, parameters, support).sums[:1], -gradient, rtol=0, atol=1e-10)


@pytest.mark.parametrize("spaces", [REAL, IMAGES])
@pytest.mark.parametrize("name", sorted(KINDS))
def test_an_untrained_learner_predicts_the_same_with_and_without_a_support(name: str, spaces: ShotSpaces) -> None:
    learner = built(name, spaces)
    parameters = learner.parameters.detach().double()
    support, queries = examples(1, 4, spaces), examples(2, 5, spaces)
    without = learner._outputs(parameters, learner._fresh(parameters, 2), queries.x)
    found = learner._outputs(parameters, adapted(learner, parameters, support), queries.x)
    assert torch.equal(found, without)
    assert float(found.std()) > 0.01
    changed = moved(learner)
    before = learner._outputs(changed, learner._fresh(changed, 2), queries.x)
    assert not torch.allclose(learner._outputs(changed, adapted(learner, changed, support), queries.x), before)


@pytest.mark.parametrize("name", sorted(KINDS))
def test_more_examples_can_be_added_later(name: str) -> None:
    learner = built(name)
    parameters, support = moved(learner), examples(1, 6)
    together, state = adapted(learner, parameters, support), learner._fresh(parameters, 2)
    for i in (4, 0, 2):
        part = Examples(support.x[:, i : i + 2], support.y[:, i : i + 2])
        state = learner._adapted(parameters, state, part, exact=False)
    assert torch.allclose(state.sums, together.sums, rtol=0, atol=1e-12)
    assert torch.equal(state.counts, torch.full((2, 2), 6.0, dtype=torch.float64))


@pytest.mark.parametrize("name", sorted(KINDS))
def test_the_gradient_agrees_with_finite_differences(name: str, check_gradient: Callable[..., None]) -> None:
    learner = built(name)
    parameters = moved(learner)
    support, queries = examples(1, 4), examples(2, 2)

    def loss(at: Tensor) -> Tensor:
        learner.rng = np.random.default_rng(0)
        return learner._loss(at, support, queries)

    check_gradient(loss, parameters, rel=1e-5)


@pytest.mark.parametrize("name", sorted(KINDS))
def test_a_classification_is_not_changed(name: str) -> None:
    config = dataclasses.replace(CONFIGS[name], residuals=False)
    plain = KINDS[name](config, CLASSES, device=torch.device("cpu"), rng=np.random.default_rng(0))
    support = Examples(examples(1, 4).x, torch.eye(2, dtype=torch.float64).repeat(2, 1).expand(2, -1, -1))
    learner, parameters = built(name, CLASSES), moved(plain)
    expected = plain._outputs(parameters, adapted(plain, parameters, support), support.x)
    assert torch.equal(learner._outputs(parameters, adapted(learner, parameters, support), support.x), expected)


@pytest.mark.parametrize("name", sorted(KINDS))
def test_training_learns_to_correct_linear_functions(name: str) -> None:
    learner, rng = built(name), np.random.default_rng(3)
    task = Task.of("linear", number=0)

    def drawn(tasks: int) -> tuple[Shots, Shots]:
        slopes = rng.standard_normal((tasks, 1, 3, 2))
        x = rng.standard_normal((tasks, 1, 9, 3))
        both = Shots(x, x @ slopes)
        return both.first(4), Shots(both.x[:, :, 4:], both.y[:, :, 4:])

    for _ in range(500):
        learner.meta_update(MetaBatch((task,) * 20, drawn(20)))
    support, queries = drawn(100)
    state = learner.begin([task] * 100, 1)
    y = torch.tensor(queries.y, dtype=torch.float32)
    before = float((learner.predict(state, queries.x) - y).square().mean())
    after = float((learner.predict(learner.adapt(state, support), queries.x) - y).square().mean())
    assert math.isfinite(before)
    assert after < 0.85 * before
