"""Sampler and source of few-shot runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np

from metarl.agent import MetaAgent
from metarl.few_shot.draws import drawn
from metarl.few_shot.evaluation import evaluate_shots
from metarl.few_shot.family import FewShotFamily
from metarl.few_shot.learner import FewShotLearner
from metarl.few_shot.run import FewShotRun
from metarl.few_shot.scores import scores
from metarl.few_shot.shots import Shots
from metarl.seeding import Streams
from metarl.tasks import split_tasks
from metarl.types import Progress, Task


class ShotSampler:
    """Draws the support in the first collect of a trial, and the queries in the second.

    Args:
        family: Source of the examples.
        num_tasks: `M`.
    """

    episodes, reports_success = 1, False

    def __init__(self, family: FewShotFamily, num_tasks: int) -> None:
        self.num_tasks, self._family = num_tasks, family
        self._tasks: tuple[Task, ...] = ()
        self._queries: Shots | None = None

    def set_tasks(self, tasks: Sequence[Task]) -> None:
        """Sets the `M` tasks of the next trial."""
        self._tasks, self._queries = tuple(tasks), None

    def collect(self, actor: Any, state: Any, streams: Streams) -> tuple[Shots, Any]:
        """The support, then the queries, with the learner's score on them.

        Args:
            actor: A `FewShotLearner`.
            state: Its state.
            streams: Source of the examples.
        """
        spaces = self._family.spaces
        if self._queries is None:
            rng = streams.next().envs
            shots, self._queries = drawn(self._family, self._tasks, spaces.shots, spaces.queries, rng)
        else:
            shots, self._queries = self._queries, None
        found = float(np.mean(scores(spaces, actor.predict(state, shots.x), shots.y)))
        return replace(shots, score=found, score_name=spaces.score), state


class ShotSource:
    """Examples of a few-shot family; see `metarl.source.Source`.

    Args:
        run: The configuration.
        family: The family.
    """

    counted, in_words = "examples", ""

    def __init__(self, run: FewShotRun, family: FewShotFamily) -> None:
        self._run, self._family = run, family
        self.distribution, self.score = family.distribution, family.spaces.score
        self.sampler = ShotSampler(family, run.training.tasks)

    def evaluate(self, agent: MetaAgent[Any], progress: Progress) -> dict[str, float]:
        """Score on the tuning tasks before adaptation, and after it."""
        config, spaces = self._run.training, self._family.spaces
        result = evaluate_shots(
            cast(FewShotLearner[Any], agent),
            self._family,
            split_tasks(self.distribution, "tune", config.eval_tasks),
            Streams.for_evaluation(config.seed, progress.iteration),
            shots=(0, spaces.shots),
            queries=spaces.queries,
        )
        return {f"evaluation/{self.score}/{k}": float(v) for k, v in enumerate(result.scores.mean(axis=0))}

    def close(self) -> None:
        """Does nothing: examples are drawn in this process."""
