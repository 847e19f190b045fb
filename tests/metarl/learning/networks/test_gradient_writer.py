from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from metarl.learning.networks.gradient_writer import GradientWriter
from metarl.learning.networks.preprocessing import preprocessed

DOUBLE = torch.float64


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def test_preprocessing_by_hand() -> None:
    gradient = torch.tensor([1.0, -math.exp(-5), math.exp(5), math.exp(-11), -math.exp(-12), 0.0], dtype=DOUBLE)
    magnitude, sign = preprocessed(gradient, dim=-1).unbind(dim=-1)
    assert magnitude.tolist() == pytest.approx([0.0, -0.5, 0.5, -1.0, -1.0, -1.0])
    assert sign.tolist() == pytest.approx([1.0, -1.0, 1.0, math.exp(-1), -math.exp(-2), 0.0])


def test_preprocessing_is_continuous() -> None:
    for sign in (1.0, -1.0):
        around = sign * math.exp(-10) * torch.tensor([1 - 1e-9, 1 + 1e-9], dtype=DOUBLE)
        below, above = preprocessed(around, dim=-1)
        torch.testing.assert_close(below, above, rtol=0, atol=1e-8)


@pytest.mark.parametrize("hidden", [(), (4,), (5, 3)])
def test_it_starts_as_a_gradient_step(hidden: tuple[int, ...]) -> None:
    writer = GradientWriter(hidden, 0.02)
    parameters = writer.initial(np.random.default_rng(0)).double()
    assert parameters.shape == (writer.size,)
    gradient = random(3, 2)
    torch.testing.assert_close(writer(parameters, gradient), -0.02 * gradient)


@pytest.mark.parametrize("hidden", [(), (4,), (5, 3)])
def test_every_coordinate_goes_through_the_same_network(hidden: tuple[int, ...]) -> None:
    writer = GradientWriter(hidden, 0.5)
    parameters, gradient = random(writer.size, seed=1), random(3, 4)
    written = writer(parameters, gradient)
    for place in np.ndindex(3, 4):
        h = z = preprocessed(gradient[place], dim=-1).numpy()
        sizes, rest = (2, *hidden, 1), parameters[3:].numpy()
        for i in range(len(sizes) - 1):
            inputs, outputs = sizes[i : i + 2]
            weight, bias, rest = np.split(rest, [inputs * outputs, inputs * outputs + outputs])
            h = h @ weight.reshape(inputs, outputs) + bias
            h = np.tanh(h) if i < len(hidden) else h
        assert len(rest) == 0
        assert written[place].item() == pytest.approx(
            0.5 * (gradient[place].item() * parameters[0].item() + z @ parameters[1:3].numpy() + h[0]), rel=1e-12
        )


def test_first_and_second_derivatives_agree_with_finite_differences() -> None:
    writer = GradientWriter((4,), 0.5)
    inputs = random(writer.size, seed=1).requires_grad_(), random(3).requires_grad_()
    assert torch.autograd.gradcheck(writer, inputs)
    assert torch.autograd.gradgradcheck(writer, inputs)


def test_small_gradients_have_a_derivative_too() -> None:
    writer, small = GradientWriter((4,), 0.5), torch.tensor([1e-6, 0.0, -1e-5], dtype=DOUBLE, requires_grad=True)
    (slope,) = torch.autograd.grad(writer(random(writer.size, seed=1), small).sum(), small)
    assert torch.isfinite(slope).all()
    assert (slope.abs() > 1.0).all()
