from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from metarl.learning import memory
from metarl.learning import replay as replay_module
from metarl.learning.replay import TaskReplay, Transitions, transition_rows
from metarl.rollout import TrajectoryBuilder
from metarl.types import Action, Spaces

CPU = torch.device("cpu")


def numbered(*values: float) -> np.ndarray:
    """Rows of width 2 that carry a number and its negative."""
    return np.array([[v, -v] for v in values], dtype=np.float32)


def content(replay: TaskReplay, slot: int) -> list[float]:
    """The numbers a slot holds, sorted."""
    rows = replay.gather(np.array([slot]), np.arange(replay.sizes[slot])[None])
    assert torch.equal(rows[..., 0], -rows[..., 1])
    return sorted(rows[0, :, 0].tolist())


def test_a_full_ring_overwrites_its_oldest_rows() -> None:
    replay = TaskReplay(2, 4, 2, CPU)
    replay.add(np.array([1, 1, 1]), numbered(1, 2, 3))
    assert content(replay, 1) == [1, 2, 3]
    replay.add(np.array([1, 1, 1]), numbered(4, 5, 6))
    assert content(replay, 1) == [3, 4, 5, 6]
    replay.add(np.array([1]), numbered(7))
    assert content(replay, 1) == [4, 5, 6, 7]
    assert content(replay, 0) == []


def test_rows_that_a_gpu_has_no_memory_for_lie_in_the_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda device: 0.0)
    sent = []
    monkeypatch.setattr(replay_module, "send", lambda a, device: sent.append(device.type) or torch.tensor(a))
    replay = TaskReplay(2, 4, 2, torch.device("cuda"))
    replay.add(np.array([1, 1, 1]), numbered(1, 2, 3))
    assert content(replay, 1) == [1, 2, 3]
    assert sent[-2:] == ["cpu", "cuda"], "to the rows which ones, then those to where they are wanted"


def test_of_more_rows_than_fit_the_last_stay() -> None:
    replay = TaskReplay(1, 4, 2, CPU)
    replay.add(np.zeros(3, dtype=np.int64), numbered(1, 2, 3))
    replay.add(np.zeros(9, dtype=np.int64), numbered(*range(10, 19)))
    assert content(replay, 0) == [15, 16, 17, 18]
    replay.add(np.zeros(1, dtype=np.int64), numbered(20))
    assert content(replay, 0) == [16, 17, 18, 20]


def test_adding_interleaved_slots_equals_a_list_per_slot() -> None:
    rng = np.random.default_rng(0)
    replay, lists = TaskReplay(5, 7, 2, CPU), [[] for _ in range(5)]
    for start in range(0, 200, 10):
        slots = rng.integers(5, size=10)
        replay.add(slots, numbered(*range(start, start + 10)))
        for slot, value in zip(slots, range(start, start + 10), strict=True):
            lists[slot].append(float(value))
    for slot in range(5):
        assert content(replay, slot) == lists[slot][-7:]


def test_a_gather_equals_a_loop() -> None:
    rng = np.random.default_rng(0)
    replay = TaskReplay(4, 6, 3, CPU)
    slots = rng.integers(4, size=30)
    replay.add(slots, rng.standard_normal((30, 3)).astype(np.float32))
    chosen, positions = np.array([2, 0, 3]), rng.integers(6, size=(3, 8))
    got = replay.gather(chosen, positions)
    for i, slot in enumerate(chosen):
        for j, position in enumerate(positions[i]):
            assert torch.equal(got[i, j], replay._rows[slot, position])


def test_samples_cover_each_slot_uniformly_and_nothing_else() -> None:
    replay = TaskReplay(3, 10, 2, CPU)
    replay.add(np.array([0, 0, 0, 2, 2, 2, 2, 2]), numbered(1, 2, 3, 11, 12, 13, 14, 15))
    rows = replay.sample(np.array([2, 0]), 5000, np.random.default_rng(0))[..., 0].numpy()
    for row, values in zip(rows, ([11, 12, 13, 14, 15], [1, 2, 3]), strict=True):
        found, counts = np.unique(row, return_counts=True)
        assert found.tolist() == values
        assert np.allclose(counts / 5000, 1 / len(values), atol=0.03)


