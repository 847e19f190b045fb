"""Networks of few-shot learners, against `torch.nn.functional` for one network after another."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from metarl.learning.few_shot.networks import FLOOR, Network

DOUBLE = torch.float64
N, B = 3, 4
IMAGES = [(1, 28, 28), (3, 19, 16), (2, 5, 9)]


def drawn(network: Network, n: int, batch: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Parameters of n different networks `[n, P]`, and inputs of each."""
    rng = np.random.default_rng(seed)
    parameters = torch.stack([network.initial(rng) for _ in range(n)]).double()
    parameters = parameters + 0.1 * torch.tensor(rng.normal(size=parameters.shape))
    return parameters, torch.tensor(rng.normal(size=(n, batch, *network.x_shape)))


def plain(network: Network, parameters: Tensor, x: Tensor) -> Tensor:
    """Outputs `[B, O]` of one network with parameters `[P]`, for inputs `[B, *x_shape]`, layer after layer."""
    arrays = {name: array[0] for name, array in network.layout.split(parameters.unsqueeze(0)).items()}
    for i in itertools.count():
        if f"kernel_{i}" not in arrays:
            break
        x = functional.conv2d(x, arrays[f"kernel_{i}"], padding="same")
        x = functional.layer_norm(x, x.shape[1:], eps=FLOOR)
        x = functional.relu(x * arrays[f"scale_{i}"].view(-1, 1, 1) + arrays[f"shift_{i}"].view(-1, 1, 1))
        x = functional.max_pool2d(x, 2) if min(x.shape[2:]) > 1 else x
    x, layers = x.flatten(1), sum(name.startswith("weight") for name in arrays)
    for i in range(layers):
        x = functional.linear(x, arrays[f"weight_{i}"].T, arrays[f"bias_{i}"])
        x = functional.relu(x) if i + 1 < layers else x
    return x


def derivatives(outputs: Callable[[Tensor], Tensor], parameters: Tensor) -> tuple[Tensor, Tensor]:
    """First derivative of a loss of the outputs, and its second derivative times a fixed vector."""
    at = parameters.clone().requires_grad_()
    (first,) = torch.autograd.grad(outputs(at).pow(3).sum(), at, create_graph=True)
    along = torch.tensor(np.random.default_rng(9).normal(size=at.shape))
    (second,) = torch.autograd.grad((first * along).sum(), at)
    return first.detach(), second


@pytest.mark.parametrize(
    "network", [Network(shape, (), 5, channels=6) for shape in IMAGES] + [Network((3,), (7, 6), 2)]
)
def test_many_networks_at_once_are_as_one_after_another(network: Network) -> None:
    parameters, x = drawn(network, N, B)

    def fast(of: Tensor) -> Tensor:
        return network(of, x)

    def slow(of: Tensor) -> Tensor:
        return torch.stack([plain(network, *one) for one in zip(of, x, strict=True)])

    torch.testing.assert_close(fast(parameters), slow(parameters), rtol=1e-10, atol=1e-10)
    assert fast(parameters).shape == (N, B, network.outputs)
    for mine, theirs in zip(derivatives(fast, parameters), derivatives(slow, parameters), strict=True):
        assert theirs.abs().max() > 0.1
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-10 * float(theirs.abs().max()))


@pytest.mark.parametrize("network", [Network((1, 28, 28), (), 5, channels=6), Network((3,), (7, 6), 2)])
def test_the_last_layer_of_the_embedding_is_the_output(network: Network) -> None:
    parameters, x = drawn(network, N, B)
    features = network.embedded(parameters, x)
    assert features.shape == (N, B, network.features)
    arrays = network.layout.split(parameters)
    weight, bias = list(arrays.values())[-2:]
    assert weight.shape[1:] == (network.features, network.outputs)
    found = features @ weight + bias.unsqueeze(1)
    torch.testing.assert_close(found, network(parameters, x), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("network", [Network((2, 9, 9), (), 5, channels=6), Network((3,), (7,), 2)])
def test_one_network_for_all_tasks_is_that_network_in_each(network: Network) -> None:
    parameters, x = drawn(network, N, B)
    found = network.shared(parameters[0], x)
    expected = torch.stack([plain(network, parameters[0], of_task) for of_task in x])
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_the_convolutional_network_has_the_published_sizes() -> None:
    published = Network((1, 28, 28), (40,), 5, channels=64)
    block = 9 * 64 * 64 + 2 * 64
    assert published.features == 64, "28 pixels become 14, 7, 3 and 1"
    assert published.size == 9 * 64 + 2 * 64 + 3 * block + 64 * 5 + 5
    assert Network((3, 84, 84), (), 5).features == 32 * 5 * 5, "84 pixels become 42, 21, 10 and 5"
    assert Network((1, 28, 2), (), 5, channels=4).features == 4 * 14, "a side of one pixel is not halved"
    assert Network((3,), (), 2).features == 3
    assert Network((3,), (7, 6), 2).size == 3 * 7 + 7 + 7 * 6 + 6 + 6 * 2 + 2


def test_weights_start_within_xavier_bounds_and_the_rest_at_zero_or_one() -> None:
    before = torch.get_rng_state()
    network = Network((2, 8, 8), (), 5, channels=32)
    arrays = network.layout.split(network.initial(np.random.default_rng(0)).unsqueeze(0))
    assert torch.equal(before, torch.get_rng_state())
    for name, (before_channels, after) in {"kernel_0": (2, 32), "kernel_3": (32, 32)}.items():
        bound = math.sqrt(6.0 / (9 * (before_channels + after)))
        assert 0.9 * bound < arrays[name].abs().max() <= bound
        assert arrays[name].std().item() == pytest.approx(bound / math.sqrt(3.0), rel=0.1)
    assert all((arrays[f"scale_{i}"] == 1).all() and (arrays[f"shift_{i}"] == 0).all() for i in range(4))
    assert (arrays["bias_0"] == 0).all()
    assert (arrays["weight_0"] != 0).all()


@pytest.mark.parametrize("network", [Network((1, 12, 12), (), 5, channels=6), Network((3,), (7,), 2)])
def test_an_output_does_not_depend_on_other_inputs(network: Network) -> None:
    parameters, x = drawn(network, N, B)
    together, other = network(parameters, x), x.clone()
    other[:, 1:] = 5.0 * other[:, 1:] + 1.0
    torch.testing.assert_close(network(parameters, other)[:, 0], together[:, 0], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(network(parameters, x[:, :1])[:, 0], together[:, 0], rtol=1e-12, atol=1e-12)
    assert not torch.allclose(network(parameters, other)[:, 1], together[:, 1])


def test_an_image_of_one_colour_has_finite_derivatives() -> None:
    network = Network((1, 8, 8), (), 2, channels=3)
    parameters, _ = drawn(network, 1, 1)
    zeros = torch.zeros(1, 2, 1, 8, 8, dtype=DOUBLE)
    assert all(one.isfinite().all() for one in derivatives(lambda of: network(of, zeros), parameters))
