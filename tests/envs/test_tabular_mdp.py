from __future__ import annotations

import numpy as np
import pytest

from metarl.registry import make_family
from metarl.scripts.reference.environments import TabularMdpEnv
from metarl.types import Task


def test_tasks_are_drawn_from_normal_rewards_and_a_flat_dirichlet() -> None:
    tasks = make_family("tabular-mdp").distribution.sample(40, np.random.default_rng(0))
    rewards = np.array([t["rewards"] for t in tasks])
    assert rewards.shape == (40, 50)
    assert rewards.mean() == pytest.approx(1.0, abs=0.1)
    assert rewards.std() == pytest.approx(1.0, abs=0.1)
    transitions = np.array([t["transitions"] for t in tasks]).reshape(40, 10, 5, 10)
    assert np.allclose(transitions.sum(axis=-1), 1.0)
    # Flat Dirichlet over n: mean 1/n, variance (n - 1) / (n^2 (n + 1)).
    assert transitions.mean() == pytest.approx(0.1)
    assert transitions.var() == pytest.approx(9 / 1100, rel=0.05)


def test_a_hand_made_process_goes_where_it_should_and_pays_its_mean() -> None:
    """Two states, two actions: action 0 stays, action 1 switches; staying in state 1 pays 3, all else 0."""
    task = Task.of("tabular-mdp", rewards=(0, 0, 3, 0), transitions=(1, 0, 0, 1, 0, 1, 1, 0))
    family = make_family("tabular-mdp:states=2,actions=2")
    envs, single = family.make_envs(1, 500, 3), TabularMdpEnv(task)
    envs.set_tasks([task])
    first, _ = envs.reset(seed=0)
    single.reset(seed=0)
    assert np.array_equal(first, [[1.0, 0.0]] * 500)
    for action, state, reward in ((1, 1, 0.0), (0, 1, 3.0), (1, 0, 0.0)):
        observation, rewards, _, truncated, _ = envs.step(np.full(500, action))
        assert np.array_equal(observation, np.eye(2)[[state] * 500])
        assert rewards.mean() == pytest.approx(reward, abs=0.15)
        assert rewards.std() == pytest.approx(1.0, abs=0.1)
        assert np.array_equal(single.step(action)[0], np.eye(2)[state])
    assert truncated.all()


def test_next_states_follow_their_probabilities() -> None:
    family = make_family("tabular-mdp")
    (task,) = family.distribution.held_out(1)
    envs = family.make_envs(1, 20_000, 1)
    envs.set_tasks([task])
    envs.reset(seed=0)
    observation, *_ = envs.step(np.full(20_000, 2))
    expected = np.array(task["transitions"]).reshape(10, 5, 10)[0, 2]
    assert np.allclose(observation.mean(axis=0), expected, atol=0.015)