def test_a_cleared_slot_is_empty_and_an_empty_one_is_refused() -> None:
    replay = TaskReplay(2, 4, 2, CPU)
    replay.add(np.array([0, 1]), numbered(1, 2))
    replay.clear(np.array([0]))
    assert replay.sizes.tolist() == [0, 1]
    with pytest.raises(ValueError, match="expected at least 1"):
        replay.sample(np.array([1, 0]), 3, np.random.default_rng(0))
    replay.add(np.array([0]), numbered(5))
    assert content(replay, 0) == [5]


def test_a_restored_replay_goes_on_bit_for_bit() -> None:
    replay, twin = TaskReplay(4, 5, 2, CPU), TaskReplay(4, 5, 2, CPU)
    twin.add(np.array([3, 3]), numbered(8, 9))  # what it held before is forgotten
    replay.add(np.array([0] * 7 + [1] * 2), numbered(*range(1, 10)))
    saved = replay.tensors("r", 2)
    assert saved["r.rows"].shape == (2, 5, 2)
    twin.check("r", saved, 2)
    twin.restore("r", saved)
    assert twin.sizes.tolist() == [5, 2, 0, 0]
    for one in (replay, twin):
        one.add(np.array([0, 1]), numbered(20, 21))
    slots = np.array([0, 1])
    drawn = [one.sample(slots, 50, np.random.default_rng(3)) for one in (replay, twin)]
    assert torch.equal(*drawn)
    assert content(twin, 0) == content(replay, 0)
    assert saved["r.rows"][0, 2, 0] != 20, "what was saved is a copy"


def test_an_empty_replay_can_be_saved_and_restored() -> None:
    replay = TaskReplay(4, 5, 2, CPU)
    saved = replay.tensors("r", 0)
    replay.check("r", saved, 0)
    replay.restore("r", saved)
    assert not replay.sizes.any()


@pytest.mark.parametrize("fault", ["missing", "width", "slots", "capacity", "next", "negative"])
def test_a_replay_that_does_not_fit_is_refused(fault: str) -> None:
    replay = TaskReplay(4, 6, 2, CPU)
    replay.add(np.array([0] * 6 + [1]), numbered(*range(7)))
    saved, used, other = replay.tensors("r", 2), 2, TaskReplay(4, 6, 2, CPU)
    if fault == "missing":
        del saved["r.rows"]
    elif fault == "width":
        other = TaskReplay(4, 6, 3, CPU)
    elif fault == "slots":
        used = 3
    elif fault == "capacity":
        other = TaskReplay(4, 5, 2, CPU)
    elif fault == "next":
        saved["r.next"][0] = 6
    else:
        saved["r.sizes"][1] = -1
    with pytest.raises(ValueError, match="replay 'r'"):
        other.check("r", saved, used)


def test_rows_carry_the_step_and_tell_a_termination_from_the_time_limit(spaces: Spaces) -> None:
    builder = TrajectoryBuilder(1, 2, spaces, np.zeros((2, 3)))
    for t in range(5):
        action = np.full((1, 2, 2), 0.1 * t, dtype=np.float32)
        builder.add(Action(action), np.full((2, 3), t + 1.0), [1.0 + t, 2.0], [t == 1, False], t == 4)
    trajectories = builder.build()
    rows = transition_rows(trajectories, 10 * trajectories.actions)
    assert rows.shape == (1, 2, 5, Transitions.width(3, 2))
    assert rows.dtype == np.float32
    assert trajectories.mask[0].sum(axis=1).tolist() == [2, 5]
    got = Transitions.unpack(torch.tensor(rows), 3, 2)
    assert torch.equal(got.observations, torch.tensor(trajectories.observations))
    assert torch.equal(got.next_observations, torch.tensor(trajectories.next_observations))
    assert torch.equal(got.actions, torch.tensor(10 * trajectories.actions))
    assert got.rewards[0, 0].tolist() == [1, 2, 0, 0, 0]
    assert got.terminated[0].tolist() == [[0, 1, 0, 0, 0], [0, 0, 0, 0, 0]]
    assert trajectories.truncated[0, 1, 4]
    flipped = replace(trajectories, truncated=~trajectories.truncated)
    assert np.array_equal(transition_rows(flipped, 10 * trajectories.actions), rows)
