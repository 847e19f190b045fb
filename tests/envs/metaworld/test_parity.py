"""The batch against Meta-World's own environments, from the same task with the same actions."""

from __future__ import annotations

import numpy as np
import pytest

from metarl.envs.metaworld.classes import MANIPULATIONS
from metarl.scripts.reference.metaworld_parity import Parity, Schedule, class_parity, played

EXACT = 1e-9
"""Tolerance: sums of squares are computed in another order; the physics is equal bit for bit."""


def assert_equal(result: Parity) -> None:
    assert result.first_equal
    assert max(result.observation, result.reward, result.infos) < EXACT
    assert np.array_equal(result.success[0], result.success[1])


@pytest.mark.usefixtures("few_goals")
def test_a_batch_of_several_classes_equals_meta_world() -> None:
    goals = [("reach-v3", 0), ("bin-picking-v3", 1), ("door-open-v3", 3), ("reach-v3", 4)]
    assert_equal(played("noisy", goals, steps=60))


def assert_class_equal(name: str, schedule: Schedule) -> None:
    results = class_parity(name, schedule)
    for result in results:
        assert_equal(result)
    success = np.concatenate([result.success[0] for result in results])
    assert success.any()
    assert not success.all(), "both sides of the reward were met"


@pytest.mark.slow
@pytest.mark.usefixtures("few_goals")
@pytest.mark.parametrize("name", sorted(MANIPULATIONS))
def test_every_class_equals_meta_world_in_an_episode_of_each_kind(name: str) -> None:
    assert_class_equal(name, (("scripted", (0,)), ("noisy", (3,))))


@pytest.mark.bench_check
@pytest.mark.parametrize("name", sorted(MANIPULATIONS))
def test_every_class_equals_meta_world_in_whole_episodes(name: str) -> None:
    """With ten goals by the scripted policy: `python -m metarl.scripts.reference.metaworld_parity`."""
    assert_class_equal(name, (("scripted", (0, 1, 2)), ("noisy", (10, 25)), ("random", (11, 26))))
