"""The transformer is held to its equations written step by step in NumPy, and sees exactly its window."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from metarl.learning.networks.cells.attention import Attention
from metarl.learning.networks.cells.base import mapped
from metarl.learning.networks.cells.cache import Cache
from metarl.learning.networks.cells.settings import CellSettings
from metarl.learning.networks.cells.table import cell_size, make_cell

INPUTS, UNITS, STEPS, HEADS = 3, 8, 12, 2


def cell(layers: int = 2, window: int = 0, heads: int = HEADS, *, random: bool = True) -> Attention:
    """A cell in float64; biases and norms are random too, unless it is to be as it was built."""
    settings = CellSettings(
        cell="attention", units=UNITS, cell_layers=layers, attention_heads=heads, attention_window=window
    )
    made = Attention.build(settings, INPUTS, STEPS, np.random.default_rng(0))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in made.parameters() if random else ():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return made.double()


def inputs(rows: int = 2, steps: int = STEPS, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(rows, steps, INPUTS, generator=torch.Generator().manual_seed(2), dtype=torch.float64).to(dtype)


def as_copied(memory: Cache) -> Cache:
    """A fresh memory that is not recognised as fresh."""
    return mapped(lambda t: (t.double() if t.is_floating_point() else t).clone(), memory)


def norm(x: np.ndarray, layer: nn.LayerNorm) -> np.ndarray:
    deviation = np.sqrt(x.var() + layer.eps)
    return (x - x.mean()) / deviation * layer.weight.detach().numpy() + layer.bias.detach().numpy()


def apply(layer: nn.Linear, x: np.ndarray) -> np.ndarray:
    result: np.ndarray = layer.weight.detach().numpy() @ x + layer.bias.detach().numpy()
    return result


def turned(x: np.ndarray, t: int) -> np.ndarray:
    """The heads of a query or key as complex numbers, rotated, `[HEADS, d / 2]`."""
    one, other = x.reshape(HEADS, 2, -1).transpose(1, 0, 2)
    size = UNITS // HEADS
    return (one + 1j * other) * np.exp(1j * t * 10000.0 ** (-2.0 * np.arange(size // 2) / size))


def by_hand(attention: Attention, x: np.ndarray, window: int) -> np.ndarray:
    """The features `[L, H]` of one row of inputs `[L, I]`."""
    hidden = [apply(attention.input, one) for one in x]
    for layer in attention.layers:
        some: Any = layer
        query, key, value = zip(
            *(np.split(apply(some.projection, norm(h, some.attention_norm)), 3) for h in hidden), strict=True
        )
        after = []
        for t, h in enumerate(hidden):
            reads = np.zeros((HEADS, UNITS // HEADS))
            for head in range(HEADS):
                seen = range(max(0, t - window + 1), t + 1)
                scores = [(turned(query[t], t)[head] @ turned(key[s], s)[head].conj()).real for s in seen]
                weights = np.exp(np.array(scores) / math.sqrt(UNITS / HEADS))
                for s, weight in zip(seen, weights / weights.sum(), strict=True):
                    reads[head] += weight * value[s].reshape(HEADS, -1)[head]
            h = h + apply(some.output, reads.ravel())
            inner = np.maximum(apply(some.mlp[0], norm(h, some.mlp_norm)), 0.0)
            after.append(h + apply(some.mlp_output, inner))
        hidden = after
    return np.stack([norm(h, attention.norm) for h in hidden])


@pytest.mark.parametrize(("layers", "window"), [(1, 0), (2, 0), (2, 4), (3, 1), (1, 5)])
@torch.no_grad()
def test_features_are_the_equations(layers: int, window: int) -> None:
    attention, x = cell(layers, window), inputs()
    features, _ = attention(x, as_copied(attention.fresh_memory(2)))
    for row in range(2):
        expected = by_hand(attention, x[row].numpy(), window or STEPS + 1)
        np.testing.assert_allclose(features[row].numpy(), expected, atol=1e-10)


@pytest.mark.parametrize("window", [0, 1, 4, 11, 12])
@torch.no_grad()
def test_a_pass_without_memory_is_one_from_an_empty_memory(window: int) -> None:
    attention, x = cell(window=window), inputs()
    features, memory = attention(x, attention.fresh_memory(2))
    expected, other = attention(x, as_copied(attention.fresh_memory(2)))
    torch.testing.assert_close(features, expected, atol=1e-10, rtol=0.0)
    following = inputs().flip(1)
    torch.testing.assert_close(attention(following, memory)[0], attention(following, other)[0], atol=1e-10, rtol=0.0)


@pytest.mark.parametrize(("layers", "window"), [(1, 1), (1, 4), (2, 3), (3, 2)])
@torch.no_grad()
def test_a_window_sees_exactly_its_steps(layers: int, window: int) -> None:
    """Layers pass on what they see: the features depend on `layers * (window - 1) + 1` steps."""
    attention, x = cell(layers, window), inputs(1)
    changed, seen = x.clone(), layers * (window - 1) + 1
    changed[:, 2] += 1.0
    difference = (attention(x, attention.fresh_memory(1))[0] - attention(changed, attention.fresh_memory(1))[0])[0]
    moved = difference.abs().amax(dim=1) > 1e-9
    assert moved.tolist() == [2 <= t < 2 + seen for t in range(STEPS)]


@torch.no_grad()
def test_the_whole_trial_is_seen_and_the_step_after_it() -> None:
    attention, x = cell(1), inputs(1, STEPS + 1)
    changed = x.clone()
    changed[:, 0] += 1.0
    difference = attention(x, attention.fresh_memory(1))[0] - attention(changed, attention.fresh_memory(1))[0]
    assert (difference.abs().amax(dim=2) > 1e-9).all()


@torch.no_grad()
def test_features_do_not_depend_on_the_number_of_steps_before_the_memory() -> None:
    attention, x = cell(), inputs()
    late = as_copied(attention.fresh_memory(2))._replace(position=torch.tensor([1000, 99_999]))
    features, _ = attention(x, attention.fresh_memory(2))
    torch.testing.assert_close(attention(x, late)[0], features, atol=1e-9, rtol=0.0)


@pytest.mark.parametrize("window", [0, 1, 3, 7])
@torch.no_grad()
def test_steps_beyond_the_trial_drop_the_oldest(window: int) -> None:
    attention, x = cell(window=window).float(), inputs(2, 3 * STEPS, torch.float32)
    features, _ = attention(x, attention.fresh_memory(2))
    expected = by_hand(attention.double(), x[0].double().numpy(), window or STEPS + 1)
    np.testing.assert_allclose(features[0].numpy(), expected, atol=2e-5)
    attention, memory = attention.float(), attention.fresh_memory(2)
    for t in range(3 * STEPS):
        feature, memory = attention.step(x[:, t].numpy().copy(), memory)
        np.testing.assert_allclose(feature, features[:, t].numpy(), atol=2e-5)


@torch.no_grad()
def test_steps_of_a_trial_write_into_one_buffer() -> None:
    attention = cell(random=False).float()
    memory, places = attention.fresh_memory(2), set()
    for t in range(STEPS):
        _, memory = attention.step(inputs(dtype=torch.float32)[:, t].numpy().copy(), memory)
        places.add(memory.entries[0].data_ptr())
    assert len(places) == 1


def test_layers_are_the_identity_at_the_start_and_features_as_small_as_a_recurrent_cells() -> None:
    attention, x = cell(3, random=False), inputs(20)
    with torch.no_grad():
        features, _ = attention(x, attention.fresh_memory(20))
        torch.testing.assert_close(features, attention.norm(attention.input(x)))
    assert 0.25 < float(features.square().mean().sqrt()) < 0.35


def test_the_gradient_of_an_input_of_zeros_is_not_hundreds_of_times_that_of_others() -> None:
    attention = cell(random=False)
    sizes = []
    for x in (torch.zeros(1, 1, INPUTS, dtype=torch.float64), inputs(1, 1)):
        x.requires_grad_()
        gradient = torch.autograd.grad(attention(x, attention.fresh_memory(1))[0][0, 0, 0], x)[0]
        sizes.append(float(gradient.norm()))
    assert sizes[0] < 20.0 * sizes[1]


@pytest.mark.parametrize(
    ("units", "heads", "possible"),
    [(8, 3, "possible are 1, 2, 4"), (8, 8, "possible are 1, 2, 4"), (7, 2, "use a multiple of 4 units")],
)
def test_heads_that_do_not_divide_the_units_are_refused(units: int, heads: int, possible: str) -> None:
    settings = CellSettings(cell="attention", units=units, attention_heads=heads)
    with pytest.raises(ValueError, match=f"attention_heads: got {heads} with {units} units, .*; {possible}"):
        make_cell(settings, INPUTS, STEPS, np.random.default_rng(0))
    with pytest.raises(ValueError, match="attention_heads"):
        cell_size(settings, INPUTS, STEPS)
