from __future__ import annotations

import numpy as np
import pytest
import torch

from metarl.learning.actor_critic import ActorCritic, linear, orthogonal
from metarl.learning.distributions import Categorical, Gaussian
from metarl.types import Spaces


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (4, 4)])
def test_initial_matrices_are_orthogonal_and_depend_on_the_generator_alone(shape: tuple[int, int]) -> None:
    matrix = orthogonal(*shape, 2.0, np.random.default_rng(3))
    assert matrix.shape == shape
    small = matrix if shape[0] <= shape[1] else matrix.T
    torch.testing.assert_close(small @ small.T, 4.0 * torch.eye(min(shape)), atol=1e-5, rtol=0)
    assert torch.equal(matrix, orthogonal(*shape, 2.0, np.random.default_rng(3)))
    assert not torch.equal(matrix, orthogonal(*shape, 2.0, np.random.default_rng(4)))


def test_making_layers_leaves_the_global_generator_alone() -> None:
    before = torch.random.get_rng_state()
    layer = linear(3, 2, 1.0, np.random.default_rng(0))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not layer.bias.any()


def make(spaces: Spaces, **changes: float) -> ActorCritic:
    settings = {"init_std": 0.5, "min_std": 0.1, **changes}
    return ActorCritic(3, spaces, hidden=(4,), activation="tanh", rng=np.random.default_rng(0), **settings)


def test_the_networks_are_the_perceptrons_that_they_say(spaces: Spaces) -> None:
    network = make(spaces)
    x = torch.tensor([[1.0, -2.0, 0.5], [0.0, 1.0, 2.0]])
    distribution, values = network(x)
    w = dict(network.named_parameters())
    mean = torch.tanh(x @ w["actor.0.weight"].T) @ w["policy.output.weight"].T
    value = torch.tanh(x @ w["critic.0.weight"].T) @ w["value.weight"].T
    assert isinstance(distribution, Gaussian)
    torch.testing.assert_close(distribution.mean, mean)
    torch.testing.assert_close(values, value[:, 0])
    assert distribution.log_std.exp().tolist() == pytest.approx([0.5, 0.5])
    assert network.policy.std() == pytest.approx(0.5)


def test_the_deviation_has_a_floor_and_choices_have_none(spaces: Spaces, discrete_spaces: Spaces) -> None:
    assert make(spaces, min_std=0.8).policy.std() == pytest.approx(0.8)
    distribution, _ = make(discrete_spaces)(torch.zeros(2, 3))
    assert isinstance(distribution, Categorical)
    assert distribution.logits.shape == (2, 4)
    assert make(discrete_spaces).policy.std() == 0.0
