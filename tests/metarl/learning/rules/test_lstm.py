"""The rule of the LSTM meta-learner, against numbers by hand and a plain loop over coordinates."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from metarl.learning.networks.preprocessing import preprocessed
from metarl.learning.rules.base import Evidence
from metarl.learning.rules.lstm import LstmRule, LstmRuleMemory

DOUBLE = torch.float64
M, P, H = 3, 5, 4


@pytest.fixture
def rule() -> LstmRule:
    return LstmRule(H)


@pytest.fixture
def own(rule: LstmRule) -> Tensor:
    """Large weights, so that every term of every equation counts."""
    return torch.tensor(np.random.default_rng(0).normal(size=rule.layout.size), dtype=DOUBLE)


def evidence(seed: int) -> Evidence:
    rng = np.random.default_rng(seed)
    gradient = rng.normal(size=(M, P)) * 10.0 ** rng.integers(-7, 2, size=(M, P))
    gradient[0, 0], gradient[1, 1] = 0.0, -1e-6
    loss = torch.tensor([0.3, -2e-5, -4.0], dtype=DOUBLE)
    return Evidence(loss, torch.tensor(gradient), torch.zeros(M, 0, dtype=DOUBLE))


def test_a_number_becomes_its_size_and_its_sign() -> None:
    values = [1.0, -math.e, math.exp(-9.0), -math.exp(-11.0), 0.0, math.exp(-10.0)]
    found = preprocessed(torch.tensor([values], dtype=DOUBLE), dim=1)[0]
    expected = [[0.0, 0.1, -0.9, -1.0, -1.0, -1.0], [1.0, -1.0, 1.0, -math.exp(-1.0), 0.0, 1.0]]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=DOUBLE), rtol=1e-12, atol=1e-14)


def logistic(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x))


def read(x: float) -> tuple[float, float]:
    if abs(x) >= math.exp(-10.0):
        return math.log(abs(x)) / 10.0, math.copysign(1.0, x)
    return -1.0, math.exp(10.0) * x


def plain_step(arrays: dict[str, np.ndarray], theta: float, loss: float, gradient: float, memory: Any) -> Any:
    """A step of one coordinate, number by number."""
    hidden, cell, forget, size = memory
    inputs = [*read(loss), *read(gradient)]
    z = [
        sum(w * x for w, x in zip(arrays["of_evidence"][k], inputs, strict=True))
        + sum(u * h for u, h in zip(arrays["of_hidden"][k], hidden, strict=True))
        + arrays["bias"][k, 0]
        for k in range(4 * H)
    ]
    after_cell = [logistic(z[H + j]) * cell[j] + logistic(z[j]) * math.tanh(z[3 * H + j]) for j in range(H)]
    after_hidden = [logistic(z[2 * H + j]) * math.tanh(after_cell[j]) for j in range(H)]
    gates = [
        logistic(sum(w * x for w, x in zip(weights, [*after_hidden, theta, last], strict=True)) + bias)
        for weights, bias, last in zip(arrays["gate_weight"], arrays["gate_bias"], (forget, size), strict=True)
    ]
    return gates[0] * theta - gates[1] * gradient, (after_hidden, after_cell, *gates)


def test_two_steps_are_those_of_a_plain_loop_over_coordinates(rule: LstmRule, own: Tensor) -> None:
    arrays = {name: t[0].numpy() for name, t in rule.layout.split(own.unsqueeze(0)).items()}
    parameters = torch.tensor(np.random.default_rng(1).normal(size=(M, P)))
    found, memory = parameters, rule.fresh_memory(own, parameters)
    steps = [evidence(seed) for seed in (2, 3)]
    for one in steps:
        found, memory = rule.step(own, found, one, memory)
    for m in range(M):
        for p in range(P):
            theta, kept = float(parameters[m, p]), ([0.0] * H, [0.0] * H, 0.0, 0.0)
            for one in steps:
                theta, kept = plain_step(arrays, theta, float(one.loss[m]), float(one.gradient[m, p]), kept)
            assert float(found[m, p]) == pytest.approx(theta, rel=1e-10, abs=1e-12)
            at = LstmRuleMemory(
                memory.hidden[m, :, p], memory.cell[m, :, p], memory.forget[m, p], memory.step_size[m, p]
            )
            for mine, theirs in zip(at, kept, strict=True):
                assert mine.tolist() == pytest.approx(theirs, rel=1e-10, abs=1e-12)


def test_the_memory_counts(rule: LstmRule, own: Tensor) -> None:
    parameters = torch.ones(M, P, dtype=DOUBLE)
    first, memory = rule.step(own, parameters, evidence(2), rule.fresh_memory(own, parameters))
    carried, _ = rule.step(own, first, evidence(3), memory)
    forgotten, _ = rule.step(own, first, evidence(3), rule.fresh_memory(own, first))
    assert (carried - forgotten).abs().max() > 1e-3


def test_the_lstm_is_pytorchs(rule: LstmRule, own: Tensor) -> None:
    arrays = {name: t[0] for name, t in rule.layout.split(own.unsqueeze(0)).items()}
    cell = torch.nn.LSTMCell(4, H, dtype=DOUBLE)
    enter, keep, show, candidate = (slice(k * H, (k + 1) * H) for k in range(4))

    def in_its_order(a: Tensor) -> Tensor:
        return torch.cat([a[enter], a[keep], a[candidate], a[show]])

    with torch.no_grad():
        cell.weight_ih.copy_(in_its_order(arrays["of_evidence"]))
        cell.weight_hh.copy_(in_its_order(arrays["of_hidden"]))
        cell.bias_ih.copy_(in_its_order(arrays["bias"]).squeeze(1))
        cell.bias_hh.zero_()
        one, parameters = evidence(2), torch.ones(M, P, dtype=DOUBLE)
        memory = rule.step(own, parameters, one, rule.fresh_memory(own, parameters))[1]
        loss = preprocessed(one.loss.unsqueeze(1), dim=1).expand(M, 2, P)
        inputs = torch.cat([loss, preprocessed(one.gradient, dim=1)], dim=1).transpose(1, 2).reshape(M * P, 4)
        hidden, inner = cell(inputs)
    torch.testing.assert_close(memory.hidden, hidden.view(M, P, H).transpose(1, 2), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(memory.cell, inner.view(M, P, H).transpose(1, 2), rtol=1e-12, atol=1e-12)


def test_the_initial_weights_are_in_the_ranges_of_the_paper() -> None:
    rule, before = LstmRule(), torch.get_rng_state()
    made = [rule.initial(torch.zeros(P), np.random.default_rng(seed)) for seed in range(200)]
    assert torch.equal(before, torch.get_rng_state())
    assert len(made[0]) == rule.size.own == 4 * 20 * (4 + 20 + 1) + 2 * 23
    weights, biases = torch.stack([one[:-2] for one in made]), torch.stack([one[-2:] for one in made])
    assert 0.0099 < weights.max() < 0.01
    assert -0.01 < weights.min() < -0.0099
    assert 4.0 < biases[:, 0].min() < 4.1
    assert 5.9 < biases[:, 0].max() < 6.0
    assert -5.0 < biases[:, 1].min() < -4.95
    assert -4.05 < biases[:, 1].max() < -4.0
    assert made[0].dtype == torch.float32


def test_a_gradient_of_zero_has_finite_derivatives(rule: LstmRule, own: Tensor) -> None:
    gradient = torch.zeros(M, P, dtype=DOUBLE, requires_grad=True)
    loss = torch.zeros(M, dtype=DOUBLE, requires_grad=True)
    parameters = torch.ones(M, P, dtype=DOUBLE)
    after, _ = rule.step(
        own, parameters, Evidence(loss, gradient, loss.new_zeros(M, 0)), rule.fresh_memory(own, parameters)
    )
    for found in torch.autograd.grad(after.sum(), (gradient, loss)):
        assert found.isfinite().all()
