"""Each class's observation, reward, success and infos against Meta-World's own, over whole episodes."""

from __future__ import annotations

import numpy as np
import pytest

from metarl.envs.metaworld.classes import MANIPULATIONS
from metarl.scripts.reference.metaworld import Playing, record

EXACT = 1e-9
"""Meta-World adds and multiplies in another order here and there: sums of squares, products of weights."""
INFOS = ("success", "near_object", "grasp_success", "grasp_reward", "in_place_reward", "obj_to_target")


def assert_parity(name: str, goal: int, playing: Playing, steps: int = 500) -> None:
    kind = MANIPULATIONS[name]
    recording = record(kind, goal, playing, steps, seed=goal)
    objects = kind.objects(recording.scene.sensed)
    padded = np.zeros((steps, 14))
    padded[:, : objects.shape[1]] = objects
    assert np.array_equal(padded, recording.objects), "the objects of the observation, bit for bit"
    verdict = kind.judge(recording.scene)
    for term, ours in [("reward", verdict.reward), *((term, getattr(verdict, term)) for term in INFOS)]:
        theirs = recording.rewards if term == "reward" else recording.infos[term]
        assert np.shape(ours) == (steps,), term
        np.testing.assert_allclose(np.asarray(ours, dtype=np.float64), theirs, rtol=EXACT, atol=EXACT, err_msg=term)


@pytest.mark.parametrize("name", sorted(MANIPULATIONS))
def test_a_judge_equals_meta_world(name: str) -> None:
    assert_parity(name, goal=0, playing="scripted", steps=200)
    assert_parity(name, goal=1, playing="random", steps=100)


@pytest.mark.slow
@pytest.mark.parametrize("playing", ["scripted", "noisy", "random"])
@pytest.mark.parametrize("name", sorted(MANIPULATIONS))
def test_a_judge_equals_meta_world_in_whole_episodes(name: str, playing: Playing) -> None:
    for goal in (0, 7, 23):
        assert_parity(name, goal, playing)
