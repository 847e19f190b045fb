"""The outer objective by autograd, against the one whose derivatives are written by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from metarl.learning.gradient.adaptation import PolicyGradientAdaptation
from metarl.learning.gradient.autograd_objective import AutogradObjective
from metarl.learning.gradient.losses import inner_loss
from metarl.learning.gradient.meta_trust_region import ChunkLinearisation, RebuiltLinearisation, in_chunks
from metarl.learning.gradient.policy import Samples
from metarl.learning.networks import fast_weights
from metarl.learning.networks.distributions import Distribution
from metarl.learning.networks.flat import mlp_layers
from metarl.learning.rules.base import evidence_of
from metarl.types import Spaces

DOUBLE = torch.float64


@pytest.fixture(params=["continuous", "discrete"])
def some_spaces(request, spaces: Spaces, discrete_spaces: Spaces) -> Spaces:
    return spaces if request.param == "continuous" else discrete_spaces


@pytest.fixture
def pair(make_agent, random_samples, some_spaces: Spaces) -> tuple[AutogradObjective, ChunkLinearisation, Tensor]:
    """A gradient step by autograd, and by hand, of three tasks; and the initial parameters."""
    agent = make_agent(1, some_spaces)
    policy, parameters = agent.policy, agent.tensors()["parameters"].double()
    before, last = (random_samples(3, 11, some_spaces, seed) for seed in (0, 1))

    def at(each: Tensor, observations: Tensor) -> Distribution:
        arrays = policy.layout.split(each)
        output = fast_weights.evaluate(mlp_layers(arrays), observations, policy.activation)
        return policy.distribution(output, arrays)

    def adapted(meta_parameters: Tensor) -> Distribution:
        each = meta_parameters.expand(3, -1)
        loss = evidence_of(
            lambda p: inner_loss(at(p, before.observations), before), each, first_order=not each.requires_grad
        )
        return at(each - 0.1 * loss.gradient, last.observations)

    by_hand = ChunkLinearisation(policy, PolicyGradientAdaptation(policy, [before], parameters, 0.1), last)
    return AutogradObjective(adapted, parameters, last), by_hand, parameters


def test_gradient_curvature_and_values_are_those_by_hand(pair) -> None:
    found, expected, parameters = pair

    def same(one: Tensor, other: Tensor) -> None:
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)

    same(found.gradient, expected.gradient)
    v = torch.randn(parameters.shape, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    for tangent in (v, v.flip(0)):  # the second one through the graph that is kept
        same(found.curvature_product(tangent), expected.curvature_product(tangent))
    for other in (parameters, parameters + 0.01 * v):
        same(found.evaluate(other), expected.evaluate(other))


def test_nothing_that_it_returns_has_a_graph(pair) -> None:
    found, _, parameters = pair
    for result in (found.gradient, found.curvature_product(parameters), found.evaluate(parameters)):
        assert not result.requires_grad


def test_products_forwards_and_backwards_are_transposes(pair) -> None:
    found, _, parameters = pair
    v = torch.randn(parameters.shape, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    tangents = found.jvp(v)
    cotangents = tuple(torch.randn_like(t) for t in tangents)
    along = sum((t * c).sum() for t, c in zip(tangents, cotangents, strict=True))
    torch.testing.assert_close(found.vjp(cotangents) @ v, along)


@pytest.mark.parametrize("keep", [True, False])
def test_chunks_that_do_not_fit_are_linearised_again(random_samples, spaces: Spaces, monkeypatch, keep: bool) -> None:
    monkeypatch.setattr("metarl.learning.gradient.meta_trust_region.fits", lambda *_: keep)
    samples, made = [random_samples(3, 11, spaces, 0)], list[int]()

    class Made:
        gradient = torch.zeros(2)

        def __init__(self, some: list[Samples]) -> None:
            made.append(len(some[0].weights))

        def curvature_product(self, v: Tensor) -> Tensor:
            return v

        def evaluate(self, meta_parameters: Tensor) -> Tensor:
            return meta_parameters

    chunks = in_chunks(Made, samples, (3, 4))
    first = list(made)
    assert sum(first) == 3
    for chunk in chunks:
        assert isinstance(chunk, RebuiltLinearisation) is not keep
        chunk.curvature_product(torch.zeros(2))
    assert made == (first if keep else first + first)
