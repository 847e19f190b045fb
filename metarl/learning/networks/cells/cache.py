"""An append-only cache: what a cell keeps of each of its last steps.

A memory is a value, and copying the whole cache at each step of acting would cost more than the step. So a step writes
its entry into the buffer of the memory before it. Memories that share a buffer have a number of entries each and ignore
those after it, and they share the tensor `head`: the number of entries that the buffer has in each row. A step from a
memory whose length is not the head, since another step went on from it already, copies the buffer first. A step from a
full buffer begins a new one with the entries that are still needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

SLACK = 8
"""A buffer has room for `1 / SLACK` more entries than are needed: a new one is begun after as many steps."""


class Cache(NamedTuple):
    """The entries of each row.

    Attributes:
        entries: Parts of the entries, `[rows, C, D]` each, for a capacity `C`.
        length: Number of entries of each row, the first ones, `[rows]`.
        head: Number of entries that the buffer has, `[rows]`; shared by all memories of the same buffer.
        position: Steps of each row since the start of the trial, `[rows]`.
    """

    entries: tuple[Tensor, ...]
    length: Tensor
    head: Tensor
    position: Tensor


def window_and_capacity(window: int, steps: int) -> tuple[int, int]:
    """Entries that a step reads, its own included, and entries that a buffer has room for.

    Args:
        window: The number wanted; 0 for a trial and the step after it, whose value may be asked for.
        steps: Steps of a trial.
    """
    window = min(window or steps + 1, steps + 1)
    return window, min(window + window // SLACK + 1, steps + 1)


def fresh_cache(rows: int, shapes: Sequence[Sequence[int]], device: torch.device) -> Cache:
    """A cache without entries; it has no buffer before the first step, only one zero seen through strides of 0.

    Args:
        rows: Number of rows.
        shapes: Shape `[C, D]` of each part of the entries; `D` is at least 2.
        device: Device of the tensors.
    """
    zero = torch.zeros((), dtype=torch.float32, device=device)
    length = torch.zeros(rows, dtype=torch.int64, device=device)
    return Cache(tuple(zero.expand(rows, *shape) for shape in shapes), length, length.clone(), length.clone())


def is_fresh(cache: Cache) -> bool:
    """Whether this is a `fresh_cache`, as it was returned or detached. A copy of it may not be recognised.

    The strides tell, so that a GPU's numbers are not waited for.
    """
    return cache.entries[0].stride(-1) == 0


def previous(cache: Cache, number: int) -> tuple[tuple[Tensor, ...], Tensor]:
    """The last entries of each row, in order of time.

    Args:
        cache: The cache.
        number: How many entries.

    Returns:
        The parts of the entries, `[rows, number, D]` each, and where there is one, `[rows, number]`: rows with
        fewer entries have zeros first.
    """
    index = cache.length.unsqueeze(1) - number + torch.arange(number, device=cache.length.device)
    there = index >= 0
    taken = (_at(part, index) for part in cache.entries)
    return tuple(part * there.unsqueeze(2).to(part.dtype) for part in taken), there


def after_pass(cache: Cache, joined: Sequence[Tensor], before: int, steps: Tensor | int, needed: int) -> Cache:
    """The cache after a pass over several steps, in a buffer of its own.

    Args:
        cache: The cache before the pass.
        joined: Parts of the entries, `[rows, before + L, D]` each: the last `before` ones of the cache as
            `previous` returns them, and those of the pass.
        before: Number of entries in front of those of the pass.
        steps: The first steps of each row that count, `[rows]`, or their number in every row.
        needed: Most entries that later steps need.
    """
    total = (torch.clamp(cache.length, max=before) + steps).clamp(max=needed)
    capacity = cache.entries[0].shape[1]
    if isinstance(steps, int) and not before:  # the same entries in all rows
        recent = [part[:, max(steps - needed, 0) : steps] for part in joined]
        entries = tuple(pad(part, (0, 0, 0, capacity - part.shape[1])) for part in recent)
    else:
        first = before + steps - total
        entries = tuple(_moved(part, first, total, needed, capacity) for part in joined)
    return Cache(entries, total, total.clone(), cache.position + steps)


def advanced(cache: Cache, needed: int) -> Cache:
    """The cache after one more step on a CPU; the caller writes the entry at index `length - 1` of each row, in place.

    Args:
        cache: The cache before the step. It stays valid.
        needed: Most entries that a step needs of the ones before it, fewer than the capacity.
    """
    entries, length, head = cache.entries, cache.length, cache.head
    if is_fresh(cache):
        entries, head = tuple(torch.zeros(part.shape, dtype=part.dtype) for part in entries), length.clone()
    elif int(length.max()) == entries[0].shape[1]:
        entries, length = _restarted(Cache(tuple(part.detach() for part in entries), *cache[1:]), needed)
        head = length.clone()
    elif any(part.requires_grad for part in entries) or not torch.equal(length, head):
        entries, head = tuple(part.detach().clone() for part in entries), length.clone()
    written = head.numpy()  # torch refuses to change a tensor of its inference mode outside of it
    written += 1
    return Cache(entries, length + 1, head, cache.position + 1)


def kept(live: Tensor, new: Cache, old: Cache, needed: int) -> Cache:
    """The new cache in rows where `live` `[rows]` is True, and the old one in the others; `new` is not used afterwards.

    Args:
        live: Rows that go on.
        new: The cache after some steps from the old one.
        old: The cache before them.
        needed: Most entries that a step needs of the ones before it.
    """
    position = torch.where(live, new.position, old.position)
    if new.entries[0].data_ptr() == old.entries[0].data_ptr():  # written in place: take the entries back
        head = new.head.numpy()
        head[:] = torch.where(live, new.head, old.length).numpy()
        return Cache(new.entries, torch.where(live, new.length, old.length), new.head, position)
    entries, length = _restarted(old, needed)
    parts = zip(new.entries, entries, strict=True)
    chosen = tuple(torch.where(live.view(-1, 1, 1), n, o) for n, o in parts)
    length = torch.where(live, new.length, length)
    return Cache(chosen, length, length.clone(), position)


def _restarted(cache: Cache, needed: int) -> tuple[tuple[Tensor, ...], Tensor]:
    """A new buffer with the last `needed` entries of each row at its start, and their numbers."""
    length = cache.length.clamp(max=needed)
    first, capacity = cache.length - length, cache.entries[0].shape[1]
    return tuple(_moved(part, first, length, needed, capacity) for part in cache.entries), length


def _moved(part: Tensor, first: Tensor, length: Tensor, most: int, capacity: int) -> Tensor:
    """A buffer that starts with `length` entries of each row of `[rows, T, D]` from index `first`; zeros after them.

    Args:
        part: Entries of which some are taken.
        first: `[rows]`.
        length: `[rows]`, at most `most`.
        most: Bound of the length, known without reading a GPU's numbers.
        capacity: Entries that the buffer has room for.
    """
    numbers = torch.arange(most, device=first.device)
    taken = _at(part, first.unsqueeze(1) + numbers) * (numbers < length.unsqueeze(1)).unsqueeze(2).to(part.dtype)
    return pad(taken, (0, 0, 0, capacity - most))


def _at(part: Tensor, index: Tensor) -> Tensor:
    """The entries of `[rows, T, D]` at the indices `[rows, N]`, which are brought into the range of `T`."""
    index = index.clamp(0, part.shape[1] - 1).unsqueeze(2)
    return part.gather(1, index.expand(-1, -1, part.shape[2]))
