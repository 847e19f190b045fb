"""Examples, families, tasks of classes, and their scores."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from metarl.envs.few_shot.sinusoid import draw, sinusoid
from metarl.few_shot.class_tasks import ClassTasks, draw_of_classes, split_classes
from metarl.few_shot.family import few_shot_options
from metarl.few_shot.scores import scores
from metarl.few_shot.shots import Shots, ShotSpaces
from metarl.tasks import split_name, split_tasks
from metarl.types import MetaBatch, Task

CLASSES = ClassTasks("letters", 3, tuple(range(8)), (8, 9, 10, 11))
EXAMPLES = [np.full((6, 2), float(i)) + np.arange(6)[:, None] / 10 for i in range(12)]
"""Six examples of each of 12 classes; an example tells its class and its number."""


def test_a_sinusoid_is_the_formula_of_its_task() -> None:
    task = Task.of("sinusoid", amplitude=2.0, phase=0.5)
    support, queries = draw([task], 4, 3, np.random.default_rng(0))
    assert support.x.shape == (1, 1, 4, 1)
    assert queries.x.shape == (1, 1, 3, 1)
    for shots in (support, queries):
        np.testing.assert_allclose(shots.y, 2.0 * np.sin(shots.x.astype(np.float64) - 0.5), atol=1e-6)
        assert (np.abs(shots.x) <= 5.0).all()


def test_held_out_waves_are_100_to_report_and_40_to_tune_by() -> None:
    distribution = sinusoid().distribution
    reported, tuned = split_tasks(distribution, "test", 100), split_tasks(distribution, "tune")
    assert (len(reported), len(tuned)) == (100, 40)
    assert not set(reported) & set(tuned)
    trained = distribution.sample(500, np.random.default_rng(1))
    assert not set(trained) & (set(reported) | set(tuned))
    assert split_name(distribution, "tune") == "tune"
    amplitudes = [task["amplitude"][0] for task in trained]
    assert min(amplitudes) >= 0.1
    assert max(amplitudes) < 5.0


def test_no_held_out_task_has_a_class_of_a_training_task() -> None:
    trained = CLASSES.sample(200, np.random.default_rng(0))
    assert {int(i) for task in trained for i in task["classes"]} == set(range(8))
    held_out = CLASSES.held_out()
    assert {int(i) for task in held_out for i in task["classes"]} == {8, 9, 10, 11}
    assert len(held_out) == 140
    assert held_out[:5] == CLASSES.held_out(5)
    assert all(len(set(task["classes"])) == 3 for task in trained + held_out)
    assert len(split_tasks(CLASSES, "tune")) == 40
    assert CLASSES.train_tasks(5) == CLASSES.train_tasks(5)


@pytest.mark.parametrize("ways", [1, 5])
def test_more_ways_than_held_out_classes_are_refused(ways: int) -> None:
    with pytest.raises(ValueError, match=rf"got ways={ways}, expected 2 to 4: it has 8 classes for training and 4"):
        ClassTasks("letters", ways, tuple(range(8)), (8, 9, 10, 11))


def test_a_class_is_either_trained_on_or_withheld() -> None:
    with pytest.raises(ValueError, match="got 1 classes that are withheld and trained on"):
        ClassTasks("letters", 2, (0, 1, 2), (2, 3))


def test_classes_are_split_once_for_all() -> None:
    train, withheld = split_classes(20)
    assert (len(train), len(withheld)) == (15, 5)
    assert sorted(train + withheld) == list(range(20))
    assert split_classes(20) == (train, withheld)


def test_support_and_queries_of_classes_share_no_example_and_come_shot_after_shot() -> None:
    tasks = CLASSES.sample(5, np.random.default_rng(3))
    support, queries = draw_of_classes(EXAMPLES, tasks, 2, 3, np.random.default_rng(4))
    assert support.x.shape == (5, 1, 6, 2)
    assert queries.x.shape == (5, 1, 9, 2)
    for m, task in enumerate(tasks):
        for shots in (support, queries):
            labels = shots.y[m, 0].argmax(axis=1)
            np.testing.assert_array_equal(labels, np.tile([0, 1, 2], len(labels) // 3))
            np.testing.assert_array_equal(np.floor(shots.x[m, 0, :, 0] + 1e-6), np.array(task["classes"])[labels])
        seen = {tuple(row) for shots in (support, queries) for row in shots.x[m, 0].tolist()}
        assert len(seen) == 15, "an example is in the support or in the queries, once"
    again, _ = draw_of_classes(EXAMPLES, tasks, 2, 3, np.random.default_rng(4))
    np.testing.assert_array_equal(again.x, support.x)


def test_too_many_shots_of_a_class_are_refused_with_the_number_there_is() -> None:
    with pytest.raises(ValueError, match="got 4 shots and 3 queries per class, expected at most 6 in total"):
        draw_of_classes(EXAMPLES, CLASSES.train_tasks(1), 4, 3, np.random.default_rng(0))


def test_options_after_a_family_name_may_follow_a_subject() -> None:
    assert few_shot_options("f", "", shots=5) == ("", {"shots": 5})
    assert few_shot_options("f", "shots=7", shots=5) == ("", {"shots": 7})
    assert few_shot_options("f", "ml1:x,y=z,shots=7,queries=2", shots=5, queries=5) == (
        "ml1:x,y=z",
        {"shots": 7, "queries": 2},
    )
    with pytest.raises(ValueError, match="family 'f': got option 'shots=0', expected shots=INT >= 1"):
        few_shot_options("f", "shots=0", shots=5)


def test_scores_by_hand() -> None:
    regression = ShotSpaces(x_shape=(1,), y_size=2, classification=False, shots=1, queries=2)
    predicted, y = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]), np.array([[[[1.0, 0.0], [3.0, 7.0]]]])
    assert scores(regression, predicted, y) == pytest.approx([(4.0 + 9.0) / 4])
    classes = ShotSpaces(x_shape=(1,), y_size=2, classification=True, shots=1, queries=1)
    guesses = torch.tensor([[[[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]]]])
    truth = np.array([[[[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]]])
    assert scores(classes, guesses, truth) == pytest.approx([2 / 3])


def test_shots_are_an_experience() -> None:
    shots = Shots(np.zeros((2, 1, 3, 4), np.float32), np.zeros((2, 1, 3, 1), np.float32), score=0.5)
    assert (shots.num_tasks, shots.env_steps) == (2, 6)
    assert Shots.metrics([shots, Shots(shots.x, shots.y, score=0.25)]) == {"error/0": 0.5, "error/1": 0.25}
    assert shots.first(2).x.shape == (2, 1, 2, 4)
    assert shots.of_tasks(slice(1, 2)).num_tasks == 1
    tasks = (Task.of("f", a=1.0), Task.of("f", a=2.0))
    assert MetaBatch(tasks, (shots, shots)).collects[0] is shots
