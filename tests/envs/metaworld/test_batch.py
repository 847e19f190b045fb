"""The batch against Meta-World's own environments, and its grouping, partial resets and shared models."""

from __future__ import annotations

import numpy as np

from metarl.envs.metaworld.families import ml1
from metarl.tasks import Family
from metarl.types import Task


def tasks_of(family: Family, *goals: int) -> list[Task]:
    return [next(t for t in family.distribution.train_tasks(10_000) if t["goal"][0] == goal) for goal in goals]


def test_a_reset_starts_the_same_episode_again_whatever_was_played_in_between() -> None:
    family = ml1("reach-v3")
    envs = family.make_envs(2, 2, 10)
    first, second = tasks_of(family, 3, 8)
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1.0, 1.0, (10, 4, 4)).astype(np.float32)

    def play(tasks: list[Task]) -> np.ndarray:
        envs.set_tasks(tasks)
        start, _ = envs.reset(seed=0)
        return np.stack([start, *(np.concatenate([o, r[:, None]], 1)[:, :39] for o, r in _steps(envs, actions))])

    once = play([first, second])
    other = play([second, first])
    assert not np.array_equal(once, other)
    assert np.array_equal(play([first, second]), once)
    envs.close()


def _steps(envs, actions):
    for action in actions:
        observation, reward, *_ = envs.step(action)
        yield observation, reward


def test_some_rows_are_reset_alone() -> None:
    family = ml1("reach-v3")
    envs = family.make_envs(2, 2, 50)
    envs.set_tasks(tasks_of(family, 0, 1))
    start, _ = envs.reset(seed=0)
    for _ in range(5):
        moved, *_ = envs.step(np.ones((4, 4), dtype=np.float32))
    mask = np.array([False, True, False, True])
    mixed, _ = envs.reset(options={"reset_mask": mask})
    assert np.array_equal(mixed[mask], start[mask])
    assert np.array_equal(mixed[~mask], moved[~mask])
    envs.close()


def test_rows_end_one_by_one_and_stand_still_together_afterwards() -> None:
    """Rows that were reset later continue alone, unaffected by the others; at last no row is live."""
    family = ml1("reach-v3")
    envs = family.make_envs(2, 2, 6)
    envs.set_tasks(tasks_of(family, 0, 1))
    actions = np.random.default_rng(0).uniform(-1.0, 1.0, (6, 4, 4)).astype(np.float32)

    def play(late: list[bool]) -> np.ndarray:
        envs.reset(seed=0)
        for action in actions[:3]:
            envs.step(action)
        envs.reset(options={"reset_mask": np.array(late)})
        seen = []
        for step in range(6):
            observation, reward, *_ = envs.step(actions[step])
            seen.append(np.concatenate([observation, reward[:, None]], axis=1))
        return np.stack(seen)

    everyone, some = play([True] * 4), play([False, True, True, False])
    assert np.array_equal(some[:, 1:3], everyone[:, 1:3]), "alone from the fourth step on"
    assert (some[3:, [0, 3], -1] == 0.0).all()
    observation, reward, terminated, truncated, infos = envs.step(actions[0])
    assert np.array_equal(observation, some[-1, :, :-1])
    assert not reward.any()
    assert not (terminated | truncated).any()
    assert not infos["success"].any()
    still, _ = envs.reset(options={"reset_mask": np.zeros(4, dtype=bool)})
    assert np.array_equal(still, observation)
    envs.close()


def test_the_goal_does_not_show() -> None:
    """Two goals of reach with the same initial positions differ only in the hidden target."""
    family = ml1("reach-v3")
    envs = family.make_envs(2, 1, 5)
    envs.set_tasks(tasks_of(family, 0, 1))
    observations, _ = envs.reset(seed=0)
    assert (observations[:, 36:] == 0).all()
    observations, rewards, *_ = envs.step(np.zeros((2, 4), dtype=np.float32))
    assert (observations[:, 36:] == 0).all()
    assert np.array_equal(observations[0, :4], observations[1, :4]), "the hand tells nothing of the target"
    assert rewards[0] != rewards[1]
    envs.close()
