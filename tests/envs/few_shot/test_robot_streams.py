"""Streams of transitions: those of the family's own environments, and functions of the robot and a number."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from metarl.envs.few_shot import robot_streams
from metarl.envs.few_shot.robot_streams import RobotStreams, simulated, stream_rngs
from metarl.registry import make_family
from metarl.tasks import Family
from metarl.types import Floats, Task
from metarl.vector import random_actions

STEPS = 40


def by_hand(family: Family, task: Task, number: int, steps: int) -> tuple[Floats, Floats]:
    """The stream of one robot, alone in a batch, stepped one by one."""
    seeds, acting = stream_rngs(task, number)
    envs = family.make_envs(1, 1, family.horizon)
    envs.set_tasks([task])
    actions = random_actions(envs.single_action_space, steps, acting)
    x, y = [], []
    observation, _ = envs.reset(seed=int(seeds.integers(2**31)))
    for action in actions:
        after, _, terminated, truncated, _ = envs.step(action[None])
        x.append(np.concatenate([observation[0], action]))
        y.append(after[0] - observation[0])
        observation = after
        if terminated[0] or truncated[0]:
            observation, _ = envs.reset(seed=int(seeds.integers(2**31)))
    envs.close()
    return np.array(x, dtype=np.float32), np.array(y, dtype=np.float32)


@pytest.mark.parametrize("name", ["half-cheetah-crippled", "hopper-rand-params", "reacher-goal", "point-robot"])
def test_streams_are_transitions_of_the_familys_environments(name: str) -> None:
    """Robots that fall begin again (the hopper does within 40 steps), and rows of a batch do not mix."""
    family = make_family(name)
    robots = [(task, number) for number, task in enumerate(family.distribution.train_tasks(3))]
    for (x, y), (task, number) in zip(simulated(family, robots, STEPS), robots, strict=True):
        expected_x, expected_y = by_hand(family, task, number, STEPS)
        np.testing.assert_array_equal(x, expected_x)
        np.testing.assert_array_equal(y, expected_y)


def test_the_hopper_falls_within_these_steps() -> None:
    family = make_family("hopper-rand-params")
    [(x, y)] = simulated(family, [(family.distribution.train_tasks(1)[0], 0)], STEPS)
    gaps = np.abs(x[1:, :11] - (x[:-1, :11] + y[:-1])).max(axis=1)
    assert (gaps > 1e-3).any(), "no episode ended: the test above does not see a new one begin"
    assert (gaps < 1e-5).mean() > 0.8


def test_earlier_reads_and_other_robots_change_no_stream() -> None:
    family = make_family("half-cheetah-crippled")
    first, second = family.distribution.train_tasks(2)
    keys = [(first, 3, 20), (second, 0, 20), (first, 4, 20)]
    together = RobotStreams(family).read(keys)
    apart = RobotStreams(family)
    for key, (x, y) in reversed(list(zip(keys, together, strict=True))):
        [(again_x, again_y)] = apart.read([key])
        np.testing.assert_array_equal(x, again_x)
        np.testing.assert_array_equal(y, again_y)
    assert not np.array_equal(together[0][0], together[2][0])


def test_a_longer_stream_begins_like_a_shorter_one() -> None:
    family = make_family("hopper-rand-params")
    [task] = family.distribution.train_tasks(1)
    [(short, _)], [(long, _)] = (simulated(family, [(task, 0)], steps) for steps in (15, 30))
    np.testing.assert_array_equal(short, long[:15])


def test_streams_are_simulated_once_and_the_oldest_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    family, made = make_family("point-robot"), []

    def counted(*args: Any) -> Any:
        made.extend(args[1])
        return simulated(*args)

    monkeypatch.setattr(robot_streams, "simulated", counted)
    streams = RobotStreams(family)
    keys = [(task, 0, 10) for task in family.distribution.train_tasks(3)]
    streams.read([*keys, *keys])
    streams.read(keys)
    assert len(made) == 3
    bytes_of_one = sum(part.nbytes for part in streams.read(keys[:1])[0])
    monkeypatch.setattr(robot_streams, "MOST_BYTES", 2 * bytes_of_one)
    streams.read([(keys[0][0], 1, 10)])  # drops the two that were read before the first one
    assert len(made) == 4
    streams.read([keys[0]])
    assert len(made) == 4
    streams.read([keys[1]])
    assert len(made) == 5


def test_more_robots_than_are_stepped_together(monkeypatch: pytest.MonkeyPatch) -> None:
    family = make_family("point-robot")
    keys = [(task, 0, 10) for task in family.distribution.train_tasks(5)]
    expected = RobotStreams(family).read(keys)
    monkeypatch.setattr(robot_streams, "AT_ONCE", 2)
    for (x, y), (other_x, other_y) in zip(expected, RobotStreams(family).read(keys), strict=True):
        np.testing.assert_array_equal(x, other_x)
        np.testing.assert_array_equal(y, other_y)


class Diverging:
    """Environments of `point-robot` that report a diverged simulation in some steps."""

    def __init__(self, every: int) -> None:
        self.every, self.inner = every, make_family("point-robot").make_envs

    def __call__(self, *sizes: int) -> Any:
        envs, every = self.inner(*sizes), self.every
        plain, count = envs._step_rows, [0]

        def step_rows(rows: np.ndarray, actions: Floats) -> Any:
            reward, ended, blown, infos = plain(rows, actions)
            count[0] += 1
            return reward, ended, blown | (count[0] % every == 0), infos

        envs._step_rows = step_rows  # type: ignore[method-assign]
        return envs


def test_diverged_steps_are_left_out() -> None:
    """A diverged row keeps its observation, so its difference would be zero."""
    family = dataclasses.replace(make_family("point-robot"), make_envs=Diverging(4))
    [(x, y)] = simulated(family, [(family.distribution.train_tasks(1)[0], 0)], 30)
    assert (np.abs(y).max(axis=1) > 0).all()
    np.testing.assert_allclose(y, x[:, 2:], atol=1e-6)  # the point moves by its action


def test_a_model_that_diverges_at_every_step_is_refused() -> None:
    family = dataclasses.replace(make_family("point-robot"), make_envs=Diverging(1))
    with pytest.raises(ValueError, match="'point-robot': got simulations that diverge in more than half of the steps"):
        simulated(family, [(family.distribution.train_tasks(1)[0], 0)], 5)
