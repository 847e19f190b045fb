"""`evaluate_shots`: the score of a few-shot learner against the number of shots, or of steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from metarl.few_shot.draws import drawn
from metarl.few_shot.family import FewShotFamily
from metarl.few_shot.learner import FewShotLearner
from metarl.few_shot.scores import scores
from metarl.few_shot.shots import Score, Shots
from metarl.finite import NotFiniteError
from metarl.seeding import Streams
from metarl.types import Floats, Task

TASKS_AT_ONCE = 25


@dataclass(frozen=True)
class ShotResult:
    """Scores of every task of an evaluation.

    Args:
        family: Family of the tasks.
        split: Name of the split.
        tasks: The tasks.
        score: Name of the score.
        scores: `[task, point]` float64.
        shots: Shots of each point.
        steps: Steps of adaptation of each point, if they vary; None for the learner's own number.
    """

    family: str
    split: str
    tasks: tuple[Task, ...]
    score: Score
    scores: Floats
    shots: tuple[int, ...]
    steps: tuple[int, ...] | None = None


def evaluate_shots(
    learner: FewShotLearner[Any],
    family: FewShotFamily,
    tasks: Sequence[Task],
    streams: Streams,
    *,
    shots: Sequence[int],
    steps: Sequence[int] | None = None,
    queries: int | None = None,
    most: int | None = None,
    split: str = "test",
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> ShotResult:
    """Adapts to each task with some of its shots, and scores the predictions of its queries.

    A task has the same queries at all points, and the support of n shots is the beginning of that of more. All learners
    see the same examples for the same streams.

    Args:
        learner: The learner, which is not changed.
        family: Source of the examples.
        tasks: The tasks.
        streams: Source of all random numbers.
        shots: Shots of each point; 0 predicts without adaptation.
        steps: Steps of adaptation of each point; by default the learner's own number at all of them.
        queries: Queries per task, or per class; by default as in training.
        most: Shots that are drawn, so that evaluations with other numbers of shots have the same examples; by default
            the largest number.
        split: Name of the split that the tasks belong to.
        on_progress: Called with the number of finished tasks and their total.

    Raises:
        ValueError: There are no tasks or points, the learner was built for other examples, or there are not as many
            numbers of shots as of steps.
        NotFiniteError: Predictions are infinite or not a number.
    """
    if not tasks:
        raise ValueError(f"evaluate: got no tasks of {family.name!r}, expected at least one")
    if (learner.spaces.x_shape, learner.spaces.y_size) != (family.spaces.x_shape, family.spaces.y_size):
        raise ValueError(
            f"evaluate: the learner was built for inputs {learner.spaces.x_shape} and {learner.spaces.y_size} outputs, "
            f"but {family.name!r} has {family.spaces.x_shape} and {family.spaces.y_size}"
        )
    if not shots or min(shots) < 0 or (queries is not None and queries < 1):
        raise ValueError(f"evaluate: got shots={tuple(shots)} and queries={queries}, expected shots >= 0, queries >= 1")
    if steps is not None and len(steps) != len(shots):
        raise ValueError(f"evaluate: got {len(shots)} numbers of shots and {len(steps)} of steps, expected as many")
    if steps is not None and not learner.adapts_in_steps:
        raise ValueError("evaluate: got numbers of steps, but this learner does not adapt in steps; leave them out")
    found = np.zeros((len(tasks), len(shots)))
    largest, asked = max(*shots, most or 1), family.spaces.queries if queries is None else queries
    for start in range(0, len(tasks), TASKS_AT_ONCE):
        group = tasks[start : start + TASKS_AT_ONCE]
        rows = slice(start, start + len(group))
        support, query = drawn(family, group, largest, asked, streams.next().envs)
        for k, count in enumerate(shots):
            state = learner.begin(group, 1)
            if count:
                state = _adapted(
                    learner, state, support.first(count * family.spaces.per_shot), None if steps is None else steps[k]
                )
            predicted = learner.predict(state, query.x)
            if not bool(predicted.isfinite().all()):
                own = "" if steps is None else f" in steps={steps[k]}"
                raise NotFiniteError(f"the predictions after adaptation to shots={count}{own} are not finite")
            found[rows, k] = scores(family.spaces, predicted, query.y)
        on_progress(rows.stop, len(tasks))
    return ShotResult(
        family=family.name,
        split=split,
        tasks=tuple(tasks),
        score=family.spaces.score,
        scores=found,
        shots=tuple(shots),
        steps=None if steps is None else tuple(steps),
    )


def _adapted(learner: FewShotLearner[Any], state: Any, support: Shots, steps: int | None) -> Any:
    """The state after adaptation, with the learner's own number of steps if it is not given."""
    if steps is None:
        return learner.adapt(state, support)
    return learner.adapt_in_steps(state, support, steps) if steps else state
