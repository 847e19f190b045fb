"""Rotations turn pairs of components like complex numbers, so that scores depend on distances alone."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from metarl.learning.networks.cells.rotary import rotated, rotations

HEADS, SIZE = 2, 6


def random(*shape: int) -> Tensor:
    return torch.tensor(np.random.default_rng(0).standard_normal(shape))


def test_a_rotation_is_a_product_of_complex_numbers() -> None:
    x, position = random(5, HEADS * SIZE), torch.tensor([0, 1, 2, 50, 1000])
    turned = rotated(x, rotations(position, SIZE, torch.float64))
    for n, t in enumerate(position.tolist()):
        for head in range(HEADS):
            some, after = (a[n, head * SIZE : (head + 1) * SIZE].numpy() for a in (x, turned))
            for i in range(SIZE // 2):
                expected = complex(some[i], some[SIZE // 2 + i]) * np.exp(1j * t * 10000.0 ** (-2 * i / SIZE))
                np.testing.assert_allclose(complex(after[i], after[SIZE // 2 + i]), expected, atol=1e-10)


def test_scores_depend_on_the_distance_alone() -> None:
    query, key = random(2, SIZE)
    scores = [
        rotated(query, rotations(torch.tensor(t + 7), SIZE, torch.float64))
        @ rotated(key, rotations(torch.tensor(t), SIZE, torch.float64))
        for t in (0, 3, 12345)
    ]
    np.testing.assert_allclose(torch.stack(scores), scores[0].expand(3), atol=1e-10)
    other = rotated(query, rotations(torch.tensor(8), SIZE, torch.float64)) @ key
    assert abs(float(other - scores[0])) > 1e-3


def test_late_steps_are_rotated_as_exactly_as_early_ones() -> None:
    position = torch.tensor([100_003])
    exact = rotations(position, SIZE, torch.float64)
    torch.testing.assert_close(rotations(position, SIZE, torch.float32).double(), exact, atol=1e-7, rtol=0.0)
