"""The cache is a value, though its entries are written in place: held to lists of all entries of each row."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from metarl.learning.networks.cells.base import mapped
from metarl.learning.networks.cells.cache import (
    Cache,
    advanced,
    after_pass,
    fresh_cache,
    is_fresh,
    kept,
    previous,
    window_and_capacity,
)

ROWS, CAPACITY, NEEDED = 3, 6, 4
Lists = list[list[float]]


def fresh() -> Cache:
    return fresh_cache(ROWS, [(CAPACITY, 2), (CAPACITY, 3)], torch.device("cpu"))


def entry(numbers: Tensor, part: int) -> Tensor:
    """Entries of a part for numbers `[rows, L]`: the number, with its sign changed in the second part."""
    return (numbers if part else -numbers).unsqueeze(2).expand(-1, -1, 2 + part)


def stepped(cache: Cache, numbers: Tensor) -> Cache:
    after = advanced(cache, NEEDED)
    for part, buffer in enumerate(after.entries):
        for row in range(ROWS):
            buffer.detach().numpy()[row, int(after.length[row]) - 1] = entry(numbers[:, None], part)[row, 0]
    return after


def passed(cache: Cache, numbers: Tensor, steps: Tensor | int) -> Cache:
    before = 0 if is_fresh(cache) else NEEDED
    old, _ = previous(cache, before)
    joined = [torch.cat([o, entry(numbers, i)], dim=1) for i, o in enumerate(old)]
    return after_pass(cache, joined, before, steps, NEEDED)


def check(cache: Cache, rows: Lists) -> None:
    """The last entries are those of the lists, with zeros before the first."""
    parts, there = previous(cache, NEEDED)
    expected = torch.tensor([([0.0] * NEEDED + row)[-NEEDED:] for row in rows])
    assert there.tolist() == [[i >= NEEDED - len(row) for i in range(NEEDED)] for row in rows]
    for i, part in enumerate(parts):
        torch.testing.assert_close(part, entry(expected, i), atol=0.0, rtol=0.0)
    assert cache.position.tolist() == [len(row) for row in rows]
    assert cache.entries[0].shape == (ROWS, CAPACITY, 2)


def numbers(rng: np.random.Generator, *shape: int) -> Tensor:
    return torch.tensor(rng.standard_normal(shape, dtype=np.float32))


@pytest.mark.parametrize("seed", range(20))
def test_any_order_of_steps_passes_and_branches_keeps_every_memory_valid(seed: int) -> None:
    rng = np.random.default_rng(seed)
    memories: list[tuple[Cache, Lists]] = [(fresh(), [[], [], []])]
    for _ in range(60):
        index = int(rng.integers(max(0, len(memories) - 4), len(memories)))
        cache, rows = memories[index]
        kind = rng.choice(["step", "step", "step", "live", "live", "pass", "cut"])
        if kind == "cut":
            parts = [mapped(lambda t, i=i: t[i : i + 1].clone(), cache) for i in range(ROWS)]
            memories.append((mapped(lambda *some: torch.cat(some), *parts), rows))
        elif kind == "pass":
            steps, length = torch.tensor(rng.integers(1, 8, ROWS)), 7
            x = numbers(rng, ROWS, length)
            after = [row + x[i, : int(steps[i])].tolist() for i, row in enumerate(rows)]
            memories.append((passed(cache, x, steps), after))
        else:
            x = numbers(rng, ROWS)
            live = torch.tensor(rng.random(ROWS) < 0.6) if kind == "live" else torch.ones(ROWS, dtype=torch.bool)
            new = stepped(cache, x)
            if kind == "live":
                new = kept(live, new, cache, NEEDED)
            memories.append((new, [[*row, float(x[i])] if live[i] else row for i, row in enumerate(rows)]))
        for memory in memories:
            check(*memory)


def test_a_step_writes_into_the_buffer_of_the_memory_before_it_and_a_second_one_copies() -> None:
    start = stepped(fresh(), torch.zeros(ROWS))
    one = stepped(start, torch.ones(ROWS))
    other = stepped(start, torch.full((ROWS,), 2.0))
    place = start.entries[0].data_ptr()
    assert one.entries[0].data_ptr() == place
    assert one.head is start.head
    assert other.entries[0].data_ptr() != place
    assert stepped(one, torch.ones(ROWS)).entries[0].data_ptr() == place


def test_a_row_that_is_not_live_is_taken_back_in_the_same_buffer() -> None:
    start = stepped(fresh(), torch.zeros(ROWS))
    cache = kept(torch.tensor([True, False, True]), stepped(start, torch.ones(ROWS)), start, NEEDED)
    assert cache.entries[0].data_ptr() == start.entries[0].data_ptr()
    assert cache.head.tolist() == cache.length.tolist() == [2, 1, 2]
    assert stepped(cache, torch.ones(ROWS)).entries[0].data_ptr() == start.entries[0].data_ptr()


def test_a_full_buffer_is_left_to_the_memories_that_have_it() -> None:
    caches = [fresh()]
    for t in range(CAPACITY + 1):
        caches.append(stepped(caches[-1], torch.full((ROWS,), float(t))))
    assert caches[CAPACITY].length.tolist() == [CAPACITY] * ROWS
    assert caches[-1].length.tolist() == [NEEDED + 1] * ROWS
    assert caches[-1].entries[0].data_ptr() != caches[-2].entries[0].data_ptr()
    check(caches[-2], [[float(t) for t in range(CAPACITY)]] * ROWS)
    check(caches[-1], [[float(t) for t in range(CAPACITY + 1)]] * ROWS)


def test_rows_that_have_ended_do_not_make_every_later_step_begin_a_buffer() -> None:
    cache = fresh()
    for _ in range(CAPACITY):
        cache = stepped(cache, torch.zeros(ROWS))
    live = torch.tensor([True, False, False])
    cache = kept(live, stepped(cache, torch.ones(ROWS)), cache, NEEDED)
    after = kept(live, stepped(cache, torch.ones(ROWS)), cache, NEEDED)
    assert after.entries[0].data_ptr() == cache.entries[0].data_ptr()


def test_a_buffer_that_a_gradient_goes_through_is_not_written_into() -> None:
    x = torch.ones(ROWS, 2, requires_grad=True)
    cache = passed(fresh(), x, 2)
    assert cache.entries[0].requires_grad
    after = stepped(cache, torch.full((ROWS,), 5.0))
    assert after.entries[0].data_ptr() != cache.entries[0].data_ptr()
    check(after, [[1.0, 1.0, 5.0]] * ROWS)
    (gradient,) = torch.autograd.grad(previous(cache, NEEDED)[0][1].sum(), x)
    assert gradient.tolist() == [[3.0, 3.0]] * ROWS


def test_a_memory_of_the_inference_mode_goes_on_outside_of_it() -> None:
    with torch.inference_mode():
        start = stepped(fresh(), torch.zeros(ROWS))
    after = stepped(start, torch.ones(ROWS))
    after = kept(torch.tensor([True, True, False]), after, start, NEEDED)
    check(after, [[0.0, 1.0], [0.0, 1.0], [0.0]])


def test_a_fresh_cache_is_recognised_by_its_strides_and_has_no_buffer() -> None:
    cache = fresh()
    assert is_fresh(cache)
    assert is_fresh(mapped(Tensor.detach, cache))
    assert cache.entries[0].untyped_storage().nbytes() == 4
    assert not is_fresh(mapped(Tensor.clone, cache))
    assert not is_fresh(stepped(cache, torch.zeros(ROWS)))
    check(stepped(mapped(Tensor.clone, cache), torch.ones(ROWS)), [[1.0]] * ROWS)


@pytest.mark.parametrize(
    ("window", "steps", "expected"),
    [(0, 20, (21, 21)), (100, 20, (21, 21)), (16, 200, (16, 19)), (1, 200, (1, 2)), (19, 20, (19, 21)), (1, 1, (1, 2))],
)
def test_a_buffer_has_room_for_an_eighth_more_than_the_window(
    window: int, steps: int, expected: tuple[int, int]
) -> None:
    assert window_and_capacity(window, steps) == expected
