"""Replay and contexts of many tasks, keyed by the task."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from metarl.learning.experience.replay import Transitions
from metarl.learning.experience.task_buffers import TaskBuffers
from metarl.memory import RunSize
from metarl.tasks import DiscreteTasks
from metarl.types import MetaBatch, Spaces, Task

CPU = torch.device("cpu")
LENGTHS = [[[5, 2], [1, 5]], [[4, 5], [5, 1]]]
"""Steps of the episodes, two collects of two tasks with two environments."""


@pytest.fixture
def batch(play, make_agent, spaces: Spaces) -> MetaBatch:
    """Episodes of two tasks; their actions carry the position of the task."""
    tasks = [Task.of("noise", number=i) for i in range(2)]
    every = []
    for t in play(make_agent(), LENGTHS, tasks=tasks):
        numbers = np.broadcast_to(np.arange(2, dtype=np.float32)[:, None, None, None], (2, 2, 5, 2))
        every.append(replace(t, extras={"policy_output": numbers}))
    return MetaBatch(tuple(tasks), tuple(every))


def test_what_is_drawn_is_of_the_slots_tasks_and_nothing_is_padding(batch: MetaBatch, spaces: Spaces) -> None:
    buffers = TaskBuffers(3, 50, 2, spaces, CPU)
    assert buffers.store(batch) == {"replay/tasks": 2.0, "replay/transitions": 28.0}
    for seed in range(20):
        slots, positions, context, weight = buffers.draw(2, 30, 4, np.random.default_rng(seed))
        assert sorted(slots) == [0, 1]
        for rows in (buffers.replay.gather(slots, positions), buffers.contexts.gather(context)):
            found = buffers.unpack(rows)
            assert torch.equal(found.actions, torch.tensor(slots).view(2, 1, 1).expand_as(found.actions).float())
            assert (found.observations != 0).any(dim=-1).all(), "padding is zero"
        assert (4 * weight).tolist() == [round(w) for w in (4 * weight).tolist()]


def test_equal_tasks_share_a_slot_and_a_new_one_gets_the_next(batch: MetaBatch, spaces: Spaces) -> None:
    buffers = TaskBuffers(3, 50, 2, spaces, CPU)
    buffers.store(batch)
    first, second = batch.tasks
    third = Task.of("noise", number=9)
    buffers.store(MetaBatch((third, Task.of("noise", number=0)), batch.collects))
    assert buffers.slots == {first: 0, second: 1, third: 2}
    steps = [sum(int(t.mask[m].sum()) for t in batch.collects) for m in range(2)]
    assert buffers.replay.sizes.tolist() == [steps[0] + steps[1], steps[1], steps[0]]
    assert buffers.contexts.trials[:3].tolist() == [2, 2, 2]


def test_one_task_too_many_is_refused_and_nothing_is_stored(batch: MetaBatch, spaces: Spaces) -> None:
    buffers = TaskBuffers(1, 50, 2, spaces, CPU)
    with pytest.raises(ValueError, match=r"^replay: got 2 training tasks, expected at most replay_tasks = 1; raise it"):
        buffers.store(batch)
    assert not buffers.slots
    assert not buffers.replay.sizes.any()


def test_saved_buffers_are_restored_with_their_tasks(batch: MetaBatch, spaces: Spaces) -> None:
    buffers, twin = (TaskBuffers(3, 50, 2, spaces, CPU) for _ in range(2))
    buffers.store(batch)
    tensors, counters = buffers.tensors(), buffers.counters()
    assert all(TaskBuffers.owns(name) for name in tensors)
    assert not TaskBuffers.owns("critics")
    twin.check(tensors, counters)
    twin.restore(tensors, counters)
    assert twin.slots == buffers.slots
    gathered = []
    for each in (buffers, twin):
        slots, positions, context, weight = each.draw(2, 5, 3, np.random.default_rng(0))
        rows = (each.replay.gather(slots, positions), each.contexts.gather(context))
        gathered.append((*rows, torch.tensor(slots), torch.tensor(weight)))
    assert all(torch.equal(one, other) for one, other in zip(*gathered, strict=True))
    with pytest.raises(ValueError, match="replay 'replay'"):
        twin.check(tensors, {"tasks": counters["tasks"][:1]})
    with pytest.raises(ValueError, match="contexts 'context'"):
        twin.check({**tensors, "context.trials": torch.tensor([9, 9])}, counters)


def test_a_training_that_will_meet_more_tasks_is_refused() -> None:
    distribution = DiscreteTasks("f", (), train=tuple(Task.of("f", i=i) for i in range(4)), withheld=())
    size = RunSize(tasks=2, episodes=1, iterations=100)
    TaskBuffers.check_distribution("a", 4, distribution, size)
    with pytest.raises(ValueError, match=r"^a: got more training tasks \(2 in each of 100 iterations\).*= 3; draw"):
        TaskBuffers.check_distribution("a", 3, distribution, size)


def test_memory_is_that_of_the_rows(spaces: Spaces) -> None:
    size = RunSize(tasks=3, episodes=2, iterations=10)
    row = TaskBuffers.row_bytes(spaces)
    assert row == 4 * Transitions.columns(3, 2).width == 4 * (2 * 3 + 2 + 2)
    replay, contexts = TaskBuffers.memory_needed(7, 100, 2, spaces, size)
    assert replay.num_bytes == 3 * min(7 * 100, 10 * 3 * 2 * 2 * 5) * row, "the array, its copy, and the file"
    assert replay.reserved == 700 * row
    assert contexts.num_bytes == 3 * 2 * 2 * 5 * row
    on_gpu, _ = TaskBuffers.memory_needed(7, 100, 2, spaces, replace(size, gpu=True))
    assert (on_gpu.num_bytes, on_gpu.reserved) == (0, 0)
