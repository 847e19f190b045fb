from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from metarl.learning.device import chunks as memory
from metarl.learning.experience import replay as replay_module
from metarl.learning.experience.replay import TaskReplay, Transitions, TrialContexts, transition_rows, trials_of_rings
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
    slots = np.array([2, 0])
    rows = replay.gather(slots, replay.draw(slots, 5000, np.random.default_rng(0)))[..., 0].numpy()
    for row, values in zip(rows, ([11, 12, 13, 14, 15], [1, 2, 3]), strict=True):
        found, counts = np.unique(row, return_counts=True)
        assert found.tolist() == values
        assert np.allclose(counts / 5000, 1 / len(values), atol=0.03)


def test_an_empty_slot_is_refused() -> None:
    replay = TaskReplay(2, 4, 2, CPU)
    replay.add(np.array([1]), numbered(2))
    with pytest.raises(ValueError, match="expected at least 1"):
        replay.draw(np.array([1, 0]), 3, np.random.default_rng(0))
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
    drawn = [one.gather(slots, one.draw(slots, 50, np.random.default_rng(3))) for one in (replay, twin)]
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
    assert rows.shape == (1, 2, 5, Transitions.columns(3, 2).width)
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


# Contexts -------------------------------------------------------------------------------------------------


def collection(lengths: list[list[list[int]]], start: int = 0, steps: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Rows that carry `1000 m + 100 e + 10 j + t + start`, padded ones -1, and which are no padding; `[m, e, j]`."""
    mask = np.arange(steps) < np.array(lengths)[..., None]
    m, e, j, t = np.indices(mask.shape)
    number = np.where(mask, 1000 * m + 100 * e + 10 * j + t + start, -1)
    return np.stack([number, -number], axis=-1).astype(np.float32), mask


def drawn_numbers(contexts: TrialContexts, slots: list[int], batch: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    chosen, weight = contexts.draw(np.array(slots), batch, np.random.default_rng(seed))
    rows = contexts.gather(chosen)
    assert torch.equal(rows[..., 0], -rows[..., 1])
    return rows[..., 0].numpy(), weight


def test_a_context_is_the_first_episodes_of_one_trial_and_weighs_as_many_rows() -> None:
    lengths = [[[2, 2, 2], [3, 1, 2]], [[1, 1, 1], [4, 2, 6]]]
    rows_of_all, mask = collection(lengths, steps=6)
    contexts = TrialContexts(3, 2, CPU)
    contexts.store(np.array([1, 0]), rows_of_all, mask)
    expected = {  # of each slot, the contexts there are
        slot: [
            [1000 * m + 100 * e + 10 * k + t for k in range(j + 1) for t in range(lengths[m][e][k])]
            for e in range(2)
            for j in range(3)
        ]
        for slot, m in ((1, 0), (0, 1))
    }
    met: dict[int, list[str]] = {0: [], 1: []}
    for seed in range(600):
        rows, weight = drawn_numbers(contexts, [0, 1], 12, seed)
        for slot in (0, 1):
            found = sorted({int(v) for v in rows[slot]})
            assert found in expected[slot], "all of its rows, for 12 is a multiple of their number"
            assert weight[slot] == np.float32(len(found) / 12)
            met[slot].append(str(found))
    for slot in (0, 1):
        _, counts = np.unique(met[slot], return_counts=True)
        assert len(counts) == 6
        assert np.allclose(counts / 600, 1 / 6, atol=0.06), "trial and number of episodes are uniform"


def test_rows_of_a_context_are_equally_likely_and_each_drawn_once_where_as_many_are_drawn() -> None:
    contexts = TrialContexts(1, 2, CPU)
    contexts.store(np.array([0]), *collection([[[7]]], steps=9))
    rows, weight = drawn_numbers(contexts, [0], 7, 0)
    assert rows[0].tolist() == list(range(7))
    assert weight.tolist() == [1.0]
    rows, weight = drawn_numbers(contexts, [0] * 20_000, 3, 1)
    assert np.allclose(np.bincount(rows.astype(int).ravel()) / 60_000, 1 / 7, atol=0.01)
    assert weight[0] == np.float32(7 / 3)
    rows, _ = drawn_numbers(contexts, [0], 21, 2)
    assert np.bincount(rows[0].astype(int)).tolist() == [3] * 7


def test_a_task_that_stands_twice_keeps_its_trials_apart_and_a_new_collection_replaces_the_old() -> None:
    full = lambda m: [[[2, 2]] * 2] * m  # noqa: E731
    contexts = TrialContexts(2, 2, CPU)
    contexts.store(np.array([2, 0, 2]), *collection(full(3)))
    assert contexts.trials[:3].tolist() == [2, 0, 4]
    seen = {frozenset(drawn_numbers(contexts, [2], 4, seed)[0][0] // 100) for seed in range(200)}
    assert seen == {frozenset({float(trial)}) for trial in (0, 1, 20, 21)}, "never rows of two trials in one context"
    contexts.store(np.array([2, 5]), *collection(full(2), start=5000))
    assert contexts.trials[:6].tolist() == [2, 0, 2, 0, 0, 2]
    seen = {frozenset(drawn_numbers(contexts, [2], 4, seed)[0][0] // 100) for seed in range(200)}
    assert seen == {frozenset({50.0}), frozenset({51.0})}
    assert drawn_numbers(contexts, [0], 4, 0)[0].min() >= 1000, "another task keeps its own, in a larger room too"
    assert drawn_numbers(contexts, [0], 4, 0)[0].max() < 2000


def test_contexts_that_a_gpu_has_no_memory_for_lie_in_the_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda device: 0.0)
    sent = []
    monkeypatch.setattr(replay_module, "send", lambda a, device: sent.append(device.type) or torch.tensor(a))
    contexts = TrialContexts(1, 2, torch.device("cuda"))
    contexts.store(np.array([0]), *collection([[[3]]]))
    assert drawn_numbers(contexts, [0], 3, 0)[0].tolist() == [[0, 1, 2]]
    assert sent[-2:] == ["cpu", "cuda"]


def test_restored_contexts_go_on_bit_for_bit() -> None:
    contexts, twin = TrialContexts(2, 2, CPU), TrialContexts(2, 2, CPU)
    twin.store(np.array([6]), *collection([[[5, 6]] * 3], steps=6))  # what it held before is forgotten
    contexts.store(np.array([1, 1, 0]), *collection([[[2, 3]]] * 3))
    saved = contexts.tensors("c", 2)
    assert saved["c.rows"].shape == (2, 2, 5, 2), "without room that nothing lies in"
    twin.check("c", saved, 2)
    twin.restore("c", saved)
    assert twin.trials.sum() == 3
    for one in (contexts, twin):
        one.store(np.array([2]), *collection([[[1, 4]]], start=7000))
    drawn = [drawn_numbers(one, [0, 1, 2] * 20, 4, 3) for one in (contexts, twin)]
    assert np.array_equal(drawn[0][0], drawn[1][0])
    assert np.array_equal(drawn[0][1], drawn[1][1])
    for name, tensor in (("rows", torch.zeros(2, 2, 5)), ("ends", saved["c.ends"] + 1), ("trials", torch.zeros(3))):
        with pytest.raises(ValueError, match="contexts 'c': got rows, trials and ends of shapes"):
            twin.check("c", {**saved, f"c.{name}": tensor}, 2)
    with pytest.raises(ValueError, match="expected 2 slots, trials of 2 episodes"):
        twin.check("c", {}, 2)


def test_contexts_of_ring_buffers_can_be_restored() -> None:
    """As checkpoints have them from before episodes were kept apart: two trials of each of two tasks."""
    rings = TaskReplay(6, 4, 2, CPU)
    rings.add(np.array([0, 0, 1, 2, 3, 3, 3]), numbered(1, 2, 11, 21, 31, 32, 33))
    contexts = TrialContexts(3, 2, CPU)
    tensors = trials_of_rings(rings.tensors("c", 4), "c", 2, 3)
    contexts.check("c", tensors, 2)
    contexts.restore("c", tensors)
    seen = {tuple(sorted(set(drawn_numbers(contexts, [1], 3, seed)[0][0]))) for seed in range(60)}
    assert seen == {(21.0,), (31.0, 32.0, 33.0)}
