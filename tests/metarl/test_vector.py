from __future__ import annotations

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, VectorEnv

from metarl.registry import make_family
from metarl.types import Task


@pytest.fixture
def envs():
    """Two tasks x two points; the goal of the first is one step away."""
    envs = make_family("point-robot").make_envs(2, 2, 3)
    envs.set_tasks([Task.of("point-robot", goal=(0.1, 0.0)), Task.of("point-robot", goal=(0.5, 0.5))])
    return envs


def test_it_is_a_gymnasium_vector_env_that_does_not_reset_on_its_own(envs) -> None:
    assert isinstance(envs, VectorEnv)
    assert envs.metadata["autoreset_mode"] is AutoresetMode.DISABLED
    observation, _ = envs.reset(seed=0)
    assert observation in envs.observation_space
    assert envs.num_envs == 4
    assert envs.spaces.horizon == 3


def test_a_finished_row_stays_as_it_is_and_earns_nothing(envs) -> None:
    envs.reset(seed=0)
    right = np.tile(np.array([0.1, 0.0], dtype=np.float32), (4, 1))
    _, rewards, terminated, truncated, infos = envs.step(right)
    assert terminated.tolist() == [True, True, False, False]
    assert infos["success"].tolist() == [True, True, False, False]
    assert not truncated.any()
    observation, rewards, terminated, truncated, infos = envs.step(right)
    assert np.allclose(observation[:2], [0.1, 0.0])
    assert np.allclose(observation[2:], [0.2, 0.0])
    assert rewards[:2].tolist() == [0.0, 0.0]
    assert not terminated.any(), "an episode ends once"
    _, _, terminated, truncated, _ = envs.step(right)
    assert truncated.tolist() == [False, False, True, True]
    _, rewards, *_ = envs.step(right)
    assert rewards.tolist() == [0.0] * 4


def test_a_mask_resets_some_rows_only(envs) -> None:
    envs.reset(seed=0)
    down = np.tile(np.array([0.0, -0.05], dtype=np.float32), (4, 1))
    envs.step(down)
    observation, _ = envs.reset(options={"reset_mask": np.array([True, False, False, True])})
    assert np.allclose(observation[:, 1], [0.0, -0.05, -0.05, 0.0])
    envs.step(down)
    _, _, _, truncated, _ = envs.step(down)
    assert truncated.tolist() == [False, True, True, False], "each row keeps its own clock"


def test_misuse_is_named(envs) -> None:
    with pytest.raises(RuntimeError, match="call set_tasks first"):
        make_family("point-robot").make_envs(1, 1, 3).reset(seed=0)
    with pytest.raises(ValueError, match="got 1 tasks, expected 2"):
        envs.set_tasks([Task.of("point-robot", goal=(0, 0))])
    envs.reset(seed=0)
    with pytest.raises(ValueError, match=r"shape \(4, 3\), expected \(4, 2\)"):
        envs.step(np.zeros((4, 3)))
    bad = np.zeros((4, 2))
    bad[3, 1] = np.nan
    with pytest.raises(ValueError, match=r"not finite in row 3 \(task 1\)"):
        envs.step(bad)
    bandits = make_family("bandit").make_envs(1, 2, 3)
    bandits.set_tasks(make_family("bandit").distribution.held_out(1))
    bandits.reset(seed=0)
    for wrong in (5, -1, 0.5, np.nan):
        with pytest.raises(ValueError, match=r"no choice below 5 in row 1 \(task 0\)"):
            bandits.step(np.array([0, wrong]))
    with pytest.raises(ValueError, match="reset_mask"):
        envs.reset(options={"reset_mask": np.ones(3, dtype=bool)})
    with pytest.raises(ValueError, match="got episodes = 0"):
        make_family("point-robot").make_envs(1, 0, 3)


def test_hidden_parameters_never_reach_an_observation(family_name: str) -> None:
    family = make_family(family_name)
    if not all(p.hidden for p in family.distribution.parameters):
        pytest.skip("part of the task is seen; what is not has a test of its own")
    envs = family.make_envs(2, 1, family.horizon)
    tasks = [*family.distribution.held_out(1), family.distribution.train_tasks(2)[-1]]
    actions = np.random.default_rng(0).uniform(-0.1, 0.1, (3, 1, envs.spaces.action_size)).astype(np.float32)
    if envs.spaces.choices:
        actions = np.zeros((3, 1), dtype=np.int64)
    if family_name == "tabular-mdp" or getattr(envs, "varies_dynamics", False):
        actions = actions[:0]  # where it goes next is how a task shows itself
    assert tasks[0] != tasks[1]
    seen = []
    for pair in (tasks, tasks[::-1]):  # the same rows under exchanged tasks see the same
        envs.set_tasks(pair)
        first, _ = envs.reset(seed=3)
        seen.append([first, *(envs.step(np.repeat(a, 2, axis=0))[0] for a in actions)])
    envs.close()
    assert np.array_equal(seen[0], seen[1])


def test_units_are_handed_on_have_to_be_as_many_as_features_and_do_not_make_spaces_differ() -> None:
    bare, named = (make_family("reacher-goal").make_envs(1, 1, 5) for _ in range(2))
    bare.observation_units = ()
    assert named.spaces.observation_units == ("1",) * 4 + ("rad/s",) * 2 + ("m",) * 2
    assert bare.spaces == named.spaces
    bare.observation_units = ("m",)
    with pytest.raises(ValueError, match="Reacher: got 1 observation_units, expected 8"):
        _ = bare.spaces
