from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from metarl.types import Spaces, Task, Trajectories


def test_a_task_is_hashable_and_survives_json_bit_for_bit() -> None:
    task = Task.of("f", goal=(0.1 + 0.2, -1 / 3), mass=2)
    again = Task.from_json(json.loads(json.dumps(task.to_json())))
    assert again == task
    assert hash(again) == hash(task)
    assert {task: 1}[again] == 1
    assert task["goal"] == (0.1 + 0.2, -1 / 3)
    assert Task.of("f", mass=2, goal=(0.1 + 0.2, -1 / 3)) == task, "the order of keywords does not matter"


@pytest.mark.parametrize("value", [float("nan"), (1.0, float("inf"))])
def test_a_task_refuses_numbers_that_are_not_finite(value: object) -> None:
    with pytest.raises(ValueError, match=r"'goal'.*expected finite"):
        Task.of("f", goal=value)


def test_a_task_names_the_parameters_it_has() -> None:
    with pytest.raises(KeyError, match=r"no parameter 'speed'.*\['goal'\]"):
        Task.of("f", goal=1.0)["speed"]


@pytest.mark.parametrize(
    "value", [{}, {"family": "f"}, {"family": "f", "parameters": [1]}, {"family": "f", "parameters": {"a": "x"}}]
)
def test_a_malformed_task_is_refused(value: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"expected|could not convert"):
        Task.from_json(value)


def trajectories(e: int, success: bool = True) -> Trajectories:
    flags = np.zeros((2, e, 3), dtype=bool)
    mask = np.array([True, True, False]) | flags
    return Trajectories(
        all_observations=np.arange(2 * e * 4, dtype=np.float32).reshape(2, e, 4, 1),
        actions=np.zeros((2, e, 3, 1), dtype=np.float32),
        rewards=np.array([1.0, 2.0, 0.0], dtype=np.float32) + np.zeros((2, e, 3), dtype=np.float32),
        terminated=flags,
        truncated=flags,
        mask=mask,
        success=np.array([False, True, False]) | flags if success else None,
        diverged=np.zeros((2, e), dtype=bool),
        extras={"x": np.ones((2, e, 3), dtype=np.float32)},
    )


def test_trajectories_give_returns_steps_and_shifted_observations() -> None:
    t = trajectories(2)
    assert t.returns().tolist() == [[3.0, 3.0], [3.0, 3.0]]
    assert t.env_steps == 2 * 2 * 2
    assert t.observations[0, 0, :, 0].tolist() == [0, 1, 2]
    assert t.next_observations[0, 0, :, 0].tolist() == [1, 2, 3]
    assert t.successes().tolist() == [[1.0, 1.0], [1.0, 1.0]]
    assert trajectories(2, success=False).successes() is None
    assert trajectories(2, success=False).last_step_successes() is None


def test_the_last_step_of_an_episode_is_the_last_that_happened() -> None:
    once = trajectories(2)
    assert once.last_step_successes().tolist() == [[1.0, 1.0], [1.0, 1.0]], "the third step is padding"
    longer = replace(once, mask=np.ones_like(once.mask))
    assert longer.successes().tolist() == [[1.0, 1.0], [1.0, 1.0]]
    assert longer.last_step_successes().tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_episodes_are_joined_along_their_axis() -> None:
    joined = Trajectories.join_episodes([trajectories(1), trajectories(3)])
    assert joined.shape == (2, 4, 3)
    assert joined.extras["x"].shape == (2, 4, 3)
    assert joined.success.shape == (2, 4, 3)
    assert Trajectories.join_episodes([trajectories(1, success=False)] * 2).success is None
    told_once = Trajectories.join_episodes([trajectories(1), trajectories(1, success=False)])
    assert told_once.successes().tolist() == [[1.0, 0.0], [1.0, 0.0]], "once told, silence means no success"
    with pytest.raises(ValueError, match=r"join_episodes: got shapes \[\]"):
        Trajectories.join_episodes([])


def test_spaces_know_the_size_of_an_action() -> None:
    assert Spaces(observation_size=1, action_low=(0, 0, 0), action_high=(1, 1, 1), horizon=1).action_size == 3
