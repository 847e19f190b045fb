from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from metarl import ContinuousTasks, DiscreteTasks, Parameter, Task, uniform
from metarl.tasks import told_parameters

GOAL = uniform("goal", -1.0, 1.0, meaning="m")


def test_each_component_may_have_a_range_of_its_own() -> None:
    box = uniform("goal", [-1.0, 0.2], [1.0, 0.8], size=2, meaning="where to go, m")
    assert box.meaning == "where to go, m; uniform on [-1, 1) x [0.2, 0.8)"
    assert box.transform(np.array([[0.0, 0.5], [0.5, 0.0]])).tolist() == [[-1.0, 0.5], [0.0, 0.2]]
    assert uniform("goal", [0.0, 1.0], 2.0, meaning="").variates == 2
    assert uniform("goal", 0.0, 2.0, size=2, meaning="m").meaning == "m; uniform on [0, 2) in each of 2 components"
    assert "..." in uniform("goal", [0.0] * 50, 1.0, meaning="m").meaning
    tasks = ContinuousTasks("f", (box,))
    for task in (*tasks.held_out(), *tasks.train_tasks(50)):
        assert -1 <= task["goal"][0] < 1
        assert 0.2 <= task["goal"][1] < 0.8
    assert told_parameters(tasks)[0].size == 2


def test_one_range_for_all_gives_the_same_bits_as_a_range_for_each() -> None:
    u = np.random.default_rng(0).random((100, 3))
    one, each = uniform("g", -0.1, 0.7, size=3, meaning=""), uniform("g", [-0.1] * 3, [0.7] * 3, meaning="")
    assert np.array_equal(one.transform(u), each.transform(u))


@pytest.mark.parametrize(
    ("low", "high", "size", "expected"),
    [
        (1.0, -1.0, None, "the range 1 to -1, expected two finite numbers, the lower one first"),
        (0.0, 0.0, None, "the lower one first"),
        ([-1.0, 1.0], [1.0, 0.5], None, "1 to 0.5 in component 1"),
        (0.0, float("inf"), None, "two finite numbers"),
        (float("nan"), 1.0, None, "two finite numbers"),
        (-1e308, 1e308, None, "two finite numbers"),
        ("a", 1.0, None, "expected numbers, or a list"),
        ([1.0, 2.0], [3.0, 4.0], 3, "2 lower and 2 upper bounds and size=3"),
        ([1.0, 2.0], [3.0, 4.0, 5.0], None, "2 lower and 3 upper bounds"),
        ([], [], None, "expected one number for all components"),
        ([[0.0]], 1.0, None, "expected one number for all components"),
        (0.0, 1.0, 0, "whole number from 1 to 10000"),
        (0.0, 1.0, 10**9, "whole number from 1 to 10000"),
        (0.0, 1.0, 2.0, "whole number from 1 to 10000"),
    ],
)
def test_what_makes_no_range_is_refused_in_one_line(low: Any, high: Any, size: Any, expected: str) -> None:
    with pytest.raises(ValueError, match=rf"parameter 'goal': got .*{re.escape(expected)}"):
        uniform("goal", low, high, size=size, meaning="")


def test_a_parameter_stands_once() -> None:
    with pytest.raises(ValueError, match="family 'f': got the parameter 'goal' 2 times, expected each name once"):
        ContinuousTasks("f", (GOAL, GOAL))
    with pytest.raises(ValueError, match="'goal' 2 times"):
        DiscreteTasks("f", (GOAL, GOAL), train=(Task.of("f", goal=1),), withheld=None)


def test_a_parameter_has_a_name_and_a_number_of_variates() -> None:
    good: dict[str, Any] = {"name": "g", "meaning": "", "hidden": True, "variates": 1, "transform": lambda u: u}
    for wrong in ({"name": ""}, {"name": 3}, {"variates": -1}, {"variates": 1.5}):
        with pytest.raises(ValueError, match=r"arameter"):
            Parameter(**good | wrong)


def test_a_parameter_may_be_called_family() -> None:
    (task,) = ContinuousTasks("f", (uniform("family", 0.0, 1.0, meaning=""),)).held_out(1)
    assert task.family == "f"
    assert Task.from_json(task.to_json()) == task


def test_a_range_that_holds_held_out_tasks_only_ends() -> None:
    """Between the two there are three numbers, so that every draw is one of the hundred held-out tasks."""
    narrow = ContinuousTasks("f", (uniform("g", 1e16, 1e16 + 4, meaning=""),))
    with pytest.raises(ValueError, match=r"family 'f': got ranges that hold only a few different numbers, so"):
        narrow.train_tasks(3)
