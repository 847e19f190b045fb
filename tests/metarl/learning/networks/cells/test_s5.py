"""S5 follows its equations; its eigenvalues are those of HiPPO-LegS, and its states cannot grow."""

from __future__ import annotations

import cmath
import math

import numpy as np
import pytest
import torch
from scipy.linalg import expm

from metarl.learning.networks.cells import s5
from metarl.learning.networks.cells.s5 import S5, S5Layer, discretised, hippo_eigenvalues
from metarl.learning.networks.cells.settings import CellSettings
from metarl.learning.networks.cells.table import make_cell

INPUTS, UNITS = 3, 6


def make(layers: int = 2) -> S5:
    cell = S5(INPUTS, UNITS, layers, np.random.default_rng(0))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return cell


def plain(cell: S5, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features `[L, H]` and memory `[N, H]` of one sequence from zero states, by the equations in float64."""
    w = {name: p.detach().double().numpy() for name, p in cell.named_parameters()}
    layers = len(cell.layers)
    states, features = np.zeros((layers, cell.outputs // 2), dtype=np.complex128), []
    for row in x:
        y = w["enter.weight"] @ row + w["enter.bias"]
        for i in range(layers):
            p = {name.removeprefix(f"layers.{i}."): a for name, a in w.items() if name.startswith(f"layers.{i}.")}
            eigenvalues = -np.exp(p["decay"]) + 1j * p["frequency"]
            a = np.exp(np.exp(p["log_step"]) * eigenvalues)
            b = p["into"][::2] + 1j * p["into"][1::2]
            c = 0.5 * (p["read.weight"][:, ::2] - 1j * p["read.weight"][:, 1::2])
            u = (y - y.mean()) / np.sqrt(y.var() + 1e-5)
            states[i] = a * states[i] + (a - 1.0) / eigenvalues * (b @ u)
            v = 2.0 * (c @ states[i]).real + p["skip"] * u + p["read.bias"]
            v = 0.5 * v * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (v + 0.044715 * v**3)))
            y = y + v / (1.0 + np.exp(-(p["gate.weight"] @ v + p["gate.bias"])))
        features.append(y)
    return np.array(features), np.stack([states.real, states.imag], axis=-1).reshape(layers, -1)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_a_pass_and_steps_follow_the_equations(layers: int) -> None:
    cell = make(layers).double()
    x = torch.randn(2, 9, INPUTS, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    features, memory = cell(x, cell.fresh_memory(2).double())
    single = make(layers)
    stepped = single.fresh_memory(2)
    for t in range(x.shape[1]):
        feature, stepped = single.step(x[:, t].float().numpy().copy(), stepped)
    for row in range(2):
        by_hand, end = plain(cell, x[row].numpy())
        assert features[row].detach().numpy() == pytest.approx(by_hand, abs=1e-10)
        assert memory[row].detach().numpy() == pytest.approx(end, abs=1e-10)
        assert feature[row] == pytest.approx(by_hand[-1], abs=2e-5)
        assert stepped[row].numpy() == pytest.approx(end, abs=2e-5)


def test_a_pass_by_doubling_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """The features that a GPU computes, here on the CPU."""
    cell = make().double()
    x = torch.randn(2, 9, INPUTS, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    expected, _ = cell(x, cell.fresh_memory(2).double())
    scan = s5.rotated_scan
    monkeypatch.setattr(s5, "rotated_scan", lambda a, u, start, doubling: scan(a, u, start, doubling=not doubling))
    torch.testing.assert_close(cell(x, cell.fresh_memory(2).double())[0], expected, atol=1e-12, rtol=0.0)


@pytest.mark.parametrize("size", [2, 6, 32])
def test_eigenvalues_are_those_of_the_normal_part_of_hippo(size: int) -> None:
    n = np.arange(size)
    hippo = -np.sqrt(np.outer(2 * n + 1, 2 * n + 1)) * (n[:, None] > n) - np.diag(n + 1.0)
    p = np.sqrt(n + 0.5)
    normal = hippo + np.outer(p, p)
    assert normal @ normal.T == pytest.approx(normal.T @ normal, abs=1e-9 * size**3)
    expected = np.linalg.eigvals(normal)
    expected = expected[expected.imag > 0]
    found = hippo_eigenvalues(size)
    assert found.shape == (size // 2,)
    assert np.sort(found.imag) == pytest.approx(np.sort(expected.imag), rel=1e-9)
    assert found.real == pytest.approx(expected.real, abs=1e-9)


def test_the_eigenvalues_of_two_states_by_hand() -> None:
    """The skew-symmetric part is half of sqrt(3), so that the eigenvalues are the cube roots of unity."""
    assert hippo_eigenvalues(2)[0] == pytest.approx(cmath.exp(2j * math.pi / 3), abs=1e-12)


@pytest.mark.parametrize("step", [1e-6, 1e-3, 0.1, 2.0])
def test_zero_order_hold_is_the_exact_solution_for_constant_inputs(step: float) -> None:
    """The exponential of the system's matrix, with the input as a further state that does not change."""
    rate, frequency = 0.7, 30.0
    system = np.array([[-rate, -frequency, 1.0], [frequency, -rate, 0.0], [0.0, 0.0, 0.0]])
    exact = expm(step * system)
    found = discretised(np, np.log([rate]), np.array([frequency]), np.log([step]))
    assert np.concatenate(found[0]) == pytest.approx(exact[:2, 0], abs=1e-12)
    assert np.concatenate(found[1]) == pytest.approx(exact[:2, 2], rel=1e-9)
    single = discretised(np, *(np.array([v], dtype=np.float32) for v in (math.log(rate), frequency, math.log(step))))
    assert np.concatenate(single[1]) == pytest.approx(exact[:2, 2], rel=1e-5, abs=1e-9)
    by_torch = discretised(torch, *(torch.tensor([v]).double() for v in (math.log(rate), frequency, math.log(step))))
    assert torch.cat(by_torch[1]).numpy() == pytest.approx(np.concatenate(found[1]), rel=1e-6)


def test_states_shrink_whatever_the_parameters_are() -> None:
    layer = S5Layer(UNITS, np.random.default_rng(0))
    with torch.no_grad():
        for parameter in (layer.decay, layer.frequency, layer.log_step):
            parameter.copy_(torch.tensor([-3.0, 0.0, 3.0]))
    a_re, a_im = discretised(torch, layer.decay, layer.frequency, layer.log_step)[0]
    assert (a_re**2 + a_im**2 < 1.0).all()


@pytest.mark.parametrize("units", [2, 6, 8, 20])
def test_eigenvalues_start_as_those_of_small_blocks(units: int) -> None:
    layer = S5Layer(units, np.random.default_rng(0))
    block = hippo_eigenvalues(min(units, 8))
    expected = [block[i % len(block)] for i in range(units // 2)]
    assert layer.frequency.detach().numpy() == pytest.approx(np.imag(expected), rel=1e-6)
    assert np.exp(layer.decay.detach().numpy()) == pytest.approx(0.5, rel=1e-6)


def test_step_sizes_are_log_uniform_at_the_start() -> None:
    steps = np.exp(S5Layer(2000, np.random.default_rng(0)).log_step.detach().double().numpy())
    assert 1e-3 <= steps.min() < 1.1e-3
    assert 0.09 < steps.max() <= 0.1 + 1e-8
    assert np.median(steps) == pytest.approx(1e-2, rel=0.15)


def test_an_odd_number_of_units_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"units: got 7, expected an even number where cell is 's5'"):
        make_cell(CellSettings(cell="s5", units=7), INPUTS, 10, np.random.default_rng(0))
