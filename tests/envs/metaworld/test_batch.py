"""The batch against Meta-World's own environments, and what only the batch has: grouping, resets, sharing of models."""

from __future__ import annotations

import numpy as np
import pytest

from metarl.envs.metaworld.classes import MANIPULATIONS
from metarl.envs.metaworld.families import ml, ml1
from metarl.scripts.reference.metaworld import Player, Playing, started
from metarl.tasks import Family
from metarl.types import Task

EXACT = 1e-9
"""Sums of squares are added up in another order here and there; the physics itself is equal bit for bit."""


def tasks_of(family: Family, *goals: int) -> list[Task]:
    return [next(t for t in family.distribution.train_tasks(10_000) if t["goal"][0] == goal) for goal in goals]


def assert_equal_play(family: Family, tasks: list[Task], names: list[str], playing: Playing, steps: int) -> None:
    """Plays the same actions in the batch (two rows a task) and in as many environments of Meta-World's."""
    envs = family.make_envs(len(tasks), 2, steps)
    envs.set_tasks(tasks)
    theirs = [started(name, int(task["goal"][0])) for name, task in zip(names, tasks, strict=True) for _ in range(2)]
    players = [Player(names[row // 2], playing, seed=row) for row in range(len(theirs))]
    observations, _ = envs.reset(seed=0)
    for row, env in enumerate(theirs):
        first, _ = env.reset()
        assert np.array_equal(observations[row], first), f"the first observation of {names[row // 2]}"
    for step in range(steps):
        actions = np.stack([p.action(e, o) for p, e, o in zip(players, theirs, observations, strict=True)])
        actions = actions.astype(np.float32)
        observations, rewards, _, truncated, infos = envs.step(actions)
        for row, env in enumerate(theirs):
            expected, reward, _, _, info = env.step(actions[row].astype(np.float64))
            where = f"step {step} of {names[row // 2]}"
            np.testing.assert_allclose(observations[row], expected, rtol=EXACT, atol=EXACT, err_msg=where)
            assert rewards[row] == pytest.approx(float(reward), rel=EXACT, abs=EXACT), where
            assert infos["success"][row] == bool(info["success"]), where
    assert truncated.all()
    envs.close()


@pytest.mark.usefixtures("few_goals")
def test_a_batch_of_several_classes_equals_meta_worlds_environments() -> None:
    names = ["reach-v3", "bin-picking-v3", "door-open-v3", "pick-place-v3"]
    family = ml(f"{','.join(names)}/reach-v3")
    numbers = [sorted(MANIPULATIONS).index(name) for name in names]
    train = family.distribution.train_tasks(20)
    tasks = [next(t for t in train if t["class"][0] == n and t["goal"][0] == i) for i, n in enumerate(numbers)]
    assert_equal_play(family, tasks, names, "noisy", steps=60)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(MANIPULATIONS))
def test_every_class_equals_meta_worlds_environment_in_whole_episodes(name: str) -> None:
    family = ml1(name)
    for playing, goals in (("scripted", (0, 1)), ("noisy", (2, 3)), ("random", (4, 5))):
        assert_equal_play(family, tasks_of(family, *goals), [name, name], playing, steps=500)


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
    assert np.array_equal(once[:, :2], once[:, :2])
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


def test_the_goal_does_not_show() -> None:
    """Reach's object and hand start alike for goals whose object does; here only what the goal hides differs."""
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
