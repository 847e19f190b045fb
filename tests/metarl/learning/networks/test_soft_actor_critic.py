"""Soft actor-critic on its own, without further columns, by formulas and torch's distributions."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch.distributions import Independent, Normal, TanhTransform, TransformedDistribution

from metarl.learning.networks import soft_actor_critic as sac

DOUBLE = torch.float64


@pytest.fixture
def networks() -> sac.ActorCritic:
    return sac.ActorCritic(3, 2, (6, 5))


@pytest.fixture
def p(networks: sac.ActorCritic) -> sac.ActorCriticParameters:
    """Double-precision parameters whose targets are not the critics."""
    rng = np.random.default_rng(0)
    start = {name: t.double() for name, t in vars(networks.initial(0.7, rng)).items()}
    start["targets"] = start["targets"] + 0.1 * torch.tensor(rng.standard_normal(start["targets"].shape))
    return sac.ActorCriticParameters(**{name: t.requires_grad_() for name, t in start.items()})


def numbers(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.tensor(np.random.default_rng(seed).standard_normal(shape))


def test_initial_parameters(networks: sac.ActorCritic) -> None:
    start = networks.initial(0.7, np.random.default_rng(0))
    assert start.policy.shape == (1, networks.policy_network.layout.size)
    assert start.critics.shape == (2, networks.critic_networks.layout.size)
    assert torch.equal(start.critics, start.targets)
    assert start.critics.data_ptr() != start.targets.data_ptr()
    assert not torch.equal(start.critics[0], start.critics[1])
    assert start.log_temperature.exp().item() == pytest.approx(0.7)


def test_the_log_standard_deviation_is_clamped_and_differs_by_state(networks: sac.ActorCritic, p) -> None:
    with torch.no_grad():
        mean, log_std = networks.policy(p.policy, 1e4 * numbers(200, 3))
        assert mean.shape == log_std.shape == (200, 2)
        assert (log_std.min().item(), log_std.max().item()) == sac.LOG_STD_RANGE
        assert mean.abs().max() > sac.LOG_STD_RANGE[1], "the mean is not"


def test_soft_values_are_the_smaller_target_minus_the_weighted_log_probability(networks: sac.ActorCritic, p) -> None:
    observations, noise = numbers(4, 7, 3), numbers(4, 7, 2, seed=2)
    got = sac.soft_values(networks, p, observations, noise)
    with torch.no_grad():
        mean, log_std = networks.policy(p.policy, observations)
        squashed = TransformedDistribution(Independent(Normal(mean, log_std.exp()), 1), [TanhTransform(cache_size=1)])
        actions = torch.tanh(mean + log_std.exp() * noise)
        values = networks.critics(p.targets, observations, actions)
        assert (values[0] < values[1]).any()
        assert (values[1] < values[0]).any()
        expected = torch.minimum(values[0], values[1]) - 0.7 * squashed.log_prob(actions)
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-7)
    assert not got.requires_grad


def test_targets_and_critic_loss_by_hand() -> None:
    rewards, terminated, after = torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 1.0]]), torch.tensor([[10.0, 10.0]])
    targets = sac.critic_targets(rewards, terminated, after, 0.5)
    assert targets.tolist() == [[6.0, 2.0]], "a terminal step does not bootstrap"
    values = torch.tensor([[[7.0, 2.0]], [[6.0, 5.0]]])
    assert sac.critic_loss(values, targets).item() == pytest.approx(1 / 2 + 9 / 2)
    assert sac.critic_loss(values[:, 0], targets[0]).item() == pytest.approx(5.0), "without an axis of tasks"


def test_the_policy_loss_moves_the_policy_alone(networks: sac.ActorCritic, p) -> None:
    observations, noise = numbers(50, 3), numbers(50, 2, seed=2)
    loss, log_prob = sac.policy_loss(networks, p, observations, noise)
    gradients = torch.autograd.grad(loss, list(vars(p).values()), allow_unused=True, retain_graph=True)
    assert [name for name, g in zip(vars(p), gradients, strict=True) if g is not None] == ["policy"]
    # Finite differences of the loss along its own gradient
    step, (direction, *_) = 1e-5, gradients
    ends = []
    for sign in (1, -1):
        moved = copy.copy(vars(p)) | {"policy": p.policy.detach() + sign * step * direction}
        ends.append(sac.policy_loss(networks, sac.ActorCriticParameters(**moved), observations, noise)[0].item())
    assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(direction.square().sum().item(), rel=1e-5)
    (by_temperature,) = torch.autograd.grad(sac.temperature_loss(p.log_temperature, log_prob, -2.0), p.log_temperature)
    assert by_temperature.item() == pytest.approx(-0.7 * (log_prob.mean().item() - 2.0), rel=1e-6)


def test_further_columns_reach_policy_and_critics_and_get_no_gradient_from_the_policy_loss() -> None:
    networks = sac.ActorCritic(3, 2, (16, 16), context_size=4)
    p = networks.initial(1.0, np.random.default_rng(0))
    p.policy.requires_grad_()
    context = numbers(5, 1, 4).float().requires_grad_()  # one row of context for seven observations
    observations, actions = numbers(5, 7, 3).float(), numbers(5, 7, 2).float().tanh()
    for output in (
        networks.policy(p.policy, observations, context)[0],
        networks.critics(p.critics, observations, actions, context),
    ):
        (gradient,) = torch.autograd.grad(output.sum(), context)
        assert gradient.any(dim=-1).all()
    loss, _ = sac.policy_loss(networks, p, observations, actions, context)
    assert torch.autograd.grad(loss, context, allow_unused=True, retain_graph=True) == (None,)
    assert torch.autograd.grad(loss, p.policy)[0].any()


def test_an_exported_policy_computes_the_same_without_metarl(networks: sac.ActorCritic) -> None:
    p = networks.initial(1.0, np.random.default_rng(0))
    tensors, description = networks.export(p.policy)
    assert description["layers"] == 3
    x = numbers(4, 3).float()
    expected = torch.cat(networks.policy(p.policy, x), dim=-1)
    for i in range(3):
        x = x @ tensors[f"weight_{i}"] + tensors[f"bias_{i}"]
        x = torch.relu(x) if i < 2 else x
    torch.testing.assert_close(x, expected)


def test_a_masked_loss_is_the_loss_of_the_rows_that_count(networks: sac.ActorCritic, p) -> None:
    observations, noise, rows = numbers(4, 7, 3), numbers(4, 7, 2, seed=2), numbers(4, 7, seed=3) > 0
    assert 5 < rows.sum() < 25
    mask = rows.double()
    targets, values = numbers(4, 7, seed=4), networks.critics(p.critics, observations, torch.tanh(noise))
    masked = sac.critic_loss(values, targets, mask)
    torch.testing.assert_close(masked, sac.critic_loss(values[:, rows], targets[rows]), rtol=1e-12, atol=0)
    loss, log_prob = sac.policy_loss(networks, p, observations, noise, mask=mask)
    expected, chosen = sac.policy_loss(networks, p, observations[rows], noise[rows])
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    of_rows = sac.temperature_loss(p.log_temperature, chosen, -2.0)
    torch.testing.assert_close(sac.temperature_loss(p.log_temperature, log_prob, -2.0, mask), of_rows)


def test_critics_with_an_encoder_of_their_own_see_other_observations_than_the_policy(
    networks: sac.ActorCritic, p
) -> None:
    mine, theirs, noise = numbers(7, 3).requires_grad_(), numbers(7, 3, seed=5).requires_grad_(), numbers(7, 2, seed=2)
    mean, log_std = networks.policy(p.policy, mine)
    actions = torch.tanh(mean + log_std.exp() * noise)
    loss, log_prob = sac.policy_loss(networks, p, mine, noise, critic_observations=theirs)
    smaller = networks.critics(p.critics, theirs, actions).amin(dim=0)
    torch.testing.assert_close(loss, (p.log_temperature.exp() * log_prob - smaller).mean())
    loss.backward()
    assert mine.grad is not None
    assert theirs.grad is None
    soft = sac.soft_values(networks, p, mine, noise, critic_observations=theirs)
    smaller = networks.critics(p.targets, theirs, actions).amin(dim=0)
    torch.testing.assert_close(soft, (smaller - p.log_temperature.exp() * log_prob).detach())


def test_a_step_by_numpy_is_the_policy(networks: sac.ActorCritic) -> None:
    start = networks.initial(1.0, np.random.default_rng(0))
    observations = np.random.default_rng(1).standard_normal((9, 3)).astype(np.float32)
    scaled = start.policy * 40.0  # so that some deviations reach their bounds
    with torch.no_grad():
        expected = networks.policy(scaled, torch.tensor(observations))
    assert (expected[1] == sac.LOG_STD_RANGE[1]).any()
    for got, wanted in zip(
        networks.policy_step(scaled, observations[:, :2], observations[:, 2:]), expected, strict=True
    ):
        np.testing.assert_allclose(got, wanted.numpy(), rtol=1e-4, atol=1e-4)
