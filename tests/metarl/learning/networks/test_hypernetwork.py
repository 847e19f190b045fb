"""Recurrent hypernetworks: layers of generated weights against explicit ones, the start, acting, and sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from metarl.agents.rl2 import Rl2, Rl2Config
from metarl.learning.networks.cells.settings import CellName, CellSettings
from metarl.learning.networks.distributions import at_step
from metarl.learning.networks.hypernetwork import LATENT, GeneratedLinear, HypernetworkActorCritic, head_size
from metarl.learning.networks.modules import PolicyHead, PolicySettings, hidden_layers, linear
from metarl.memory import FLOAT, LEARNED, RunSize
from metarl.types import Spaces

SPACES = Spaces(3, (-1.0, -1.0), (1.0, 1.0), horizon=5)
INPUTS = 7


def network_of(spaces: Spaces = SPACES, *, random: bool = True, **settings: Any) -> HypernetworkActorCritic[Any]:
    """A small network; none of its parameters is zero if `random`."""
    given = {"encoder": (5,), "hidden": (6, 4), "cell": CellSettings(units=8), "policy": PolicySettings(), **settings}
    network: HypernetworkActorCritic[Any] = HypernetworkActorCritic(
        INPUTS, spaces, activation="tanh", steps=8, rng=np.random.default_rng(0), **given
    )
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters() if random else ():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return network


def noise(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=dtype)


def explicit(layer: GeneratedLinear, x: Tensor, z: Tensor) -> Tensor:
    """The output with weights `[N, O, I]` and biases `[N, O]` of each row."""
    weights = torch.einsum("nk,koi->noi", z, layer.weight.view(z.shape[-1], layer.out_features, layer.in_features))
    biases = torch.einsum("nk,ko->no", z, layer.bias.view(z.shape[-1], layer.out_features))
    return torch.einsum("noi,ni->no", weights, x) + biases


@torch.no_grad()
def test_a_generated_layer_is_the_product_with_each_rows_own_weights() -> None:
    layer = GeneratedLinear(linear(4, 3, 1.0, np.random.default_rng(0)), 5).double()
    for parameter in layer.parameters():
        parameter.copy_(noise(*parameter.shape, dtype=torch.float64))
    x, z = noise(9, 4, dtype=torch.float64), torch.cat([torch.ones(9, 1), noise(9, 5)], dim=1).double()
    torch.testing.assert_close(layer(x, z), explicit(layer, x, z), rtol=0.0, atol=1e-10)
    torch.testing.assert_close(layer(x.view(3, 3, 4), z.view(3, 3, 6)).view(9, 3), layer(x, z), rtol=0.0, atol=1e-10)
    assert layer.step(x.numpy(), z.numpy()) == pytest.approx(explicit(layer, x, z).numpy(), abs=1e-10)


@torch.no_grad()
def test_policy_and_value_are_mlps_with_each_rows_own_weights() -> None:
    network = network_of().double()
    x, memory = noise(4, 3, INPUTS, dtype=torch.float64), noise(4, 8, dtype=torch.float64)
    distribution, values, _ = network(x, memory)
    features, _ = network.cell(network.encoder(x), memory)
    z = torch.cat([torch.ones(12, 1, dtype=torch.float64), torch.relu(network.latent(features)).view(12, -1)], dim=1)
    assert (z[:, 1:] > 0).any(dim=0).sum() > LATENT // 2
    observed = network.embedding(x[..., :3]).view(12, -1)
    outputs = []
    for hidden, last in ((network.actor, network.policy.output), (network.critic, network.value)):
        h = observed
        for layer in hidden:
            h = explicit(layer, h, z) if isinstance(layer, GeneratedLinear) else torch.tanh(h)
        assert isinstance(last, GeneratedLinear)
        outputs.append(explicit(last, h, z))
    torch.testing.assert_close(distribution.mean.view(12, -1), outputs[0], rtol=0.0, atol=1e-10)
    torch.testing.assert_close(values.view(12, 1), outputs[1], rtol=0.0, atol=1e-10)


@pytest.mark.parametrize("std", ["shared", "state"])
@torch.no_grad()
def test_at_the_start_it_is_the_base_network_whatever_the_memory(std: Any) -> None:
    """The base network is drawn anew, by the same generator in the same order."""
    settings, rng = PolicySettings(std=std, init_std=0.5, max_std=2.0), np.random.default_rng(0)
    network = network_of(random=False, policy=settings)
    hidden_layers((INPUTS, 5), "tanh", rng)
    type(network.cell).build(CellSettings(units=8), 5, 8, rng)
    embedding = hidden_layers((3, 5), "tanh", rng)
    linear(8, LATENT, 1.0, rng)
    actor, critic = (hidden_layers((5, 6, 4), "tanh", rng) for _ in range(2))
    policy, value = PolicyHead(4, SPACES, settings, rng=rng), linear(4, 1, 1.0, rng)
    x = noise(4, 3, INPUTS)
    observed = embedding(x[..., :3])
    expected, expected_values = policy(actor(observed)), value(critic(observed)).squeeze(-1)
    for memory in (network.fresh_memory(4), 5.0 * noise(4, 8)):
        distribution, values, _ = network(x, memory)
        torch.testing.assert_close(distribution.mean, expected.mean)
        torch.testing.assert_close(distribution.log_std, expected.log_std)
        torch.testing.assert_close(values, expected_values)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@pytest.mark.parametrize("choices", [0, 4])
@pytest.mark.parametrize("settings", [{}, {"encoder": (), "hidden": ()}, {"policy": PolicySettings(std="state")}])
@torch.no_grad()
def test_steps_of_acting_are_a_pass_over_the_trial(cell: CellName, choices: int, settings: dict[str, Any]) -> None:
    spaces = Spaces(3, (0.0,), (3.0,), horizon=5, choices=choices) if choices else SPACES
    network, x = network_of(spaces, cell=CellSettings(cell=cell, units=8), **settings), noise(2, 5, INPUTS)
    distribution, values, end = network(x, network.fresh_memory(2))
    memory, given = network.fresh_memory(2), x.clone()
    for t in range(5):
        at, value, memory = network.step(x[:, t], memory)
        torch.testing.assert_close(at, at_step(distribution, t))
        torch.testing.assert_close(value, values[:, t])
    torch.testing.assert_close(memory, end)
    assert torch.equal(x, given), "inputs are not changed in place"


@pytest.mark.parametrize("std", ["shared", "state"])
def test_gradients_are_those_of_finite_differences(std: Any) -> None:
    network = network_of(policy=PolicySettings(std=std)).double()
    x, actions = noise(2, 4, INPUTS, dtype=torch.float64), noise(2, 4, 2, dtype=torch.float64)
    leaves, generator = list(network.parameters()), torch.Generator().manual_seed(3)

    def value() -> Tensor:
        distribution, values, _ = network(x, network.fresh_memory(2).double())
        result: Tensor = (distribution.log_prob(actions) + values.square()).sum()
        return result

    gradients = torch.autograd.grad(value(), leaves)
    for leaf, gradient in zip(leaves, gradients, strict=True):
        direction = torch.randn(leaf.shape, generator=generator, dtype=torch.float64)
        with torch.no_grad():
            leaf += 1e-6 * direction
            high = value()
            leaf -= 2e-6 * direction
            low = value()
            leaf += 1e-6 * direction
        assert float((gradient * direction).sum()) == pytest.approx(float((high - low) / 2e-6), rel=1e-5, abs=1e-6)


def test_the_initial_weights_come_from_the_generator() -> None:
    before = torch.random.get_rng_state()
    one, same = network_of(random=False), network_of(random=False)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))


@pytest.mark.parametrize("hidden", [(), (6, 4)])
def test_the_memory_that_is_asked_for_has_the_parameters_and_the_products(hidden: tuple[int, ...]) -> None:
    settings = {"head": "hypernetwork", "units": 8, "encoder": (5,), "hidden": hidden, "minibatches": 1}
    config = Rl2Config(**settings)  # type: ignore[arg-type]
    agent = Rl2(config, SPACES, device=torch.device("cpu"), rng=np.random.default_rng(0))
    size = RunSize(tasks=3, episodes=2, iterations=1)
    networks, trials, _ = Rl2.memory_needed(config, SPACES, size)
    counted = sum(p.numel() for name, p in agent.network.named_parameters() if name != "policy.log_std")
    assert networks.num_bytes == FLOAT * LEARNED * counted
    plain = Rl2.memory_needed(Rl2Config(units=8, encoder=(5,), minibatches=1), SPACES, size)[1]
    steps = 3 * 2 * 2 * SPACES.horizon
    assert trials.num_bytes - plain.num_bytes == FLOAT * steps * 2 * (LATENT + 1) * sum(hidden)
    assert head_size(8, SPACES, (5,), hidden)[1] == 2 * (LATENT + 1) * sum(hidden)


def test_the_deviation_for_the_log_is_that_of_the_policy() -> None:
    network = network_of(policy=PolicySettings(std="state"))
    with torch.no_grad():
        distribution, *_ = network(noise(2, 4, INPUTS), network.fresh_memory(2))
    entropy = float(distribution.entropy().mean())
    assert network.policy.std(entropy) == pytest.approx(float(distribution.log_std.mean().exp()), rel=1e-5)
