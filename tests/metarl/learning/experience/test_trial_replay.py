from __future__ import annotations

import numpy as np
import pytest
import torch

from metarl.learning.experience.columns import Columns
from metarl.learning.experience.trial_replay import TrialReplay

COLUMNS = Columns(number=0, step=0)


def trials(first: int, lengths: list[int]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Trials whose columns are their number and the step, with junk on the padding."""
    mask = np.arange(max(lengths)) < np.array(lengths)[:, None]
    rows = np.stack(np.broadcast_arrays(first + np.arange(len(lengths))[:, None], np.arange(max(lengths))), axis=-1)
    rows = np.where(mask[..., None], rows, 99.0)
    return {"number": rows[..., 0], "step": rows[..., 1]}, mask


def content(replay: TrialReplay) -> dict[int, int]:
    """The number of each trial, and its length."""
    columns, mask = replay.sample(100, np.random.default_rng(0))
    rows = np.stack([columns["number"], columns["step"]], axis=-1)
    assert not rows[~mask].any()
    for row, happened in zip(rows, mask, strict=True):
        assert np.array_equal(row[happened, 1], np.arange(happened.sum()))
        assert len(set(row[happened, 0])) == 1
    return {int(row[0, 0]): int(happened.sum()) for row, happened in zip(rows, mask, strict=True)}


def test_the_buffer_keeps_the_newest_trials_and_no_padding() -> None:
    replay = TrialReplay(4, 6, COLUMNS)
    with pytest.raises(ValueError, match="empty buffer"):
        replay.sample(1, np.random.default_rng(0))
    replay.add(*trials(0, [6, 3, 1]))
    assert content(replay) == {0: 6, 1: 3, 2: 1}
    replay.add(*trials(3, [2, 2]))
    assert content(replay) == {1: 3, 2: 1, 3: 2, 4: 2}
    replay.add(*trials(5, [1, 2, 3, 4, 5]))
    assert content(replay) == {6: 2, 7: 3, 8: 4, 9: 5}
    assert replay.size == 4
    with pytest.raises(ValueError, match="7 steps, expected at most 6"):
        replay.add(*trials(0, [7]))


def test_a_sample_is_of_different_trials_and_as_long_as_the_longest() -> None:
    replay = TrialReplay(5, 6, COLUMNS)
    replay.add(*trials(0, [2, 3, 2, 1, 3]))
    rng, seen = np.random.default_rng(0), set()
    for _ in range(50):
        columns, mask = replay.sample(2, rng)
        assert columns["number"].shape == mask.shape == (2, mask.sum(axis=1).max())
        numbers = frozenset(int(n) for n in columns["number"][:, 0])
        assert len(numbers) == 2
        seen.add(numbers)
    assert len(seen) == 10, "every pair"


def test_a_restored_buffer_goes_on_as_the_saved_one() -> None:
    one, other = TrialReplay(4, 6, COLUMNS), TrialReplay(4, 6, COLUMNS)
    other.add(*trials(50, [6, 6, 6, 6]))
    for batch in ([], [3, 1, 2], [4, 2]):
        if batch:
            one.add(*trials(sum(batch), batch))
        saved = one.tensors("b")
        other.check("b", saved)
        other.restore("b", saved)
        for name, tensor in saved.items():
            assert torch.equal(tensor, other.tensors("b")[name])
    assert saved["b.rows"].shape == (4, 4, 2)
    for replay in (one, other):
        replay.add(*trials(7, [5]))
    assert content(one) == content(other)


@pytest.mark.parametrize(
    "change",
    [
        {"b.next": torch.tensor([4])},
        {"b.next": None},
        {"b.lengths": torch.tensor([3, -1])},
        {"b.lengths": torch.tensor([7, 1])},
        {"b.rows": torch.zeros(2, 3, 5)},
        {"b.rows": torch.zeros(5, 3, 2), "b.lengths": torch.tensor([3] * 5)},
        {"b.rows": torch.zeros(2, 7, 2), "b.lengths": torch.tensor([7, 1])},
    ],
)
def test_a_buffer_that_does_not_fit_is_refused(change: dict[str, torch.Tensor | None]) -> None:
    replay = TrialReplay(4, 6, COLUMNS)
    replay.add(*trials(0, [3, 1]))
    tensors = {name: t for name, t in (replay.tensors("b") | change).items() if t is not None}
    with pytest.raises(ValueError, match="at most 4 trials of at most 6 steps with 2 numbers"):
        replay.check("b", tensors)


def test_windows_are_successive_steps_of_one_trial_and_each_is_equally_likely() -> None:
    replay = TrialReplay(6, 6, COLUMNS)
    with pytest.raises(ValueError, match="got 1 steps, expected at most 0, the longest trial"):
        replay.windows(1, 1, np.random.default_rng(0))
    replay.add(*trials(0, [2, 5, 3, 4]))
    assert replay.longest == 5
    drawn = replay.windows(6000, 3, np.random.default_rng(0))
    numbers, steps = drawn["number"], drawn["step"]
    assert numbers.shape == steps.shape == (6000, 3)
    assert (numbers == numbers[:, :1]).all()
    assert (steps == steps[:, :1] + np.arange(3)).all()
    windows, counts = np.unique(np.stack([numbers[:, 0], steps[:, 0]], axis=1), axis=0, return_counts=True)
    assert windows.tolist() == [[1, 0], [1, 1], [1, 2], [2, 0], [3, 0], [3, 1]]
    assert (abs(counts - 1000) < 120).all()
    with pytest.raises(ValueError, match="got 6 steps, expected at most 5"):
        replay.windows(1, 6, np.random.default_rng(0))
