from __future__ import annotations

import numpy as np
import pytest
import torch

from metarl.learning.networks import fast_weights
from metarl.learning.networks.fast_weights import FastMemory
from metarl.learning.networks.flat import Perceptrons
from metarl.learning.networks.perceptron import Activation, Layers

DOUBLE = torch.float64
ACTIVATIONS: tuple[Activation, ...] = ("tanh", "relu")
N, K, B = 2, 3, 4
SIZES = (3, 5, 4, 4, 1)
"""Layers that grow, shrink, and stay the same."""


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def problem(activation: Activation) -> tuple[Perceptrons, torch.Tensor, FastMemory, torch.Tensor, torch.Tensor]:
    """A network, slow weights, a memory, attention and inputs."""
    network = Perceptrons(SIZES, activation)
    memory = FastMemory(random(N, K, 2, seed=1), random(N, K, network.layout.size, seed=2))
    read = torch.softmax(random(N, B, K, seed=3), dim=-1)
    return network, random(N, network.layout.size), memory, read, random(N, B, SIZES[0], seed=4)


def evaluated(network: Perceptrons, slow: torch.Tensor, values: torch.Tensor, read: torch.Tensor, x: torch.Tensor):
    fast = fast_weights.split_entries(values, network.layers)
    return fast_weights.evaluate_with_memory(network.layers(slow), fast, read, x, network.activation)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_each_input_has_its_own_mean_of_the_fast_weights(activation: Activation) -> None:
    """The plain way: for each input the weighted sum of the entries' matrices, layer by layer."""
    network, slow, memory, read, x = problem(activation)
    f = np.tanh if activation == "tanh" else lambda z: np.maximum(z, 0.0)
    output = evaluated(network, slow, memory.values, read, x).numpy()
    for n in range(N):
        layers = network.layers(slow[n : n + 1])
        entries = network.layers(memory.values[n])
        for b in range(B):
            h = x[n, b].numpy()
            for i in range(network.depth):
                a = read[n, b].numpy()
                weight = sum(a[k] * entries.weights[i][k].numpy() for k in range(K))
                bias = sum(a[k] * entries.biases[i][k].numpy() for k in range(K))
                z = h @ layers.weights[i][0].numpy() + layers.biases[i][0].numpy()
                fast = h @ weight + bias
                h = z + fast if i == network.depth - 1 else f(z) + f(fast)
            assert output[n, b] == pytest.approx(h, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_without_fast_weights_it_is_the_plain_network(activation: Activation) -> None:
    network, slow, memory, read, x = problem(activation)
    expected = network(slow, [x])
    torch.testing.assert_close(fast_weights.evaluate(network.layers(slow), x, activation), expected)
    zeros = torch.zeros_like(memory.values)
    torch.testing.assert_close(evaluated(network, slow, zeros, read, x), expected)


def test_attention_by_hand() -> None:
    """Cosines 1, 0 and -1, whatever the lengths."""
    keys = torch.tensor([[[2.0, 0.0], [0.0, 5.0], [-0.1, 0.0]]], dtype=DOUBLE)
    read = fast_weights.attention(torch.tensor([[[3.0, 0.0]]], dtype=DOUBLE), keys)
    weights = np.exp([1.0, 0.0, -1.0])
    assert read[0, 0].numpy() == pytest.approx(weights / weights.sum(), rel=1e-9)


def test_a_representation_of_zeros_attends_to_all_and_has_a_derivative() -> None:
    zero = torch.zeros(1, 1, 2, dtype=DOUBLE, requires_grad=True)
    keys = torch.tensor([[[2.0, 0.0], [0.0, 5.0]]], dtype=DOUBLE)
    read = fast_weights.attention(zero, keys)
    assert read.flatten().tolist() == pytest.approx([0.5, 0.5])
    (gradient,) = torch.autograd.grad(read[0, 0, 0], zero)
    assert torch.isfinite(gradient).all()


def test_first_and_second_derivatives_agree_with_finite_differences() -> None:
    network, slow, memory, _, x = problem("tanh")
    queries = random(N, B, 2, seed=5)

    def output(slow: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
        return evaluated(network, slow, values, fast_weights.attention(queries, keys), x)

    inputs = tuple(t[:1].clone().requires_grad_() for t in (slow, *memory, queries))
    x = x[:1]
    assert torch.autograd.gradcheck(output, inputs)
    assert torch.autograd.gradgradcheck(output, inputs)


def test_a_memory_grows_by_entries_and_is_repeated_network_by_network() -> None:
    empty = FastMemory.empty(2, 1, 3, torch.zeros(1, dtype=DOUBLE))
    assert (empty.keys.shape, empty.values.shape, empty.keys.dtype) == ((2, 0, 1), (2, 0, 3), DOUBLE)
    memory = empty.with_entries(random(2, 4, 1), random(2, 4, 3)).with_entries(random(2, 1, 1), random(2, 1, 3))
    assert memory.values.shape == (2, 5, 3)
    repeated = memory.repeated(3)
    assert all(torch.equal(repeated.keys[i], memory.keys[i // 3]) for i in range(6))
    layers: Layers = fast_weights.split_entries(memory.values, Perceptrons((2, 1), "tanh").layers)
    assert layers.weights[0].flatten(2).equal(memory.values[..., :2])
    assert layers.biases[0].equal(memory.values[..., 2:])
