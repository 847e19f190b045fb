from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import qmc

from metarl.envs.point_robot import PointRobot
from metarl.registry import make_family
from metarl.stepping import Stepping
from metarl.tasks import (
    REPORTED,
    ContinuousTasks,
    DiscreteTasks,
    balanced_choice,
    halton,
    split_name,
    split_tasks,
    uniform,
)
from metarl.types import Task
from metarl.vector import TaskVecEnv

GOAL = uniform("goal", -2.0, 6.0, size=2, meaning="a place, m")


@pytest.fixture
def family(family_name: str):
    return make_family(family_name)


def test_held_out_tasks_are_fixed_and_disjoint_from_training_tasks(family) -> None:
    distribution = family.distribution
    held_out = distribution.held_out()
    assert held_out == make_family(family.name).distribution.held_out()
    assert len(set(held_out)) == len(held_out)
    assert distribution.held_out(1) == held_out[:1]
    if distribution.splits:
        assert not set(held_out) & set(distribution.sample(500, np.random.default_rng(0)))
        assert not set(held_out) & set(distribution.train_tasks(200))
    else:
        assert set(held_out) == set(distribution.train_tasks(10**6))


def test_a_training_task_that_is_held_out_is_drawn_again() -> None:
    held_out = ContinuousTasks("f", (GOAL,)).held_out(3)
    variates = (np.array([task["goal"] for task in held_out]) + 2.0) / 8.0

    class Collides:
        """Draws the held-out tasks first, then something else."""

        calls = 0

        def random(self, shape):
            Collides.calls += 1
            return variates if Collides.calls == 1 else np.full(shape, 0.123)

    tasks = ContinuousTasks("f", (GOAL,)).sample(3, Collides())
    assert Collides.calls == 2
    assert tasks == [Task.of("f", goal=(-2.0 + 8.0 * 0.123,) * 2)] * 3


def test_uniform_parameters_stay_in_their_range_and_fill_it() -> None:
    goals = np.array([t["goal"] for t in ContinuousTasks("f", (GOAL,)).sample(4000, np.random.default_rng(1))])
    assert goals.min() >= -2.0
    assert goals.max() < 6.0
    assert np.allclose(goals.mean(axis=0), 2.0, atol=0.15)
    assert np.allclose(goals.std(axis=0), 8.0 / np.sqrt(12), atol=0.1)


def test_every_prefix_of_the_held_out_set_covers_the_range() -> None:
    goals = np.array([t["goal"] for t in ContinuousTasks("f", (GOAL,)).held_out()])
    assert len(goals) == 100
    assert np.allclose(goals[:1], [[2.0, -2.0 + 8 / 3]]), "Halton: 1/2 in base 2, 1/3 in base 3"
    for n in (10, 40, 100):
        assert np.abs(goals[:n].mean(axis=0) - 2.0).max() < 0.8


def test_a_finite_training_set_is_the_same_for_everyone_and_drawn_without_repetition() -> None:
    one, two = (ContinuousTasks("f", (GOAL,), finite=6) for _ in range(2))
    everything = set(one.train_tasks(100))
    assert len(everything) == 6
    assert set(two.sample(6, np.random.default_rng(5))) == everything
    assert set(one.sample(50, np.random.default_rng(6))) == everything


def test_two_parameters_each_get_their_own_variates() -> None:
    speed = uniform("speed", 10.0, 11.0, meaning="m/s")
    task = ContinuousTasks("f", (GOAL, speed)).sample(1, np.random.default_rng(0))[0]
    u = np.random.default_rng(0).random((1, 3))[0]
    assert task == Task.of("f", goal=-2.0 + 8.0 * u[:2], speed=10.0 + u[2])


