from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from metarl.learning.networks import Layout, mlp, mlp_init, mlp_layout


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_stacked_networks_equal_one_module_per_task(activation: str) -> None:
    sizes = (3, 5, 4, 2)
    layout = Layout(mlp_layout(sizes))
    flat = torch.randn(3, layout.size)
    x = torch.randn(3, 7, 3)
    weights = layout.split(flat)
    stacked = mlp(weights, x, activation)
    for m in range(3):
        one = x[m]
        for i in range(3):
            linear = torch.nn.Linear(sizes[i], sizes[i + 1])
            linear.weight.data, linear.bias.data = weights[f"weight_{i}"][m].T, weights[f"bias_{i}"][m]
            one = linear(one)
            if i < 2:
                one = {"tanh": torch.tanh, "relu": torch.relu}[activation](one)
        torch.testing.assert_close(stacked[m], one)


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
