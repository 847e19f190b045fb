"""Evaluations at the limits of learner and family: diverging adaptation, few examples, few classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import metarl
from metarl.few_shot.class_tasks import ClassTasks, draw_of_classes
from metarl.few_shot.evaluation import evaluate_shots
from metarl.few_shot.family import FewShotFamily
from metarl.few_shot.oracle import evaluate_oracle
from metarl.few_shot.shots import ShotSpaces
from metarl.finite import NotFiniteError
from metarl.seeding import Streams

EXAMPLES = [np.random.default_rng(i).standard_normal((12, 2)) + i for i in range(6)]
FAMILY = FewShotFamily(
    name="clouds",
    summary="which of two clouds a point is from",
    distribution=ClassTasks("clouds", 2, (0, 1, 2), (3, 4, 5)),
    spaces=ShotSpaces(x_shape=(2,), y_size=2, classification=True, shots=3, queries=4),
    draw=lambda tasks, shots, queries, rng: draw_of_classes(EXAMPLES, tasks, shots, queries, rng),
    most_shots=8,
)


@pytest.mark.parametrize("queries", [None, 2, 9, 100])
def test_the_oracle_never_asks_for_more_examples_than_a_class_has(queries: int | None) -> None:
    found = evaluate_oracle(FAMILY, FAMILY.distribution.held_out(2), Streams(0), queries=queries, steps=2)
    assert found.shots == (8,)


def test_predictions_that_are_not_finite_are_no_accuracy() -> None:
    learner: Any = metarl.make_agent("maml", FAMILY.spaces, inner_lr=1e6)
    tasks = FAMILY.distribution.held_out(3)
    with pytest.raises(NotFiniteError, match="predictions after adaptation to shots=3 in steps=30 are not finite"):
        evaluate_shots(learner, FAMILY, tasks, Streams(0), shots=(3, 3), steps=(0, 30))
    with torch.no_grad():
        learner.parameters.fill_(float("nan"))
    with pytest.raises(NotFiniteError, match="predictions after adaptation to shots=1 are not finite"):
        evaluate_shots(learner, FAMILY, tasks, Streams(0), shots=(1,))


def test_evaluations_that_draw_as_many_shots_have_the_same_examples() -> None:
    family: Any = metarl.find_family("sinusoid:shots=3")
    learner: Any = metarl.make_agent("maml", family.spaces)
    tasks = family.distribution.held_out(5)
    some = evaluate_shots(learner, family, tasks, Streams(0), shots=(0, 3, 20)).scores[:, :2]
    of_steps = evaluate_shots(learner, family, tasks, Streams(0), shots=(3, 3), steps=(0, 1), most=20).scores
    np.testing.assert_array_equal(some, of_steps)


@pytest.mark.parametrize(
    ("shots", "queries"), [((), None), ((-1,), None), ((2, -3), 4), ((1,), 0)], ids=["none", "-1", "-3", "queries"]
)
def test_points_that_make_no_sense_are_refused(shots: tuple[int, ...], queries: int | None) -> None:
    learner: Any = metarl.make_agent("maml", FAMILY.spaces)
    with pytest.raises(ValueError, match="expected shots >= 0, queries >= 1"):
        evaluate_shots(learner, FAMILY, FAMILY.distribution.held_out(2), Streams(0), shots=shots, queries=queries)


def test_a_single_class_is_too_few() -> None:
    with pytest.raises(ValueError, match=r"got 3 classes for training and 1 that are held out, expected at least 2"):
        ClassTasks("clouds", 2, (0, 1, 2), (3,))
