"""Attention over a window: blocks and single steps are held to the sum written as loops, in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from metarl.learning.networks.cells.windowed import attention_step, entries_to_read, windowed_attention

ROWS, HEADS, SIZE = 2, 2, 3


def plain(query: np.ndarray, key: np.ndarray, value: np.ndarray) -> np.ndarray:
    """The read `[HEADS * V]` of a query `[HEADS * SIZE]` from keys and values `[n, ...]`."""
    reads = []
    for q, k, v in zip(
        np.split(query, HEADS), np.split(key, HEADS, axis=1), np.split(value, HEADS, axis=1), strict=True
    ):
        weights = np.array([math.exp(float(q @ one) / math.sqrt(len(q))) for one in k])
        reads.append(sum(w * one for w, one in zip(weights / weights.sum(), v, strict=True)))
    return np.concatenate(reads)


@pytest.mark.parametrize("window", [1, 2, 3, 5, 20])
@pytest.mark.parametrize("steps", [1, 4, 5, 11])
@pytest.mark.parametrize("there", [None, (0, 0), (1, 19), (2, 4)], ids=str)
def test_each_step_reads_the_window_before_it(window: int, steps: int, there: tuple[int, int] | None) -> None:
    rng = np.random.default_rng(0)
    before = 0 if there is None else window - 1
    query = rng.standard_normal((ROWS, steps, HEADS * SIZE))
    key = rng.standard_normal((ROWS, before + steps, HEADS * SIZE))
    value = rng.standard_normal((ROWS, before + steps, HEADS * 5))
    numbers = [min(n, before) for n in there or (0, 0)]
    mask = torch.tensor([[i >= before - n for i in range(before)] for n in numbers], dtype=torch.bool)
    q, k, v = (torch.tensor(a) for a in (query, key, value))
    read = windowed_attention(q, k, v, mask, window, HEADS)
    assert read.shape == (ROWS, steps, HEADS * 5)
    for row in range(ROWS):
        for t in range(steps):
            end = before + t + 1
            seen = slice(max(end - window, before - numbers[row]), end)
            expected = plain(query[row, t], key[row, seen], value[row, seen])
            np.testing.assert_allclose(read[row, t].numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("length", [(4, 4), (7, 7), (1, 6), (3, 7)], ids=str)
@pytest.mark.parametrize("window", [1, 3, 10])
def test_a_single_step_reads_its_rows_last_entries(length: tuple[int, int], window: int) -> None:
    rng = np.random.default_rng(0)
    query, keys, values = (rng.standard_normal((ROWS, *shape)) for shape in ((6,), (8, 6), (8, 10)))
    span, unread = entries_to_read(np.array(length), window)
    read = attention_step(query, keys[:, span], values[:, span], unread, HEADS)
    for row, n in enumerate(length):
        seen = slice(max(n - window, 0), n)
        np.testing.assert_allclose(read[row], plain(query[row], keys[row, seen], values[row, seen]), atol=1e-12)


def test_rows_of_one_length_need_no_mask() -> None:
    assert entries_to_read(np.array([5, 5]), 3) == (slice(2, 5), None)
    span, unread = entries_to_read(np.array([2, 5]), 3)
    assert span == slice(0, 5)
    assert unread is not None
    assert unread.tolist() == [[False, False, True, True, True], [True, True, False, False, False]]


def test_large_scores_do_not_overflow() -> None:
    query, keys = np.full((1, 2), 1e4, dtype=np.float32), np.array([[[1e4, 0.0], [0.0, 0.0]]], dtype=np.float32)
    values = np.array([[[1.0], [2.0]]], dtype=np.float32)
    assert attention_step(query, keys, values, None, 1).tolist() == [[1.0]]
