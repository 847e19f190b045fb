from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import pytest

from metarl import DiscreteTasks, Family, Task, make_family
from metarl.gymnasium_envs.check.contract import check_family, examine
from metarl.stepping import Stepping
from metarl.tasks import ContinuousTasks

ALSO = {"IgnoresItsSeed": {"gymnasium"}, "RemembersTheLastEpisode": {"gymnasium"}, "NoInfo": {"fault"}}
"""Further findings about a mistake: `check_env` reports it too, or it raises an exception."""


@pytest.fixture
def robots(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(Path(__file__).resolve().parents[3] / "robots")
    import broken_robots

    return broken_robots


def test_a_sound_environment_has_no_problem(robots: Any) -> None:
    assert check_family(robots.sound()) == []
    assert not multiprocessing.active_children()


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("Leaks", "leak", ["component 1 of the observation at reset", "take it out", "hidden=False"]),
        ("IgnoresItsTask", "effect", ["6 tasks give the same rewards", "does not use its task"]),
        ("TwoNumbers", "effect", ["'unused' changes neither"]),
        ("IgnoresItsSeed", "seed", ["another observation each time", "self.np_random"]),
        ("RemembersTheLastEpisode", "seed", ["another episode each time", "let reset restore"]),
        ("NotFinite", "finite", ["not finite", "task: goal ="]),
        ("WrongShape", "space", ["shape (3,)", "says (2,)"]),
        ("WrongType", "space", ["dtype float64", "says float32", "astype"]),
        ("OutOfBounds", "space", ["leaves the bounds"]),
        ("RewardIsAnArray", "space", ["reward has shape (1,)", "float(reward)"]),
        ("NoInfo", "gymnasium", ["check_env", "info"]),
        ("Raises", "fault", ["RuntimeError", "the gripper is stuck", "task: goal ="]),
    ],
)
def test_each_kind_of_mistake_is_found_and_named(robots: Any, name: str, kind: str, words: list[str]) -> None:
    problems = check_family(robots.family_of(getattr(robots, name)))
    assert {p.kind for p in problems} - ALSO.get(name, set()) == {kind}
    message = next(p.message for p in problems if p.kind == kind)
    for word in words:
        assert word in message


def test_what_cannot_go_to_a_worker_is_found(robots: Any) -> None:
    (problem,) = check_family(robots.unpicklable())
    assert problem.kind == "pickle"
    assert "lock" in problem.message


def test_what_a_worker_can_make_by_its_name_is_no_problem(robots: Any) -> None:
    assert examine(robots.unpicklable(), spec="broken_robots:unpicklable").problems == []


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("DiesElsewhere", "in a worker process: a worker process died (exit code 3)"),
        ("HangsElsewhere", "in a worker process: a worker process hangs: no answer within"),
        ("RaisesElsewhere", "in a worker process: the environment raised RuntimeError in reset (no display here)"),
    ],
)
def test_what_fails_in_a_worker_only_is_found_and_survived(robots: Any, name: str, words: str) -> None:
    family = robots.family_of(getattr(robots, name))
    assert family.stepping is not None
    (problem,) = check_family(family.with_stepping(Stepping(timeout=1.0)))
    assert problem.kind == "fault"
    assert problem.message.startswith(words)
    assert name != "RaisesElsewhere" or "in reset" in problem.trace
    assert not multiprocessing.active_children()


def test_held_out_tasks_that_are_training_tasks_are_found(robots: Any) -> None:
    (problem,) = check_family(robots.overlapping())
    assert problem.kind == "overlap"
    assert "1 held-out tasks are training tasks" in problem.message


def test_a_family_without_tasks_is_found(robots: Any) -> None:
    class Empty(ContinuousTasks):
        def held_out(self, n: int | None = None) -> list[Task]:
            return []

    family = robots.gymnasium_family(robots.Sound, name="e", distribution=Empty("e", (robots.GOAL,)))
    assert check_family(family)[0].kind == "overlap"


def test_the_families_that_come_with_metarl_pass(family_name: str) -> None:
    assert check_family(make_family(family_name)) == []


def test_a_leak_in_a_batch_of_ones_own_is_found() -> None:
    honest = make_family("point-robot")

    class Told(type(honest.make_envs(1, 1, 5))):  # type: ignore[misc]
        def _observe(self, rows: Any) -> Any:
            return self._goal[rows]

    family = Family(
        name="told", summary="", distribution=honest.distribution, horizon=5, make_envs=lambda m, e, t: Told(m, e, t)
    )
    assert [p.kind for p in check_family(family)] == ["leak"]


def test_a_visible_parameter_may_be_seen(robots: Any) -> None:
    goal = robots.uniform("goal", -1.0, 1.0, meaning="m", hidden=False)
    family = robots.gymnasium_family(robots.Leaks, name="told", parameters=[goal], horizon=20)
    assert check_family(family) == []


def test_a_few_tasks_that_are_not_split_are_no_overlap(robots: Any) -> None:
    tasks = tuple(Task.of("two", goal=g) for g in (-1.0, 1.0))
    two = DiscreteTasks("two", (robots.GOAL,), train=tasks, withheld=None)
    assert check_family(robots.gymnasium_family(robots.Sound, name="two", distribution=two, horizon=20)) == []
