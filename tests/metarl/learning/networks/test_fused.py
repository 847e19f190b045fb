"""Forward passes by oneDNN are those of batched products, whichever of the two a layer goes through."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from metarl.learning.networks import fused
from metarl.learning.networks.flat import Perceptrons
from metarl.learning.networks.perceptron import Activation, Layers


def layers_of(sizes: tuple[int, ...], networks: int, dtype: torch.dtype = torch.float32) -> tuple[Layers, torch.Tensor]:
    """Random layers `[n, ...]`, and 60 rows of inputs for each network."""
    rng = np.random.default_rng(0)
    shape = Perceptrons(sizes, "relu")
    flat = torch.tensor(rng.standard_normal((networks, shape.layout.size)) / 4, dtype=dtype)
    return shape.layers(flat), torch.tensor(rng.standard_normal((networks, 60, sizes[0])), dtype=dtype)


def by_hand(layers: Layers, x: torch.Tensor, activation: Activation) -> torch.Tensor:
    outputs = []
    for n in range(len(x)):
        h = x[n].double()
        for i, (weight, bias) in enumerate(zip(*layers, strict=True)):
            h = h @ weight[n].double() + bias[n].double()
            if i + 1 < len(layers.weights):
                h = torch.relu(h) if activation == "relu" else torch.tanh(h)
        outputs.append(h)
    return torch.stack(outputs)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("product", [1, 60 * 30 * 40, 10**9])
def test_all_sizes_of_layers_give_the_same_outputs(
    activation: Activation, product: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every layer apart, only the second one, none."""
    calls: list[str] = []
    found: Any = fused.LAYER

    def counted(x: Any, weight: Any, bias: Any, name: str, *rest: Any) -> Any:
        calls.append(name)
        return found(x, weight, bias, name, *rest)

    layers, x = layers_of((5, 30, 40, 3), 4)
    monkeypatch.setattr(fused, "PRODUCT", product)
    if found is not None:
        monkeypatch.setattr(fused, "LAYER", counted)
        expected = {1: [activation] * 8 + ["none"] * 4, 60 * 30 * 40: [activation] * 4, 10**9: []}
    output = fused.FusedMlps(layers, activation)(x)
    torch.testing.assert_close(output.double(), by_hand(layers, x, activation), rtol=1e-5, atol=1e-5)
    if found is not None:
        assert calls == expected[product]


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_without_onednn_and_in_float64_the_products_are_batched(
    activation: Activation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fused, "PRODUCT", 1)
    exact, x = layers_of((5, 30, 40, 3), 4, torch.float64)
    output = fused.FusedMlps(exact, activation)(x)
    torch.testing.assert_close(output, by_hand(exact, x, activation), rtol=0, atol=1e-6)
    layers, x = layers_of((5, 30, 40, 3), 4)
    monkeypatch.setattr(fused, "LAYER", None)
    output = fused.FusedMlps(layers, activation)(x)
    torch.testing.assert_close(output.double(), by_hand(layers, x, activation), rtol=1e-5, atol=1e-5)
