"""Summaries of supports, random numbers of shots, and training tasks with a shuffled input."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from metarl.few_shot.shots import ShotSpaces
from metarl.learning.few_shot.base import Examples
from metarl.learning.few_shot.supports import Summary, shuffled_inputs, some_shots

CLASSES = ShotSpaces((2,), 3, classification=True, shots=4, queries=5)


def examples(count: int, seed: int = 0) -> Examples:
    """Random examples of 50 tasks."""
    rng = np.random.default_rng(seed)
    return Examples(
        torch.tensor(rng.standard_normal((50, count, 4))), torch.tensor(rng.standard_normal((50, count, 2)))
    )


def test_means_of_groups_by_hand() -> None:
    encodings = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]])
    groups = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]])
    found = Summary.fresh(encodings, 1, 3, 2).plus(encodings, groups)
    assert found.means.tolist() == [[[3.0, 4.0], [3.0, 4.0], [0.0, 0.0]]]
    assert found.counts.tolist() == [[2.0, 1.0, 0.0]]
    whole = Summary.fresh(encodings, 1, 1, 2).plus(encodings)
    assert whole.means.tolist() == [[[3.0, 4.0]]]


def test_the_number_of_shots_is_uniform_and_the_first_ones_are_taken() -> None:
    one, rng = examples(12), np.random.default_rng(1)
    counts = []
    for _ in range(400):
        some = some_shots(one, CLASSES, rng, fewest=1)
        counts.append(some.x.shape[1])
        assert torch.equal(some.x, one.x[:, : counts[-1]])
        assert torch.equal(some.y, one.y[:, : counts[-1]])
    values, times = np.unique(counts, return_counts=True)
    assert values.tolist() == [3, 6, 9, 12]
    assert (np.abs(times - 100) < 4 * np.sqrt(400 * 0.25 * 0.75)).all()


@pytest.mark.parametrize("probability", [0.0, 0.5, 1.0])
def test_one_input_of_some_tasks_is_shuffled_and_nothing_else_changes(probability: float) -> None:
    support, queries = examples(6), examples(8, seed=1)
    before = torch.cat([support.x, queries.x], dim=1)
    some, rest = shuffled_inputs(support, queries, np.random.default_rng(2), probability)
    assert some.y is support.y
    assert rest.y is queries.y
    assert (some.x.shape, rest.x.shape) == (support.x.shape, queries.x.shape)
    after = torch.cat([some.x, rest.x], dim=1)
    changed = (after != before).any(dim=1)  # [tasks, inputs]
    assert torch.equal(after.sort(dim=1).values, before.sort(dim=1).values), "the values of an input stay in its task"
    shuffled = changed.sum(dim=1)
    assert set(shuffled.tolist()) <= {0, 1}
    assert abs(float(shuffled.double().mean()) - probability) <= 4 * np.sqrt(probability * (1 - probability) / 50)
    if probability:
        assert changed.any(dim=0).all(), "every input is chosen now and then"


def test_the_shuffle_follows_the_generator() -> None:
    support, queries = examples(6), examples(8, seed=1)
    one, other = (shuffled_inputs(support, queries, np.random.default_rng(3), 0.5) for _ in range(2))
    assert all(torch.equal(a.x, b.x) for a, b in zip(one, other, strict=True))
