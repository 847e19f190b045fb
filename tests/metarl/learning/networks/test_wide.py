"""Internals of the wide form; `test_flat.py` compares its numbers with one network after another."""

from __future__ import annotations

import pytest
import torch

from metarl.learning.networks import wide
from metarl.learning.networks.flat import Perceptrons

MANY = torch.empty(4096, 1)


def test_it_is_for_hidden_layers_with_relu_on_many_rows_of_a_cpu() -> None:
    assert wide.pays((28, 300, 300, 1), "relu", 4096, MANY)
    assert not wide.pays((28, 300, 300, 1), "tanh", 4096, MANY), "the unit that is always 1 would not be"
    assert not wide.pays((28, 1), "relu", 10**6, MANY)
    assert not wide.pays((28, 300, 300, 1), "relu", 64, MANY)
    assert not wide.pays((28, 300, 300, 1), "relu", 4096, torch.empty(1, device="meta"))


def test_columns_are_the_units_one_more_and_whole_cache_lines() -> None:
    assert [wide.columns(units) for units in (1, 15, 16, 300)] == [16, 16, 32, 304]


def test_the_unit_that_is_always_one_stays_one_and_the_padding_zero() -> None:
    networks = Perceptrons((3, 5, 17, 2), "relu")
    parameters = torch.randn(2, networks.layout.size)
    weights = wide.joined_weights(networks.sizes, parameters)
    assert [tuple(w.shape) for w in weights] == [(2, 16, 16), (2, 16, 32), (2, 32, 2)]
    x = wide.joined_columns([torch.randn(1, 4, 3)])
    output, (first, second, third) = wide.evaluate(weights, x, keep=True)
    assert output.shape == (2, 4, 2)
    for h, units in ((first, 3), (second, 5), (third, 17)):
        assert bool((h[..., units] == 1.0).all())
        assert not h[..., units + 1 :].any()
    again, nothing = wide.evaluate(weights, x, keep=False)
    assert torch.equal(again, output)
    assert nothing == []


@pytest.mark.parametrize("rows", [1, 6, 7])
def test_blocks_cover_all_rows_and_are_of_nearly_the_same_size(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    monkeypatch.setattr(wide, "BLOCK_BYTES", 4 * 16 * 3)  # three rows
    networks = Perceptrons((3, 5, 2), "relu")
    weights = wide.joined_weights(networks.sizes, torch.randn(1, networks.layout.size))
    _, kept = wide.evaluate(weights, wide.joined_columns([torch.randn(1, rows, 3)]), keep=True)
    sizes = [h.shape[1] for h in kept[::2]]
    assert sum(sizes) == rows
    assert max(sizes) <= 3
    assert max(sizes) - min(sizes) <= 2
