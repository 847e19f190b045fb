from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import linear

from metarl.learning.networks.flat import Layout, Perceptrons, mlp_init, mlp_layout
from metarl.learning.networks.perceptron import Activation

FLOAT = torch.float64


@pytest.fixture(params=["few rows", "many rows", "many rows in blocks"], autouse=True)
def however_many_rows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs the code for many rows with few rows too."""
    if request.param != "few rows":
        monkeypatch.setattr("metarl.learning.networks.wide.CORE_BYTES", 0)
    if request.param == "many rows in blocks":
        monkeypatch.setattr("metarl.learning.networks.wide.BLOCK_BYTES", 4 * 16 * 3)  # three rows of one network


def one_after_the_other(networks: Perceptrons, parameters: Tensor, x: Tensor) -> Tensor:
    """Outputs by PyTorch's linear layers: network n on `x[n]`."""
    layers, outputs = networks.layers(parameters), []
    for n, one in enumerate(x):
        for i, (weights, biases) in enumerate(zip(*layers, strict=True)):
            one = linear(one, weights[n].T, biases[n])
            if i + 1 < len(layers.weights):
                one = getattr(torch, networks.activation)(one)
        outputs.append(one)
    return torch.stack(outputs)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_stacked_networks_and_their_gradients_are_those_of_one_network_after_the_other(activation: Activation) -> None:
    networks = Perceptrons((3, 5, 4, 2), activation)
    parameters, x = torch.randn(3, networks.layout.size, dtype=FLOAT), torch.randn(3, 7, 3, dtype=FLOAT)
    with torch.no_grad():
        torch.testing.assert_close(networks(parameters, [x]), one_after_the_other(networks, parameters, x))
    leaves = [t.requires_grad_() for t in (parameters, x)]
    ours, theirs = networks(parameters, [x]), one_after_the_other(networks, parameters, x)
    torch.testing.assert_close(ours, theirs)
    cotangent = torch.randn(3, 7, 2, dtype=FLOAT)
    torch.testing.assert_close(
        torch.autograd.grad(ours, leaves, cotangent), torch.autograd.grad(theirs, leaves, cotangent)
    )


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("wanted", ["0", "1", "2", "3", "0 2", "1 2", "1 3", "0 1 2 3"])
def test_columns_that_networks_and_rows_share_get_their_sums_and_only_those_wanted(
    wanted: str, activation: Activation
) -> None:
    networks = Perceptrons((6, 5, 4), activation)
    parameters = torch.randn(2, networks.layout.size, dtype=FLOAT)
    columns = [torch.randn(1, *rows, width, dtype=FLOAT) for rows, width in (((3, 4), 1), ((3, 4), 2), ((3, 1), 3))]
    leaves = [t.requires_grad_() for i, t in enumerate((parameters, *columns)) if str(i) in wanted]
    output = networks(parameters, columns)
    x = torch.cat([c.expand(2, 3, 4, -1) for c in columns], dim=-1)
    expected = one_after_the_other(networks, parameters, x)
    torch.testing.assert_close(output, expected)
    cotangent = torch.randn(2, 3, 4, 4, dtype=FLOAT)
    torch.testing.assert_close(
        torch.autograd.grad(output, leaves, cotangent), torch.autograd.grad(expected, leaves, cotangent)
    )


@pytest.mark.parametrize("path", ["as on a CPU", "as on a GPU"])
@pytest.mark.parametrize("wanted", ["1", "2", "0 2"])
def test_the_smallest_output_and_its_gradient_are_those_of_the_minimum(monkeypatch, path: str, wanted: str) -> None:
    if path == "as on a GPU":
        monkeypatch.setattr("metarl.learning.networks.flat.on_cpu", lambda x: False)
    networks = Perceptrons((6, 5, 1), "relu")
    torch.manual_seed(1)
    parameters = torch.randn(3, networks.layout.size, dtype=FLOAT)
    columns = [torch.randn(1, *rows, width, dtype=FLOAT) for rows, width in (((30, 4), 1), ((30, 4), 2), ((30, 1), 3))]
    leaves = [t.requires_grad_() for i, t in enumerate(columns) if str(i) in wanted]
    smallest = networks.smallest(parameters, columns)
    every = networks(parameters, columns).squeeze(-1)
    assert len(every.argmin(dim=0).unique()) == 3, "each network has rows"
    torch.testing.assert_close(smallest, every.amin(dim=0))
    cotangent = torch.randn(30, 4, dtype=FLOAT)
    torch.testing.assert_close(
        torch.autograd.grad(smallest, leaves, cotangent), torch.autograd.grad(every.amin(dim=0), leaves, cotangent)
    )
    with torch.no_grad():
        torch.testing.assert_close(networks.smallest(parameters, columns), every.amin(dim=0))


def test_a_network_that_is_nowhere_the_smallest_has_no_part() -> None:
    networks = Perceptrons((3, 5, 1), "relu")
    parameters = torch.randn(2, networks.layout.size, dtype=FLOAT)
    parameters[1, -1] += 1e3  # its last bias
    x = torch.randn(1, 8, 3, dtype=FLOAT, requires_grad=True)
    (gradient,) = torch.autograd.grad(networks.smallest(parameters, [x]).sum(), x)
    (first,) = torch.autograd.grad(networks(parameters[:1], [x]).sum(), x)
    torch.testing.assert_close(gradient, first)


def test_the_smallest_output_has_no_gradient_by_the_parameters() -> None:
    networks = Perceptrons((3, 5, 1), "relu")
    parameters = torch.randn(2, networks.layout.size, requires_grad=True)
    with pytest.raises(RuntimeError, match="detached"):
        networks.smallest(parameters, [torch.ones(1, 4, 3)]).sum().backward()


def test_a_second_derivative_by_autograd_is_refused() -> None:
    networks = Perceptrons((3, 5, 2), "tanh")
    parameters = torch.randn(2, networks.layout.size, requires_grad=True)
    output = networks(parameters, [torch.ones(2, 6, 3)])
    with pytest.raises(RuntimeError, match="LossDerivatives"):
        torch.autograd.grad(output.square().sum(), parameters, create_graph=True)


def test_initial_weights_are_xavier_uniform_and_biases_zero() -> None:
    sizes = (30, 50, 2)
    flat = mlp_init(sizes, np.random.default_rng(0))
    weights = Layout(mlp_layout(sizes)).split(flat[None])
    bound = math.sqrt(6 / 80)
    assert flat.dtype == torch.float32
    assert 0.97 * bound < weights["weight_0"].abs().max() <= bound
    assert weights["weight_0"].std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)
    assert not weights["bias_0"].any()
    assert not weights["bias_1"].any()


def test_split_gives_views() -> None:
    layout = Layout((("a", (2, 3)), ("b", (1,))))
    flat = torch.arange(14.0).reshape(2, 7)
    parts = layout.split(flat)
    assert parts["a"].shape == (2, 2, 3)
    assert parts["b"].flatten().tolist() == [6.0, 13.0]
    flat[1, 6] = -1.0
    assert parts["b"][1].item() == -1.0
