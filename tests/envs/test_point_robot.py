from __future__ import annotations

import numpy as np

from metarl.registry import make_family
from metarl.types import Task


def step(family: str, goal: tuple[float, float], action: tuple[float, float], times: int = 1):
    envs = make_family(family).make_envs(1, 1, 50)
    envs.set_tasks([Task.of(family, goal=goal)])
    envs.reset(seed=0)
    for _ in range(times):
        outcome = envs.step(np.array([action], dtype=np.float32))
    return outcome


def test_the_point_moves_by_the_clipped_action_and_earns_minus_the_distance() -> None:
    observation, reward, terminated, _, _ = step("point-robot", (0.4, 0.3), (0.5, -0.05))
    assert np.allclose(observation, [[0.1, -0.05]])
    assert np.allclose(reward, -np.hypot(0.3, 0.35))
    assert not terminated


def test_it_ends_within_a_hundredth_in_each_coordinate() -> None:
    assert step("point-robot", (0.109, -0.109), (0.1, -0.1))[2]
    assert not step("point-robot", (0.111, 0.1), (0.1, 0.1))[2]


def test_the_sparse_reward_starts_within_a_fifth_of_the_goal() -> None:
    *_, infos = outcome = step("sparse-point-robot", (0.0, 1.0), (0.0, 0.1), times=7)
    assert outcome[1].tolist() == [0.0]
    assert not infos["success"]
    *_, infos = outcome = step("sparse-point-robot", (0.0, 1.0), (0.0, 0.1), times=9)
    assert np.allclose(outcome[1], 0.9)
    assert infos["success"]
    assert not outcome[2]


def test_sparse_goals_lie_on_the_upper_half_circle() -> None:
    goals = np.array([t["goal"] for t in make_family("sparse-point-robot").distribution.held_out()])
    assert np.allclose(np.linalg.norm(goals, axis=1), 1.0)
    assert (goals[:, 1] >= 0).all()
    assert abs(goals[:, 0].mean()) < 0.05
