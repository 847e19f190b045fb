"""Minimal gated recurrent units follow their equations, and remember as long as a trial from the start."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import layer_norm

from metarl.learning.networks.cells.mingru import MinGru
from metarl.learning.networks.cells.scan import gated_scan

INPUTS, UNITS = 3, 4


def make(layers: int, steps: int = 12, units: int = UNITS) -> MinGru:
    return MinGru(INPUTS, units, layers, steps, np.random.default_rng(0))


def plain(cell: MinGru, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features `[L, H]` and memory `[N, H]` of one sequence from zero memories, by the equations in float64."""
    w = {name: p.detach().double().numpy() for name, p in cell.named_parameters()}
    layers = len(cell.layers)
    memory, features = np.zeros((layers, cell.outputs)), []
    for row in x:
        y = row
        for i in range(layers):
            u = (y - y.mean()) / np.sqrt(y.var() + 1e-5) if i else y
            gate, candidate = np.split(w[f"layers.{i}.weight"] @ u + w[f"layers.{i}.bias"], 2)
            z = 1.0 / (1.0 + np.exp(-gate))
            memory[i] = (1.0 - z) * memory[i] + z * candidate
            y = y + memory[i] if i else memory[i].copy()
        features.append(y)
    return np.array(features), memory


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_a_pass_and_steps_follow_the_equations(layers: int) -> None:
    cell = make(layers).double()
    x = torch.randn(2, 9, INPUTS, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    features, memory = cell(x, cell.fresh_memory(2).double())
    single, stepped = make(layers), make(layers).fresh_memory(2)
    for t in range(x.shape[1]):
        feature, stepped = single.step(x[:, t].float().numpy().copy(), stepped)
    for row in range(2):
        by_hand, end = plain(cell, x[row].numpy())
        assert features[row].detach().numpy() == pytest.approx(by_hand, abs=1e-12)
        assert memory[row].detach().numpy() == pytest.approx(end, abs=1e-12)
        assert feature[row] == pytest.approx(by_hand[-1], abs=1e-5)
        assert stepped[row].numpy() == pytest.approx(end, abs=1e-5)


def test_a_pass_by_doubling_is_the_same() -> None:
    """The features that a GPU computes, here on the CPU."""
    cell = make(2).double()
    x = torch.randn(2, 9, INPUTS, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    zeros = torch.zeros(2, UNITS, dtype=torch.float64)
    first, second = cell.layers
    y = gated_scan(first(x), zeros, doubling=True)
    y = y + gated_scan(second(layer_norm(y, (UNITS,))), zeros, doubling=True)
    torch.testing.assert_close(cell(x, cell.fresh_memory(2).double())[0], y, atol=1e-12, rtol=0.0)


@pytest.mark.parametrize("steps", [1, 2, 12, 2000])
def test_time_constants_span_the_steps_of_a_trial_at_the_start(steps: int) -> None:
    cell, longest = make(1, steps, units=400), max(steps, 2)
    bias = cell.layers[0].bias.detach().double().numpy()
    constants = 1.0 + np.exp(-bias[:400])  # 1 / z
    assert np.all((constants > 1.999) & (constants < 1.001 * longest))
    assert np.median(constants) == pytest.approx(np.sqrt(2.0 * longest), rel=0.3)
    assert bias[400:].std() == pytest.approx(0.1, rel=0.2)


def test_without_inputs_a_memory_decays_by_its_time_constants() -> None:
    cell = make(1)
    with torch.no_grad():
        cell.layers[0].bias[UNITS:] = 0.0
    bias = cell.layers[0].bias.detach().double().numpy()[:UNITS]
    features, _ = cell(torch.zeros(1, 5, INPUTS), torch.ones(1, 1, UNITS))
    expected = (1.0 / (1.0 + np.exp(bias))) ** np.arange(1, 6)[:, None]
    assert features[0].detach().numpy() == pytest.approx(expected, rel=1e-5)
