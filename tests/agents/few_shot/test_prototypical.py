"""The formulas of prototypical networks, against plain loops."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from metarl.agents.few_shot.prototypical import Prototypical, PrototypicalConfig, negative_distances
from metarl.few_shot.shots import ShotSpaces
from metarl.learning.few_shot.base import Examples

TASKS, WAYS, SHOTS, QUERIES, INPUTS = 2, 3, 4, 5, 6
Draw = Callable[[np.random.Generator, int], Examples]
SPACES = ShotSpaces((INPUTS,), WAYS, classification=True, shots=SHOTS, queries=QUERIES)


def learner() -> tuple[Prototypical, Tensor]:
    """A small learner, and its parameters in float64."""
    config = PrototypicalConfig(hidden=(7,), embedding=4)
    built = Prototypical(config, SPACES, device=torch.device("cpu"), rng=np.random.default_rng(0))
    return built, built.parameters.detach().double()


def plain_embedding(parameters: Tensor, x: Tensor) -> list[float]:
    """The embedding of one input, with loops over units."""
    sizes, at, values = (INPUTS, 7, 4), 0, x.tolist()
    for layer in range(2):
        rows, columns = sizes[layer], sizes[layer + 1]
        weights = parameters[at : at + rows * columns].view(rows, columns).tolist()
        biases = parameters[at + rows * columns : at + (rows + 1) * columns].tolist()
        at += (rows + 1) * columns
        values = [sum(values[i] * weights[i][j] for i in range(rows)) + biases[j] for j in range(columns)]
        values = [max(v, 0.0) for v in values] if layer == 0 else values
    return values


def test_probabilities_are_a_softmax_of_distances_to_class_means(examples: Draw) -> None:
    built, parameters = learner()
    rng = np.random.default_rng(1)
    support, queries = examples(rng, SHOTS), examples(rng, QUERIES)
    state = built._adapted(parameters, built._fresh(parameters, TASKS), support, exact=False)
    found = torch.softmax(built._outputs(parameters, state, queries.x), dim=-1)
    for m in range(TASKS):
        embedded = [plain_embedding(parameters, x) for x in support.x[m]]
        means = [[sum(e[z] for e in embedded[k::WAYS]) / SHOTS for z in range(4)] for k in range(WAYS)]
        for b in range(QUERIES * WAYS):
            f = plain_embedding(parameters, queries.x[m, b])
            weights = [math.exp(-sum((f[z] - c[z]) ** 2 for z in range(4))) for c in means]
            for k in range(WAYS):
                assert abs(float(found[m, b, k]) - weights[k] / sum(weights)) < 1e-10


def test_distances_by_hand() -> None:
    f = torch.tensor([[[1.0, 2.0], [0.0, -1.0]]])
    c = torch.tensor([[[1.0, 0.0], [3.0, 3.0], [0.0, -1.0]]])
    assert negative_distances(f, c).tolist() == [[[-4.0, -5.0, -10.0], [-2.0, -25.0, 0.0]]]


def test_the_loss_is_the_mean_negative_log_probability_of_the_class(examples: Draw) -> None:
    built, parameters = learner()
    rng = np.random.default_rng(2)
    support, queries = examples(rng, SHOTS), examples(rng, QUERIES)
    state = built._adapted(parameters, built._fresh(parameters, TASKS), support, exact=False)
    p = torch.softmax(built._outputs(parameters, state, queries.x), dim=-1)
    expected = -np.mean([math.log(p[m, b, b % WAYS]) for m in range(TASKS) for b in range(QUERIES * WAYS)])
    assert float(built._loss(parameters, support, queries)) == pytest.approx(expected, abs=1e-10)


def test_the_gradient_agrees_with_finite_differences(examples: Draw, check_gradient: Callable[..., None]) -> None:
    built, parameters = learner()
    rng = np.random.default_rng(3)
    support, queries = examples(rng, 2), examples(rng, 2)
    check_gradient(lambda at: built._loss(at, support, queries), parameters)


def test_a_class_without_examples_is_impossible_until_it_has_one(examples: Draw) -> None:
    built, parameters = learner()
    support = examples(np.random.default_rng(4), 2)
    two = torch.tensor([0, 1, 3, 4])  # no example of class 2
    fresh = built._fresh(parameters, TASKS)
    state = built._adapted(parameters, fresh, Examples(support.x[:, two], support.y[:, two]), exact=False)
    p = torch.softmax(built._outputs(parameters, state, support.x), dim=-1)
    assert (p[..., 2] == 0).all()
    assert torch.allclose(p.sum(dim=-1), torch.ones(TASKS, 2 * WAYS, dtype=torch.float64))
    rest = torch.tensor([2, 5])
    state = built._adapted(parameters, state, Examples(support.x[:, rest], support.y[:, rest]), exact=False)
    whole = built._adapted(parameters, fresh, support, exact=False)
    assert torch.allclose(state.means, whole.means, rtol=0, atol=1e-12)
