"""Each class's observation, reward, success and infos against Meta-World's own; whole episodes: see test_parity."""

from __future__ import annotations

import numpy as np
import pytest

from metarl.envs.metaworld.classes import MANIPULATIONS
from metarl.scripts.reference.metaworld import Playing, record, started

EXACT = 1e-9
"""Tolerance: Meta-World sums squares and multiplies weights in another order."""
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
    assert_parity(name, goal=0, playing="noisy", steps=150)


@pytest.mark.parametrize("name", sorted(name for name, kind in MANIPULATIONS.items() if kind.settled_constants))
@pytest.mark.parametrize("goal", [0, 7, 23])
def test_what_the_first_step_sets_does_not_depend_on_its_action(name: str, goal: int) -> None:
    """It may therefore be read after any first step and used in all episodes with the goal."""
    actions = [np.zeros(4), *np.random.default_rng(goal).choice([-1.0, 1.0], (3, 4))]
    found = []
    for action in actions:
        env = started(name, goal)
        env.step(action)
        found.append([getattr(env, constant) for constant in MANIPULATIONS[name].settled_constants])
    np.testing.assert_allclose(found, np.repeat(found[:1], len(found), axis=0), rtol=0.0, atol=1e-15)
