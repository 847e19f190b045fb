from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from metarl.learning.networks.distributions import Categorical, Gaussian
from metarl.learning.networks.modules import ActorCritic, PolicySettings, Tanh, linear, orthogonal
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


def make(spaces: Spaces, **changes: Any) -> ActorCritic:
    settings = PolicySettings(**{"init_std": 0.5, "min_std": 0.1, **changes})
    return ActorCritic(3, spaces, hidden=(4,), activation="tanh", policy=settings, rng=np.random.default_rng(0))


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
    assert network.policy.std(0.0) == pytest.approx(0.5)


def test_the_deviation_has_a_floor_and_choices_have_none(spaces: Spaces, discrete_spaces: Spaces) -> None:
    assert make(spaces, min_std=0.8).policy.std(0.0) == pytest.approx(0.8)
    assert make(spaces, max_std=0.3).policy.std(0.0) == pytest.approx(0.3)
    distribution, _ = make(discrete_spaces)(torch.zeros(2, 3))
    assert isinstance(distribution, Categorical)
    assert distribution.logits.shape == (2, 4)
    assert make(discrete_spaces, std="state", mean="tanh").policy.std(1.0) == 0.0


def test_a_distribution_stays_what_it_is_when_the_parameters_move(spaces: Spaces) -> None:
    network = make(spaces)
    with torch.no_grad():
        distribution, _ = network(torch.zeros(1, 3))
        assert not distribution.log_std.requires_grad
        network.policy.log_std.add_(1.0)
    assert distribution.log_std.exp().tolist() == pytest.approx([0.5, 0.5])


@pytest.mark.parametrize("max_std", [0.0, 1.5])
def test_a_deviation_per_state_keeps_its_bounds_and_its_gradient_however_far_the_network_goes(
    spaces: Spaces, max_std: float
) -> None:
    """Float32: a clamp has no gradient beyond the bounds, a tanh none beyond 9."""
    policy = make(spaces, std="state", max_std=max_std).policy
    assert policy.log_std is None
    with torch.no_grad():
        policy.deviation.weight.zero_()
    lowest = highest = 0.5
    for x in (-80.0, -30.0, -3.0, 0.0, 3.0, 30.0, 80.0):
        policy.zero_grad()
        with torch.no_grad():
            policy.deviation.bias.fill_(x)
        log_std = policy(torch.randn(3, 4)).log_std
        assert log_std.shape == (3, 2)
        lowest, highest = min(lowest, log_std.exp().min().item()), max(highest, log_std.min().exp().item())
        log_std.sum().backward()
        assert (policy.deviation.bias.grad > 0).all(), x
        by_hand = math.log(0.1) + np.logaddexp(0.0, x)
        if max_std:
            centre, half = (math.log(1.5) + math.log(0.1)) / 2, (math.log(1.5) - math.log(0.1)) / 2
            by_hand = centre + half * x / (1 + abs(x))
        assert log_std.flatten().tolist() == pytest.approx([by_hand] * 6, rel=1e-5)
    assert lowest == pytest.approx(0.1, rel=0.05)
    assert (highest == pytest.approx(1.5, rel=0.05)) if max_std else (highest > 1e9)


@pytest.mark.parametrize("bounds", [(1e-6, 0.0), (0.1, 1.5), (0.1, 0.51), (0.49, 0.0)])
def test_a_deviation_per_state_starts_where_it_is_told_to_and_the_value_as_ever(spaces, bounds) -> None:
    shared, state = make(spaces), make(spaces, std="state", min_std=bounds[0], max_std=bounds[1])
    distribution, _ = state(torch.zeros(2, 3))
    assert distribution.log_std.exp().flatten().tolist() == pytest.approx([0.5] * 4, rel=1e-5)
    assert torch.equal(state.policy.output.weight, shared.policy.output.weight)
    spread = state(torch.randn(50, 3, generator=torch.Generator().manual_seed(0)))[0].log_std
    assert spread.std(dim=0).min() > 0, "it depends on the state"


def test_the_reported_deviation_per_state_is_the_geometric_mean(spaces: Spaces) -> None:
    network = make(spaces, std="state", max_std=1.5)
    with torch.no_grad():
        network.policy.deviation.weight.normal_(generator=torch.Generator().manual_seed(0))
        distribution, _ = network(torch.randn(7, 3, generator=torch.Generator().manual_seed(1)))
    geometric = distribution.log_std.mean().exp().item()
    assert distribution.log_std.std() > 0.1
    assert network.policy.std(distribution.entropy().mean().item()) == pytest.approx(geometric, rel=1e-5)


def test_a_mean_through_a_tanh_stays_within_a_full_action(spaces: Spaces) -> None:
    network = make(spaces, mean="tanh", action_scale=10.0)
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    plain = make(spaces)(x)[0].mean
    torch.testing.assert_close(network(x)[0].mean, 10.0 * torch.tanh(plain))
    with torch.no_grad():
        network.policy.output.bias.fill_(99.0)
    assert (network(x)[0].mean == 10.0).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_std": 0.6, "max_std": 0.5}, "min_std: got 0.6, expected at most max_std = 0.5"),
        ({"std": "state", "max_std": 0.5}, "init_std: got 0.5, expected a number between min_std = 0.1 and max_std"),
        ({"std": "state", "min_std": 0.5}, "init_std: got 0.5, expected a number between min_std = 0.5 and max_std"),
    ],
)
def test_bounds_that_leave_no_room_are_refused(spaces: Spaces, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(spaces, **settings)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_hyperbolic_tangent_by_numpy_is_torchs(dtype: torch.dtype) -> None:
    x = torch.linspace(-12.0, 12.0, 2401, dtype=dtype).view(7, 343).T.requires_grad_()
    weights = torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    found = []
    for layer in (Tanh(), nn.Tanh()):
        values = layer(x)
        found.append((values.detach(), *torch.autograd.grad((weights * values).sum(), x)))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6 if dtype == torch.float32 else 1e-13)
    with torch.no_grad():
        assert Tanh()(torch.tensor([torch.nan, torch.inf])).isnan().tolist() == [True, False]
