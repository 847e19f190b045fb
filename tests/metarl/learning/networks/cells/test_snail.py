"""SNAIL is held to its equations written step by step in NumPy, in float64."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from metarl.learning.networks.cells.base import mapped
from metarl.learning.networks.cells.settings import CellSettings
from metarl.learning.networks.cells.snail import EMBEDDING, FILTERS, KEY, Snail

INPUTS, UNITS, STEPS = 3, 8, 12


def cell(steps: int = STEPS) -> Snail:
    """A cell in float64 with random biases."""
    made = Snail.build(CellSettings(cell="snail", units=UNITS), INPUTS, steps, np.random.default_rng(0))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return made.double()


def inputs(rows: int = 2, steps: int = STEPS) -> Tensor:
    return torch.randn(rows, steps, INPUTS, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def numbers(layer: Any) -> tuple[np.ndarray, np.ndarray]:
    return layer.weight.detach().numpy(), layer.bias.detach().numpy()


def by_hand(snail: Snail, x: np.ndarray, dilations: list[int], window: int) -> np.ndarray:
    """The features `[L, H]` of one row of inputs `[L, I]`."""
    weight, bias = numbers(snail.embedding)
    features = [weight @ one + bias for one in x]
    for layer, dilation in zip(snail.convolutions, dilations, strict=True):
        (weight, bias), after = numbers(layer), []
        for t, now in enumerate(features):
            earlier = features[t - dilation] if t >= dilation else np.zeros_like(now)
            a = weight @ np.concatenate([earlier, now]) + bias
            after.append(np.concatenate([now, np.tanh(a[FILTERS:]) / (1.0 + np.exp(-a[:FILTERS]))]))
        features = after
    (weight, bias), outputs = numbers(snail.projection), []
    query, key, value = zip(*(np.split(weight @ f + bias, [KEY, 2 * KEY]) for f in features), strict=True)
    for t, now in enumerate(features):
        seen = range(max(0, t - window + 1), t + 1)
        weights = np.array([math.exp(float(query[t] @ key[s]) / math.sqrt(KEY)) for s in seen])
        read = sum(w * value[s] for w, s in zip(weights / weights.sum(), seen, strict=True))
        outputs.append(np.concatenate([now, read]))
    weight, bias = numbers(snail.output)
    return np.stack([weight @ one + bias for one in outputs])


@pytest.mark.parametrize(
    ("steps", "dilations"),
    [(1, [1]), (2, [1]), (3, [1, 2]), (8, [1, 2, 4]), (12, [1, 2, 4, 8]), (200, [1, 2, 4, 8, 16, 32, 64, 128])],
)
@torch.no_grad()
def test_features_are_the_equations(steps: int, dilations: list[int]) -> None:
    snail, x = cell(steps), inputs(2, min(steps + 1, 40))
    features, _ = snail(x, snail.fresh_memory(2))
    for row in range(2):
        expected = by_hand(snail, x[row].numpy(), dilations * 2, steps + 1)
        np.testing.assert_allclose(features[row].numpy(), expected, atol=1e-10)
    empty = mapped(lambda t: (t.double() if t.is_floating_point() else t).clone(), snail.fresh_memory(2))
    torch.testing.assert_close(snail(x, empty)[0], features, atol=1e-10, rtol=0.0)


@torch.no_grad()
def test_steps_beyond_the_trial_go_on() -> None:
    """The attention reads the last `T + 1` steps; the convolutions reach what they reached before."""
    snail, x = cell(4), inputs(2, 20)
    expected = np.stack([by_hand(snail, one.numpy(), [1, 2, 1, 2], 5) for one in x])
    features, _ = snail(x, snail.fresh_memory(2))
    np.testing.assert_allclose(features.numpy(), expected, atol=1e-10)
    snail, memory = snail.float(), snail.fresh_memory(2)
    for t in range(20):
        feature, memory = snail.step(x[:, t].float().numpy(), memory)
        np.testing.assert_allclose(feature, expected[:, t], atol=2e-5)


@torch.no_grad()
def test_convolutions_reach_over_the_whole_trial() -> None:
    """Without the read of the attention, the last features depend on the first input."""
    snail, x = cell(), inputs(1)
    snail.output.weight[:, -32:] = 0.0
    changed = x.clone()
    changed[:, 0] += 1.0
    difference = snail(x, snail.fresh_memory(1))[0] - snail(changed, snail.fresh_memory(1))[0]
    assert (difference[0].abs().amax(dim=1) > 1e-12).all()


@torch.no_grad()
def test_the_attention_knows_no_positions() -> None:
    """Without convolutions, the last features do not depend on the order of the steps before."""
    snail, x = cell(), inputs(1)
    for layer in snail.convolutions:
        layer.weight.zero_()  # type: ignore[operator]
        layer.bias.zero_()  # type: ignore[operator]
    order = [*np.random.default_rng(0).permutation(STEPS - 1), STEPS - 1]
    last, other = (snail(some, snail.fresh_memory(1))[0][:, -1] for some in (x, x[:, order]))
    torch.testing.assert_close(last, other, atol=1e-10, rtol=0.0)


@torch.no_grad()
def test_features_of_a_step_are_computed_once_and_written_into_one_buffer() -> None:
    snail = cell().float()
    memory, places = snail.fresh_memory(2), set()
    for t in range(STEPS):
        _, memory = snail.step(inputs()[:, t].float().numpy(), memory)
        places.add(memory.entries[0].data_ptr())
    assert len(places) == 1
    assert [part.shape[-1] for part in memory.entries] == [EMBEDDING + 7 * FILTERS, 32, 32]
