"""The model of the dynamics: numbers by hand, plain networks, finite differences."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from metarl.learning.planning.dynamics import LOG_VARIANCE, Dynamics, Scales, Windows

SEEN, ACTIONS, B, ROWS = 3, 2, 5, 4


def model(activation: str = "tanh", probabilistic: bool = False) -> Dynamics:
    return Dynamics(SEEN, ACTIONS, (6, 7), activation, probabilistic)  # type: ignore[arg-type]


def windows(rows: int = ROWS, size: int = B, seed: int = 0) -> Windows:
    """Random transitions in float64; the mask leaves out one of the last row."""
    rng = np.random.default_rng(seed)
    mask = np.ones((rows, size))
    mask[-1, 0] = 0.0
    shapes = (rng.standard_normal((rows, size, SEEN + ACTIONS)), rng.standard_normal((rows, size, SEEN)), mask)
    return Windows(*(torch.tensor(array) for array in shapes))


def parameters(dynamics: Dynamics, rows: int = ROWS) -> Tensor:
    return dynamics.initial(rows, np.random.default_rng(1)).double()


def by_hand(dynamics: Dynamics, flat: Tensor, x: Tensor) -> Tensor:
    """The output of one network, layer by layer."""
    start = 0
    for i, (size, out) in enumerate(zip(dynamics.networks.sizes, dynamics.networks.sizes[1:], strict=False)):
        weight = flat[start : start + size * out].view(size, out)
        bias = flat[start + size * out : start + (size + 1) * out]
        start += (size + 1) * out
        x = x @ weight + bias
        if i + 2 < len(dynamics.networks.sizes):
            x = torch.tanh(x)
    assert start == len(flat)
    return x


def test_a_prediction_adds_the_unscaled_difference() -> None:
    dynamics = Dynamics(1, 1, ())
    scales = Scales(*(torch.tensor([x], dtype=torch.float64) for x in (10.0, 2.0, 0.5, 0.25)))
    flat = torch.tensor([[2.0, 3.0, 1.0]], dtype=torch.float64)  # weights of s and a, and the bias
    s, a = torch.tensor([[[12.0]]], dtype=torch.float64), torch.tensor([[[-1.0]]], dtype=torch.float64)
    # s is 1 deviation above its mean: f = 2 * 1 + 3 * -1 + 1 = 0
    assert dynamics.predicted(flat, s, a, scales).item() == pytest.approx(12.0 + 0.5, abs=1e-12)
    assert dynamics.predicted(flat, s, a * 0, scales).item() == pytest.approx(12.0 + 0.5 + 0.25 * 3, abs=1e-12)
    far = dynamics.predicted(flat, s * 100, a * 0, scales).item()
    assert far == pytest.approx(1200.0 + 0.5 + 0.25 * 21, abs=1e-9), "inputs are clipped at 10"
    following = torch.tensor([[[12.5]]], dtype=torch.float64)
    assert scales.targets(s, following).item() == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("probabilistic", [False, True])
def test_losses_and_predictions_are_those_of_a_plain_network(probabilistic: bool) -> None:
    dynamics, data = model(probabilistic=probabilistic), windows()
    flat = parameters(dynamics)
    losses = dynamics.losses(flat, data)
    unit = Scales(*(torch.full((SEEN,), x, dtype=torch.float64) for x in (0.0, 1.0, 0.0, 1.0)))
    predicted = dynamics.predicted(flat, data.inputs[..., :SEEN], data.inputs[..., SEEN:], unit)
    for n in range(ROWS):
        output = by_hand(dynamics, flat[n], data.inputs[n])
        assert torch.allclose(predicted[n], data.inputs[n, :, :SEEN] + output[:, :SEEN], rtol=0, atol=1e-6)
        terms = (output[:, :SEEN] - data.targets[n]) ** 2
        if probabilistic:
            low, high = LOG_VARIANCE
            variance = torch.exp(low + (high - low) * torch.sigmoid(output[:, SEEN:]))
            terms = -torch.distributions.Normal(output[:, :SEEN], variance.sqrt()).log_prob(data.targets[n])
        expected = terms.mean(dim=1)[data.mask[n] > 0].mean()
        assert losses[n].item() == pytest.approx(expected.item(), abs=1e-10)


def test_a_window_without_transitions_changes_nothing() -> None:
    dynamics, data = model(), windows()
    flat = parameters(dynamics)
    empty = data._replace(mask=data.mask * torch.tensor([0.0, 1.0, 1.0, 1.0], dtype=torch.float64)[:, None])
    adapted = dynamics.adapted(flat, empty, 0.1, exact=False)
    assert torch.equal(adapted[0], flat[0])
    assert not torch.equal(adapted[1], flat[1])
    assert dynamics.losses(flat, empty)[0].item() == 0.0


def test_a_step_is_that_of_each_model_alone_and_lowers_its_loss() -> None:
    dynamics, data = model("relu"), windows()
    flat = parameters(dynamics)
    adapted = dynamics.adapted(flat, data, 0.01, exact=False)
    assert not adapted.requires_grad
    assert (dynamics.losses(adapted, data) < dynamics.losses(flat, data)).all()
    for n in range(ROWS):
        one = Windows(*(t[n : n + 1] for t in data))
        assert torch.allclose(dynamics.adapted(flat[n : n + 1], one, 0.01, exact=False)[0], adapted[n], atol=1e-12)


@pytest.mark.parametrize("probabilistic", [False, True])
def test_the_gradient_through_a_step_is_exact(probabilistic: bool) -> None:
    """Central differences of the loss after adaptation, in a random direction of the parameters before it."""
    dynamics, past, future = model(probabilistic=probabilistic), windows(1, 4), windows(1, 3, seed=5)
    flat = parameters(dynamics, 1)

    def after(at: Tensor) -> Tensor:
        return dynamics.losses(dynamics.adapted(at, past, 0.2, exact=True), future).sum()

    leaf = flat.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(after(leaf), leaf)
    direction = torch.tensor(np.random.default_rng(3).standard_normal(flat.shape))
    h = 1e-5
    slope = (after((flat + h * direction).requires_grad_()) - after((flat - h * direction).requires_grad_())) / (2 * h)
    assert (gradient * direction).sum().item() == pytest.approx(slope.item(), rel=1e-7)
    plain = torch.autograd.grad(dynamics.losses(leaf, future).sum(), leaf)[0]
    assert not torch.allclose(gradient, plain, rtol=0.01), "the step matters"
    first_order = dynamics.adapted(flat, past, 0.2, exact=False).requires_grad_()
    (constant,) = torch.autograd.grad(dynamics.losses(first_order, future).sum(), first_order)
    assert abs(((gradient - constant) * direction).sum().item()) > 1e-4, "and so does its second derivative"


def test_the_mean_of_a_step_matches_a_linear_model_in_closed_form() -> None:
    dynamics = Dynamics(1, 1, ())
    flat = torch.zeros(1, 3, dtype=torch.float64)
    x = torch.tensor([[[1.0, 2.0], [3.0, -1.0]]], dtype=torch.float64)
    y = torch.tensor([[[2.0], [4.0]]], dtype=torch.float64)
    data = Windows(x, y, torch.ones(1, 2, dtype=torch.float64))
    # gradient of the mean of (w x + b - y)^2 at 0: -2 / 2 * sum of y x, and of y
    expected = 0.1 * torch.tensor([[2.0 + 12.0, 4.0 - 4.0, 6.0]], dtype=torch.float64)
    assert torch.allclose(dynamics.adapted(flat, data, 0.1, exact=False), expected, atol=1e-12)
    first = data._replace(mask=torch.tensor([[1.0, 0.0]], dtype=torch.float64))
    expected = 0.1 * torch.tensor([[2.0, 4.0, 2.0]], dtype=torch.float64)  # its part of the whole step
    assert torch.allclose(dynamics.adapted(flat, first, 0.1, exact=False), expected, atol=1e-12)


def test_initial_parameters_come_from_the_given_generator() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    one, two = (model().initial(3, np.random.default_rng(7)) for _ in range(2))
    assert torch.equal(one, two)
    assert not torch.equal(one[0], one[1]), "members of an ensemble differ"
    assert torch.equal(torch.get_rng_state(), before)
    assert math.isfinite(float(one.sum()))


@pytest.mark.parametrize("hidden", [(), (6,), (6, 7)])
@pytest.mark.parametrize("probabilistic", [False, True])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("learned", [False, True])
def test_losses_after_a_step_are_those_of_adapted_copies_with_the_same_gradient(
    activation: str, probabilistic: bool, hidden: tuple[int, ...], learned: bool
) -> None:
    """Two members with two windows each; the fast path has no copy of the weights for a window."""
    dynamics = Dynamics(SEEN, ACTIONS, hidden, activation, probabilistic)  # type: ignore[arg-type]
    flat, past, future = parameters(dynamics, 2).requires_grad_(), windows(), windows(size=3, seed=2)
    noise = np.random.default_rng(5).normal(1.0, 0.5, (2, dynamics.rates.size))
    rates = torch.tensor(noise).requires_grad_() if learned else None
    fast = dynamics.losses_after_step(flat, past, future, 0.3, rates)
    copies = flat.repeat_interleave(2, dim=0)
    each = None if rates is None else rates.repeat_interleave(2, dim=0)
    slow = dynamics.losses(dynamics.adapted(copies, past, 0.3, each, exact=True), future)
    torch.testing.assert_close(fast, slow, rtol=1e-12, atol=1e-12)
    weights = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64)
    at = [flat] if rates is None else [flat, rates]
    gradients = [torch.autograd.grad((weights * losses).sum(), at) for losses in (fast, slow)]
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-10)
    assert not torch.allclose(fast, dynamics.losses(copies, future), atol=1e-3), "the step changes the loss"


def test_learned_step_sizes_are_products_of_numbers_of_inputs_and_outputs() -> None:
    dynamics = Dynamics(SEEN, ACTIONS, (2,))
    sizes = (SEEN + ACTIONS, 2, SEEN)
    rates = torch.arange(1.0, dynamics.rates.size + 1, dtype=torch.float64).unsqueeze(0)
    numbers, expected = iter(rates[0].tolist()), []
    for fan_in, fan_out in pairwise(sizes):
        into, out = ([next(numbers) for _ in range(count)] for count in (fan_in, fan_out))
        bias = next(numbers)
        expected += [u * v for u in into for v in out] + [bias * v for v in out]
    assert dynamics.step_sizes(rates)[0].tolist() == expected
    flat, data = parameters(dynamics, 1), windows(1)
    plain = dynamics.adapted(flat, data, 0.1, exact=False) - flat
    learned = dynamics.adapted(flat, data, 0.1, rates, exact=False) - flat
    torch.testing.assert_close(learned, plain * torch.tensor(expected, dtype=torch.float64), rtol=1e-10, atol=1e-12)
