"""`robot-dynamics:FAMILY`: its tasks are robots of the family, its examples their transitions."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metarl.deviations import CLIP
from metarl.envs.few_shot.robot_dynamics import HELD_OUT, RobotTransitions, SegmentTasks, robot_dynamics
from metarl.registry import find_family, make_family
from metarl.tasks import split_name, split_tasks
from metarl.types import Task

CRIPPLED = "robot-dynamics:half-cheetah-crippled"


def source(family: Any) -> RobotTransitions:
    """The object that a family's `draw` is a method of."""
    found = family.draw.__self__
    assert isinstance(found, RobotTransitions)
    return found


def test_tasks_are_those_of_the_family_with_a_segment() -> None:
    robots, family = make_family("half-cheetah-crippled").distribution, find_family(CRIPPLED)
    tasks = family.distribution
    assert isinstance(tasks, SegmentTasks)
    drawn = {tasks.robot(task)[0] for task in tasks.sample(40, np.random.default_rng(0))}
    held_out = {tasks.robot(task)[0] for task in tasks.held_out()}
    assert drawn == set(robots.train_tasks(9))
    assert held_out == set(robots.held_out())
    assert not drawn & held_out
    assert [p.name for p in tasks.parameters] == ["actuator_gear", "segment"]


def test_few_held_out_robots_have_several_segments_each() -> None:
    tasks = find_family(CRIPPLED).distribution
    held_out = tasks.held_out()
    assert len(set(held_out)) == HELD_OUT == len(split_tasks(tasks, "test"))
    assert [task["segment"][0] for task in held_out[:5]] == [0, 0, 1, 1, 2]
    assert tasks.held_out(7) == held_out[:7]
    assert split_name(tasks, "tune") == "train"
    assert not set(split_tasks(tasks, "tune")) & set(held_out)


def test_many_held_out_robots_have_one_segment_each_and_keep_their_splits() -> None:
    robots, tasks = make_family("hopper-rand-params").distribution, find_family("robot-dynamics:hopper-rand-params")
    for split in ("test", "tune"):
        wrapped = split_tasks(tasks.distribution, split)
        assert [tasks.distribution.robot(task) for task in wrapped] == [
            (robot, 0) for robot in split_tasks(robots, split)
        ]


def test_a_fixed_set_of_robots() -> None:
    family = find_family("robot-dynamics:hopper-rand-params").with_finite_train_set(3)
    drawn = {family.distribution.robot(task)[0] for task in family.distribution.sample(30, np.random.default_rng(0))}
    assert len(drawn) == 3
    with pytest.raises(ValueError, match="train_tasks: got 3, but the training tasks of 'robot-dynamics:half"):
        find_family(CRIPPLED).with_finite_train_set(3)


def test_training_tasks_are_the_same_at_every_call() -> None:
    tasks = find_family(CRIPPLED).distribution
    assert tasks.train_tasks(10)[:6] == tasks.train_tasks(6)
    assert len(set(tasks.train_tasks(10))) == 10
    assert {task["segment"][0] for task in tasks.train_tasks(8)} == {0, 1}


def test_queries_are_the_transitions_after_the_support() -> None:
    family = find_family("robot-dynamics:half-cheetah-crippled,shots=8,queries=6")
    tasks = family.distribution.held_out(3)
    support, query = family.draw(tasks, 8, 6, np.random.default_rng(1))
    assert support.x.shape == (3, 1, 8, 23)
    assert query.y.shape == (3, 1, 6, 17)
    assert support.x.dtype == query.y.dtype == np.float32
    moved = source(family)
    x_scale, y_scale = moved.scaling
    starts = np.random.default_rng(1).integers(200 - 14 + 1, size=3)
    for m, task in enumerate(tasks):
        [(x, y)] = moved.streams.read([(*moved.tasks.robot(task), 200)])
        piece = slice(starts[m], starts[m] + 14)
        np.testing.assert_array_equal(np.concatenate([support.x[m, 0], query.x[m, 0]]), x_scale(x[piece]))
        np.testing.assert_array_equal(np.concatenate([support.y[m, 0], query.y[m, 0]]), y_scale(y[piece]))
    raw = support.x[0, 0] * x_scale.deviation + x_scale.mean
    change = support.y[0, 0] * y_scale.deviation + y_scale.mean
    np.testing.assert_allclose(raw[1:, :17], raw[:-1, :17] + change[:-1], atol=1e-4)


def test_draws_depend_on_tasks_and_generator_only() -> None:
    """A run that is resumed has simulated other streams before."""
    warm, fresh = find_family(CRIPPLED), find_family(CRIPPLED)
    warm.draw(warm.distribution.sample(6, np.random.default_rng(9)), 4, 4, np.random.default_rng(8))
    tasks = warm.distribution.sample(4, np.random.default_rng(0))
    for one, other in zip(
        warm.draw(tasks, 5, 7, np.random.default_rng(3)),
        fresh.draw(tasks, 5, 7, np.random.default_rng(3)),
        strict=True,
    ):
        np.testing.assert_array_equal(one.x, other.x)
        np.testing.assert_array_equal(one.y, other.y)


