"""The derivatives in closed form, against autograd and numbers worked out by hand."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from metarl.learning.networks.perceptron import (
    ACTIVATIONS,
    NARROW,
    Layers,
    _blocks,
    evaluate,
    gradients_jvp,
    input_gradient,
    jvp,
    parameter_gradients,
    vjp,
)

FLOAT = torch.float64


@pytest.fixture(params=["as on a CPU", "as on a GPU"], autouse=True)
def both_paths(request, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs the operations of a GPU on the CPU too."""
    if request.param == "as on a GPU":
        monkeypatch.setattr("metarl.learning.networks.perceptron.on_cpu", lambda x: False)


SIZES = [(3, 2), (3, 5, 2), (2, 4, 3, 1), (2, NARROW + 3, NARROW + 1, NARROW + 2)]
"""Networks without a hidden layer, with narrow outputs (one column is a separate case), and with wide outputs."""


def random_layers(sizes: tuple[int, ...], seed: int = 0) -> Layers:
    generator = torch.Generator().manual_seed(seed)
    shapes = list(pairwise(sizes))
    weights = [torch.randn(2, *shape, dtype=FLOAT, generator=generator) for shape in shapes]
    return Layers(weights, [torch.randn(2, out, dtype=FLOAT, generator=generator) for _, out in shapes])


def plain(layers: Layers, x: Tensor, activation: str) -> Tensor:
    """The same by PyTorch's own operations."""
    for i, (weight, bias) in enumerate(zip(*layers, strict=True)):
        x = x @ weight + bias.unsqueeze(1)
        if i + 1 < len(layers.weights):
            x = getattr(torch, activation)(x)
    return x


def test_a_network_worked_out_by_hand() -> None:
    """One unit per layer: y = 3 tanh(2 x + 0.5) - 1, so y' = 6 (1 - tanh^2) and dy/dw0 = 3 (1 - tanh^2) x."""
    one = lambda v: torch.tensor([[[v]]], dtype=FLOAT)  # noqa: E731
    layers = Layers([one(2.0), one(3.0)], [one(0.5)[0], one(-1.0)[0]])
    x, h = one(0.25), 0.7615941559557649  # tanh(1)
    done = evaluate(layers, x, "tanh")
    assert done.output.item() == pytest.approx(3 * h - 1)
    deltas = vjp(layers, done.inputs, one(1.0), "tanh")
    gradients, slope = parameter_gradients(done.inputs, deltas), 1 - h * h
    assert input_gradient(layers, deltas, slice(None)).item() == pytest.approx(6 * slope)
    assert [w.item() for w in gradients.weights] == pytest.approx([3 * slope * 0.25, h])
    assert [b.item() for b in gradients.biases] == pytest.approx([3 * slope, 1.0])


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("sizes", SIZES)
def test_values_and_gradients_are_those_of_autograd(sizes: tuple[int, ...], activation: str) -> None:
    layers, x = random_layers(sizes), torch.randn(2, 6, sizes[0], dtype=FLOAT)
    cotangent = torch.randn(2, 6, sizes[-1], dtype=FLOAT)
    done = evaluate(layers, x, activation)
    leaves = [t.requires_grad_() for t in (x, *layers.weights, *layers.biases)]
    expected = plain(layers, x, activation)
    with torch.no_grad():
        torch.testing.assert_close(done.output, expected)
        deltas = vjp(layers, done.inputs, cotangent, activation)
        x, gradients = input_gradient(layers, deltas, slice(None)), parameter_gradients(done.inputs, deltas)
        theirs = torch.autograd.grad(expected, leaves, cotangent)
        torch.testing.assert_close((x, *gradients.weights, *gradients.biases), theirs)
        torch.testing.assert_close(input_gradient(layers, deltas, slice(1, 2)), theirs[0][..., 1:2])


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("sizes", SIZES)
def test_tangents_of_output_and_gradients_are_the_derivatives_along_them(
    sizes: tuple[int, ...], activation: str
) -> None:
    """By autograd's forward differentiation of the plain network, and of its gradients."""
    layers, along = random_layers(sizes), random_layers(sizes, seed=1)
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(2, 6, sizes[0], dtype=FLOAT, generator=generator)
    cotangent, change = torch.randn(2, 2, 6, sizes[-1], dtype=FLOAT, generator=generator)
    half = len(layers.weights)

    def outputs(cotangent: Tensor, *parameters: Tensor) -> tuple[Tensor, ...]:
        output = plain(Layers(parameters[:half], parameters[half:]), x, activation)
        return output, *torch.autograd.grad(output, parameters, cotangent, create_graph=True)

    primals = (cotangent, *layers.weights, *layers.biases)
    _, expected = torch.autograd.functional.jvp(outputs, primals, (change, *along.weights, *along.biases))
    done = evaluate(layers, x, activation)
    deltas = vjp(layers, done.inputs, cotangent, activation)
    forward = jvp(layers, done.inputs, along, activation, deltas=deltas)
    changes = gradients_jvp(layers, done.inputs, deltas, along, forward, change, activation)
    torch.testing.assert_close((forward.output, *changes.weights, *changes.biases), expected)
    torch.testing.assert_close(jvp(layers, done.inputs, along, activation).output, expected[0])


