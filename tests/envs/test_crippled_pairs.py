"""The example of a wider held-out set: two dead actuators, one of which never died in training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import metarl
from metarl.tasks import split_name

ROOT = Path(__file__).resolve().parents[2]


def test_each_held_out_task_has_a_dead_actuator_that_training_does_not_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "docs" / "examples")
    family, cheetah = metarl.make_family("crippled_pairs:family"), metarl.make_family("half-cheetah-crippled")
    gears = np.array([task["actuator_gear"] for task in family.distribution.held_out()])
    assert len({tuple(row) for row in gears}) == len(gears) == 11
    trained = np.array([task["actuator_gear"] for task in family.distribution.train_tasks(10)])
    assert sorted(map(tuple, trained)) == sorted(t["actuator_gear"] for t in cheetah.distribution.train_tasks(10))
    never = trained.all(axis=0)
    assert never.sum() == 2
    assert ((gears == 0) & never).any(axis=1).all()
    assert set((gears == 0).sum(axis=1)) == {1, 2}
    assert split_name(family.distribution, "test") == "test"
    assert family.reward is cheetah.reward or family.reward == cheetah.reward