def test_discrete_tasks_refuse_an_overlap_and_an_empty_set() -> None:
    a, b = Task.of("f", x=1), Task.of("f", x=2)
    with pytest.raises(ValueError, match="got 2 training tasks, 1 of them withheld too"):
        DiscreteTasks("f", (), train=(a, b), withheld=(b,))
    with pytest.raises(ValueError, match="got 0 training tasks"):
        DiscreteTasks("f", (), train=(), withheld=(b,))
    distribution = DiscreteTasks("f", (), train=(a,), withheld=(b,))
    assert distribution.splits
    assert distribution.held_out() == [b]
    assert distribution.sample(3, np.random.default_rng(0)) == [a, a, a]


def test_directions_come_equally_often() -> None:
    tasks = make_family("half-cheetah-dir").distribution.sample(20, np.random.default_rng(3))
    assert sorted(t["direction"][0] for t in tasks) == [-1.0] * 10 + [1.0] * 10
    counts = np.bincount(balanced_choice(3, 10, np.random.default_rng(0)))
    assert sorted(counts.tolist()) == [3, 3, 4]


def test_settings_are_chosen_on_tasks_that_no_table_reports() -> None:
    sequence = make_family("point-robot").distribution
    reported, tuning = split_tasks(sequence, "test", REPORTED), split_tasks(sequence, "tune")
    assert (len(reported), len(tuning)) == (40, 60)
    assert tuning == sequence.held_out()[40:]
    assert split_tasks(sequence, "tune", 7) == sequence.held_out()[40:47]
    assert split_name(sequence, "tune") == "tune"
    few = make_family("half-cheetah-crippled").distribution  # two held-out tasks, both reported
    assert split_tasks(few, "tune", 3) == few.train_tasks(3)
    assert split_name(few, "tune") == "train"
    assert split_name(make_family("half-cheetah-dir").distribution, "test") == "train"


def test_splits_and_finite_sets_are_checked() -> None:
    family = make_family("point-robot")
    assert split_tasks(family.distribution, "test", 2) == family.distribution.held_out(2)
    assert split_tasks(family.distribution, "train", 2) == family.distribution.train_tasks(2)
    with pytest.raises(ValueError, match="expected 'test', 'tune' or 'train'"):
        split_tasks(family.distribution, "validation", 2)
    assert len(set(family.with_finite_train_set(4).distribution.sample(40, np.random.default_rng(0)))) == 4
    with pytest.raises(ValueError, match="fixed set already"):
        make_family("half-cheetah-dir").with_finite_train_set(2)


@pytest.mark.parametrize("dimensions", [1, 2, 3, 4])
def test_the_halton_sequence_is_scipys_bit_for_bit(dimensions: int) -> None:
    expected = qmc.Halton(dimensions, scramble=False).random(2001)[1:]
    assert np.array_equal(halton(2000, dimensions), expected)


class Singles:
    """Single environments that record how they are asked to be."""

    def __init__(self, stepping: Stepping, drawn: bool = False) -> None:
        self.stepping, self.drawn = stepping, drawn

    def __call__(self, num_tasks: int, episodes: int, horizon: int) -> TaskVecEnv:
        return PointRobot(num_tasks, episodes, horizon)

    def with_stepping(self, stepping: Stepping) -> Singles:
        return Singles(stepping, self.drawn)

    def drawing(self) -> Singles:
        if self.drawn:
            raise ValueError("got environments that render already")
        return Singles(self.stepping, drawn=True)


def test_a_family_declares_what_its_environments_can_do() -> None:
    plain, stepping = make_family("point-robot"), Stepping(timeout=3.0)
    assert plain.stepping is None
    assert plain.with_stepping(stepping) is plain is plain.drawing()

    family = plain.with_single_envs(Singles(Stepping()))
    assert family.make_envs is family.single_envs
    assert family.stepping == Stepping()
    assert family.with_stepping(stepping).stepping == stepping
    assert family.with_stepping(None) is family
    drawn = family.with_stepping(stepping).drawing()
    assert drawn.stepping == stepping
    with pytest.raises(ValueError, match="family 'point-robot': got environments that render already"):
        drawn.drawing()
    assert replace(family, make_envs=plain.make_envs).stepping is None, "other environments, whose steps are their own"