@pytest.mark.parametrize("threads", [1, 2])
def test_large_batches_go_block_by_block_to_the_same_result(monkeypatch: pytest.MonkeyPatch, threads: int) -> None:
    sizes = (13, 12, 11)
    layers, x = random_layers(sizes), torch.randn(2, 50, 13, dtype=FLOAT)
    whole = evaluate(layers, x, "tanh")
    cotangent = torch.randn(2, 50, 11, dtype=FLOAT)
    expected = input_gradient(layers, vjp(layers, whole.inputs, cotangent, "tanh"), slice(None))
    monkeypatch.setattr("metarl.learning.networks.perceptron.CORE_BYTES", 4 * 13 * 7)  # seven rows
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    blocked = evaluate(layers, x, "tanh")
    torch.testing.assert_close(blocked.output, whole.output)
    deltas = vjp(layers, blocked.inputs, cotangent, "tanh")
    torch.testing.assert_close(input_gradient(layers, deltas, slice(None)), expected)
    tangents = [jvp(layers, done.inputs, layers, "tanh").output for done in (whole, blocked)]
    torch.testing.assert_close(*tangents)


@pytest.mark.parametrize(("rows", "size"), [(7, 7), (8, 8), (50, 13), (29, 10)])
def test_a_core_multiplies_as_many_rows_as_its_cache_holds(
    monkeypatch: pytest.MonkeyPatch, rows: int, size: int
) -> None:
    monkeypatch.setattr("metarl.learning.networks.perceptron.CORE_BYTES", 4 * 13 * 7)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    parts = list(_blocks(torch.zeros(2, rows, 13)))
    covered = torch.zeros(2, rows, 1)
    for part in parts:
        covered[part] += 1
    assert covered.eq(1).all()
    assert max(len(range(rows)[part[1]]) for part in parts) == size
    assert len(parts) == 2 * -(-rows // size)


def test_an_empty_batch_is_no_error() -> None:
    layers = random_layers((3, 12, 2))
    assert evaluate(layers, torch.zeros(2, 0, 3, dtype=FLOAT), "tanh").output.shape == (2, 0, 2)


def test_the_hyperbolic_tangent_is_as_exact_as_promised() -> None:
    z = torch.linspace(-12.0, 12.0, 100_001)
    exact = torch.tanh(z.double())
    assert (ACTIVATIONS["tanh"].replace(z.clone()) - exact).abs().max() < 2e-7
    assert ACTIVATIONS["tanh"].replace(torch.tensor([-1e30, 1e30])).tolist() == [-1.0, 1.0]
    assert ACTIVATIONS["tanh"].replace(torch.tensor([float("nan")])).isnan()


def test_what_goes_in_is_left_as_it_is() -> None:
    """No function changes its arguments."""
    layers, along = random_layers((3, 5, 4, 2)), random_layers((3, 5, 4, 2), seed=1)
    x, cotangent, change = torch.randn(2, 6, 3, dtype=FLOAT), *torch.randn(2, 2, 6, 2, dtype=FLOAT)
    done = evaluate(layers, x, "tanh")
    deltas = vjp(layers, done.inputs, cotangent, "tanh")
    given = [*layers.weights, *layers.biases, *along.weights, *along.biases, x, cotangent, change]
    given += [*done.inputs, *deltas]
    before = [t.clone() for t in given]
    forward = jvp(layers, done.inputs, along, "tanh", deltas=deltas)
    kept = [t.clone() for t in (forward.output, *forward.activations)]
    gradients_jvp(layers, done.inputs, deltas, along, forward, change, "tanh")
    torch.testing.assert_close(given, before, rtol=0, atol=0)
    torch.testing.assert_close([forward.output, *forward.activations], kept, rtol=0, atol=0)
