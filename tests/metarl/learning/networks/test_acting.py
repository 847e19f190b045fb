"""Layers by NumPy follow the modules' parameters, wherever these are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from metarl.learning.networks import acting
from metarl.learning.networks.acting import affine, gelu_, logistic_, normalised, standardised, through_layers, views
from metarl.learning.networks.modules import hidden_layers
from metarl.learning.networks.perceptron import Activation

X = np.random.default_rng(0).standard_normal((5, 3), dtype=np.float32)


def expected(layer: nn.Module) -> np.ndarray:
    with torch.no_grad():
        return np.asarray(layer(torch.tensor(X)).numpy())


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_layers_by_numpy_are_torchs(activation: Activation) -> None:
    layers = hidden_layers((3, 4, 2), activation, np.random.default_rng(0))
    assert through_layers(layers, X) == pytest.approx(expected(layers), abs=1e-6)
    assert through_layers(nn.Sequential(), X) is X


def test_a_layer_norm_by_numpy_is_torchs() -> None:
    layer = nn.LayerNorm(3)
    with torch.no_grad():
        layer.weight.add_(torch.arange(3))
        layer.bias.add_(torch.arange(3))
    assert normalised(layer, X) == pytest.approx(expected(layer), abs=1e-6)
    constant = np.full((1, 3), 7.0, dtype=np.float32)
    assert normalised(layer, constant) == pytest.approx(layer.bias.detach().numpy()[None])


def test_the_logistic_function_is_torchs_also_far_from_zero() -> None:
    x = np.linspace(-100.0, 100.0, 1001, dtype=np.float32)
    assert logistic_(x.copy()) == pytest.approx(torch.sigmoid(torch.tensor(x)).numpy(), abs=1e-6)


def test_the_gaussian_error_linear_unit_is_torchs_also_far_from_zero() -> None:
    x = np.linspace(-100.0, 100.0, 1001, dtype=np.float32)
    expected = nn.functional.gelu(torch.tensor(x), approximate="tanh").numpy()
    assert gelu_(x.copy()) == pytest.approx(expected, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_layer_norm_is_torchs_and_leaves_its_input(scale: float) -> None:
    x = (scale * X + 3.0).astype(np.float32)
    before = x.copy()
    assert standardised(x) == pytest.approx(nn.functional.layer_norm(torch.tensor(x), (3,)).numpy(), abs=2e-4)
    assert np.array_equal(x, before)


def test_changed_and_replaced_parameters_are_seen_at_once() -> None:
    layer = nn.Linear(3, 2)
    assert affine(layer, X) == pytest.approx(expected(layer), abs=1e-6)
    with torch.no_grad():
        layer.weight.add_(1.0)
    assert affine(layer, X) == pytest.approx(expected(layer), abs=1e-6)
    layer.weight = nn.Parameter(torch.ones(2, 3))
    assert affine(layer, X) == pytest.approx(expected(layer), abs=1e-6)
    layer.bias.data = torch.tensor([3.0, 4.0])
    assert affine(layer, X) == pytest.approx(expected(layer), abs=1e-6)


def test_views_of_layers_that_are_gone_are_dropped_and_others_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acting, "_views", {})
    kept = nn.Linear(3, 2)
    first = views(kept)
    for _ in range(3 * acting.PURGE):
        layer = nn.Linear(3, 2)
        assert affine(layer, X) == pytest.approx(expected(layer), abs=1e-6)
    assert len(acting._views) <= acting.PURGE
    assert views(kept)[0] is first[0]
