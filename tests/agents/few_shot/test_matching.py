"""The formulas of matching networks, against plain loops."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from metarl.agents.few_shot.matching import Matching, MatchingConfig, log_probabilities
from metarl.few_shot.shots import ShotSpaces
from metarl.learning.few_shot.base import Examples

TASKS, WAYS, SHOTS, QUERIES, INPUTS, TEMPERATURE = 2, 3, 4, 5, 6, 0.3
Draw = Callable[[np.random.Generator, int], Examples]
SPACES = ShotSpaces((INPUTS,), WAYS, classification=True, shots=SHOTS, queries=QUERIES)


def learner() -> tuple[Matching, Tensor]:
    """A small learner, and its parameters in float64."""
    config = MatchingConfig(hidden=(7,), embedding=4, temperature=TEMPERATURE)
    built = Matching(config, SPACES, device=torch.device("cpu"), rng=np.random.default_rng(0))
    return built, built.parameters.detach().double()


def plain_probabilities(built: Matching, parameters: Tensor, support: Examples, query: Tensor) -> list[float]:
    """Equation 1 for one query of the first task, with loops over the support."""
    f = built.network(parameters.unsqueeze(0), query.view(1, 1, -1)).flatten().tolist()
    weights, total = [0.0] * WAYS, 0.0
    for i in range(support.x.shape[1]):
        g = built.network(parameters.unsqueeze(0), support.x[:1, i : i + 1]).flatten().tolist()
        product = sum(a * b for a, b in zip(f, g, strict=True))
        cosine = product / math.sqrt(sum(a * a for a in f)) / math.sqrt(sum(b * b for b in g))
        attention = math.exp(cosine / TEMPERATURE)
        total += attention
        weights[int(support.y[0, i].argmax())] += attention
    return [weight / total for weight in weights]


def test_probabilities_are_the_attention_on_the_examples_of_each_class(examples: Draw) -> None:
    built, parameters = learner()
    rng = np.random.default_rng(1)
    support, queries = examples(rng, SHOTS), examples(rng, QUERIES)
    state = built._adapted(parameters, built._fresh(parameters, TASKS), support, exact=False)
    found = torch.softmax(built._outputs(parameters, state, queries.x), dim=-1)
    for b in range(QUERIES * WAYS):
        expected = plain_probabilities(built, parameters, support, queries.x[0, b])
        assert found[0, b].tolist() == pytest.approx(expected, abs=1e-10)


def test_probabilities_by_hand() -> None:
    cosines = torch.tensor([[[1.0, 0.0, -1.0]]], dtype=torch.float64)
    labels = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]], dtype=torch.float64)
    p = torch.softmax(log_probabilities(cosines, labels, 0.5), dim=-1)
    total = math.exp(2) + 1 + math.exp(-2)
    assert p.flatten().tolist() == pytest.approx([(math.exp(2) + math.exp(-2)) / total, 1 / total, 0.0], abs=1e-15)


def test_the_gradient_agrees_with_finite_differences(examples: Draw, check_gradient: Callable[..., None]) -> None:
    built, parameters = learner()
    rng = np.random.default_rng(3)
    support, queries = examples(rng, 2), examples(rng, 2)
    check_gradient(lambda at: built._loss(at, support, queries), parameters)


def test_a_small_temperature_and_a_missing_class_leave_loss_and_gradient_finite(examples: Draw) -> None:
    config = MatchingConfig(hidden=(7,), embedding=4, temperature=1e-4)
    built = Matching(config, SPACES, device=torch.device("cpu"), rng=np.random.default_rng(0))
    rng = np.random.default_rng(4)
    support, queries = (Examples(one.x.float(), one.y.float()) for one in (examples(rng, 1), examples(rng, 1)))
    two = Examples(support.x[:, :2], support.y[:, :2])
    parameters = built.parameters
    for given in (support, two):
        seen = Examples(queries.x[:, :2], queries.y[:, :2])
        loss = built._loss(parameters, given, seen)
        (gradient,) = torch.autograd.grad(loss, parameters)
        assert math.isfinite(float(loss.detach()))
        assert torch.isfinite(gradient).all()


def test_examples_of_a_second_adaptation_are_added(examples: Draw) -> None:
    built, parameters = learner()
    support, queries = examples(np.random.default_rng(5), 2), examples(np.random.default_rng(6), 2)
    state = built._fresh(parameters, TASKS)
    for part in (slice(0, 3), slice(3, 6)):
        state = built._adapted(parameters, state, Examples(support.x[:, part], support.y[:, part]), exact=False)
    whole = built._adapted(parameters, built._fresh(parameters, TASKS), support, exact=False)
    one, other = (built._outputs(parameters, s, queries.x) for s in (state, whole))
    assert torch.allclose(one, other, rtol=0, atol=1e-12)
