from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from metarl.learning.networks.belief import BeliefEncoder, BeliefMemory, BeliefPolicy, Posterior
from metarl.learning.networks.cells.settings import CellSettings
from metarl.learning.networks.distributions import at_step
from metarl.learning.networks.modules import ActorCritic, PolicySettings
from metarl.learning.networks.sequence import SequenceNetwork, unroll
from metarl.types import Spaces


def test_a_drawn_latent_has_the_beliefs_mean_and_deviation() -> None:
    belief = Posterior(torch.tensor([1.0, -2.0]), torch.tensor([0.0, math.log(9.0)]))
    assert belief.drawn(torch.tensor([0.5, 2.0])).tolist() == pytest.approx([1.5, 4.0])


def test_an_encoder_step_by_step_is_the_encoder_over_the_trial() -> None:
    encoder = BeliefEncoder(3, 2, hidden=(4,), cell=CellSettings(units=5), steps=6, rng=np.random.default_rng(0))
    x = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0))
    whole, end = encoder(x, encoder.fresh_memory(2))
    memory = encoder.fresh_memory(2)
    for t in range(6):
        belief, memory = encoder(x[:, t : t + 1], memory)
        torch.testing.assert_close(belief.mean[:, 0], whole.mean[:, t])
        torch.testing.assert_close(belief.log_variance[:, 0], whole.log_variance[:, t])
    torch.testing.assert_close(memory, end)
    assert not torch.allclose(whole.mean, whole.log_variance)


def policy_on_beliefs(spaces: Spaces) -> BeliefPolicy:
    """A policy that sees twice the belief."""
    rng = np.random.default_rng(0)
    encoder = BeliefEncoder(5, 2, hidden=(4,), cell=CellSettings(units=6), steps=6, rng=rng)
    policy = ActorCritic(3 + 4, spaces, hidden=(5,), activation="tanh", policy=PolicySettings(), rng=rng)
    return BeliefPolicy(encoder, policy, 3, lambda beliefs: 2 * beliefs)


@torch.no_grad()
def test_a_policy_on_beliefs_sees_the_observation_and_the_belief_as_it_is_shown(spaces: Spaces) -> None:
    network, x = policy_on_beliefs(spaces), torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(0))
    beliefs, cell = network.encoder(x, network.encoder.fresh_memory(2))
    expected = network.actor_critic(torch.cat([x[..., :3], 2 * beliefs.mean, 2 * beliefs.log_variance], dim=-1))
    fresh = network.fresh_memory(2)
    assert not fresh.belief.any()
    distribution, values, memory = network(x, fresh)
    torch.testing.assert_close(distribution, expected[0])
    torch.testing.assert_close(values, expected[1])
    torch.testing.assert_close(memory, BeliefMemory(cell, torch.cat(beliefs, dim=-1)[:, -1]))


@torch.no_grad()
def test_what_is_computed_at_once_is_what_steps_one_after_another_give(spaces: Spaces) -> None:
    network, x = policy_on_beliefs(spaces), torch.randn(3, 6, 5, generator=torch.Generator().manual_seed(0))
    steps, fresh = torch.tensor([1, 6, 4]), network.fresh_memory(3)
    slow = SequenceNetwork.memory_after(network, x, fresh, steps)
    torch.testing.assert_close(network.memory_after(x, fresh, steps), slow)
    values = unroll(network, x)[1]
    torch.testing.assert_close(network.value_after(x, steps - 1), values[torch.arange(3), steps - 1])
    assert values.std() > 1e-3


@torch.no_grad()
def test_steps_of_acting_are_a_pass_over_the_trial(spaces: Spaces) -> None:
    network, x = policy_on_beliefs(spaces), torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(0))
    distribution, values, end = network(x, network.fresh_memory(2))
    memory = network.fresh_memory(2)
    for t in range(6):
        at, value, memory = network.step(x[:, t], memory)
        torch.testing.assert_close(at, at_step(distribution, t))
        torch.testing.assert_close(value, values[:, t])
    torch.testing.assert_close(memory, end)