def test_another_process_draws_the_same(tmp_path: Path) -> None:
    code = f"""
import numpy as np
from metarl.registry import find_family
family = find_family("{CRIPPLED}")
support, query = family.draw(family.distribution.held_out(2), 3, 2, np.random.default_rng(5))
np.savez("drawn.npz", x=support.x, y=query.y)
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    family = find_family(CRIPPLED)
    support, query = family.draw(family.distribution.held_out(2), 3, 2, np.random.default_rng(5))
    with np.load(tmp_path / "drawn.npz", allow_pickle=False) as there:
        np.testing.assert_array_equal(there["x"], support.x)
        np.testing.assert_array_equal(there["y"], query.y)


def test_training_robots_are_normalised_and_held_out_ones_by_the_same_statistics() -> None:
    family = find_family(CRIPPLED)
    support, _ = family.draw(family.distribution.train_tasks(40), 100, 1, np.random.default_rng(0))
    for values in (support.x, support.y):
        rows = values.reshape(-1, values.shape[-1])
        np.testing.assert_allclose(rows.mean(axis=0), 0.0, atol=0.15)
        np.testing.assert_allclose(rows.std(axis=0), 1.0, atol=0.15)
        assert np.abs(rows).max() <= CLIP
    before = [scale.mean.copy() for scale in source(family).scaling]
    family.draw(family.distribution.held_out(4), 10, 10, np.random.default_rng(0))
    for mean, scale in zip(before, source(family).scaling, strict=True):
        np.testing.assert_array_equal(mean, scale.mean)


def test_a_finite_set_does_not_change_the_statistics() -> None:
    whole = find_family("robot-dynamics:walker2d-rand-params")
    fixed = whole.with_finite_train_set(2)
    tasks = whole.distribution.held_out(1)
    one, other = (f.draw(tasks, 3, 2, np.random.default_rng(0))[0] for f in (whole, fixed))
    np.testing.assert_array_equal(one.x, other.x)


def test_more_transitions_than_an_episode_has() -> None:
    family = find_family("robot-dynamics:reacher-goal")
    support, query = family.draw(family.distribution.held_out(2), 60, 30, np.random.default_rng(0))
    assert support.x.shape[2] == 60
    assert query.x.shape[2] == 30
    shorter, _ = family.draw(family.distribution.held_out(2), 60, 30, np.random.default_rng(0))
    np.testing.assert_array_equal(support.first(5).x, shorter.x[:, :, :5])


def test_robots_of_the_same_segment_differ_and_so_do_segments() -> None:
    family = find_family(CRIPPLED)
    tasks = family.distribution.held_out(4)
    x = family.draw(tasks, 5, 5, np.random.default_rng(0))[0].x
    assert len({one.tobytes() for one in x}) == 4


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("", "got '', expected robot-dynamics:FAMILY such as robot-dynamics:half-cheetah-crippled"),
        ("shots=5", "got '', expected robot-dynamics:FAMILY"),
        ("bandit", "got 'bandit', which has 5 discrete actions, expected a family with continuous actions"),
        ("sinusoid", "got 'sinusoid', expected robot-dynamics:FAMILY .* a family of environments"),
        ("robot-dynamics:point-robot", "got 'robot-dynamics:point-robot', expected robot-dynamics:FAMILY"),
        ("half-cheetah-crippled,shot=5", "got option 'shot=5', expected shots=INT >= 1 or queries=INT >= 1"),
        ("half-cheetah-crippled,shots=0", "got option 'shots=0', expected shots=INT >= 1"),
        ("half-cheetah-cripled", "unknown family 'half-cheetah-cripled'. Did you mean 'half-cheetah-crippled'"),
        ("my_robots:mine", "got 'my_robots:mine', .* it cannot name code of your own"),
        ("gym:my_robots:Mine-v0", "it cannot name code of your own"),
    ],
)
def test_arguments_that_are_refused(argument: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        robot_dynamics(argument)


def test_a_family_of_gymnasium() -> None:
    family = find_family("robot-dynamics:gym:Pendulum-v1?g=uniform(5,15),shots=4,queries=3")
    support, query = family.draw(
        family.distribution.sample(2, np.random.default_rng(0)), 4, 3, np.random.default_rng(0)
    )
    assert support.x.shape == (2, 1, 4, 4)
    assert query.y.shape == (2, 1, 3, 3)


def test_the_name_of_a_task_is_the_few_shot_familys() -> None:
    task = find_family(CRIPPLED).distribution.held_out(1)[0]
    assert task.family == CRIPPLED
    assert Task.from_json(task.to_json()) == task


def test_a_learner_trains_on_it(run_metarl: Any) -> None:
    words = ("train", "maml", "robot-dynamics:point-robot,shots=4,queries=4", "--iterations", "2", "--tasks", "3")
    code, _, err = run_metarl(*words, "--out", "run")
    assert code == 0, err
    code, _, err = run_metarl("train", "maml", "robot-dynamics:bandit", "--out", "other")
    assert code == 2
    assert len(err.strip().splitlines()) == 1


def test_a_resumed_run_equals_an_uninterrupted_one(run_metarl: Any, assert_same_run: Any) -> None:
    """A robot of a range is new in each iteration; a crippled one was simulated by the first part of the run."""
    for number, family in enumerate(("half-cheetah-crippled", "hopper-rand-params")):
        words = ("train", "maml", f"robot-dynamics:{family},shots=5,queries=5", "--tasks", "4", "--eval-every", "2")
        words += ("--eval-tasks", "2", "--checkpoint-every", "1", "--agent.no-anneal")
        whole, parts = f"whole{number}", f"parts{number}"
        assert run_metarl(*words, "--iterations", "4", "--out", whole)[0] == 0
        assert run_metarl(*words, "--iterations", "2", "--out", parts)[0] == 0
        code, _, err = run_metarl(*words, "--iterations", "4", "--out", parts, "--resume")
        assert code == 0, err
        assert_same_run(Path(whole), Path(parts))
