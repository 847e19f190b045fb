"""Evaluation of few-shot learners, and the oracle."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import metarl
from metarl.few_shot.evaluation import evaluate_shots
from metarl.few_shot.family import FewShotFamily
from metarl.few_shot.learner import FewShotLearner
from metarl.few_shot.oracle import evaluate_oracle
from metarl.few_shot.shots import Shots, ShotSpaces
from metarl.few_shot.source import ShotSampler
from metarl.sampling import collects
from metarl.seeding import Streams
from metarl.tasks import ContinuousTasks, uniform

LEVELS = ContinuousTasks("levels", (uniform("level", -1.0, 1.0, meaning="constant value"),))
SPACES = ShotSpaces(x_shape=(1,), y_size=1, classification=False, shots=4, queries=5)


def draw(tasks, shots, queries, rng):
    """Constant functions with noise of deviation 1 in the support only."""
    level = np.array([task["level"] for task in tasks]).reshape(-1, 1, 1, 1)
    x = rng.standard_normal((len(tasks), 1, shots + queries, 1))
    y = np.concatenate([level + x[:, :, :shots], np.broadcast_to(level, (len(tasks), 1, queries, 1))], axis=2)
    return Shots(x[:, :, :shots], y[:, :, :shots]), Shots(x[:, :, shots:], y[:, :, shots:])


FAMILY = FewShotFamily(name="levels", summary="constants", distribution=LEVELS, spaces=SPACES, draw=draw, most_shots=50)


class MeanOfShots(FewShotLearner[torch.Tensor]):
    """Predicts the mean of the support; with n steps, n tenths of it."""

    spaces, adapts_in_steps, config = SPACES, True, None

    def begin(self, tasks, episodes):
        return torch.zeros(len(tasks))

    def adapt(self, state, shots):
        return torch.tensor(shots.y.mean(axis=(1, 2, 3)))

    def adapt_in_steps(self, state, shots, steps):
        return steps / 10 * self.adapt(state, shots)

    def predict(self, state, x):
        return state[:, None, None, None].expand(*x.shape[:3], 1)


def test_scores_are_those_of_the_predictions_from_the_first_shots() -> None:
    tasks = LEVELS.held_out(30)
    result = evaluate_shots(MeanOfShots(), FAMILY, tasks, Streams(0), shots=(0, 1, 4))
    assert result.scores.shape == (30, 3)
    level = np.array([task["level"][0] for task in tasks])
    np.testing.assert_allclose(result.scores[:, 0], level**2, rtol=1e-6)
    streams, expected = Streams(0), []
    for group in (tasks[:25], tasks[25:]):  # 25 tasks at once
        support, _ = draw(group, 4, 5, streams.next().envs)
        means = np.stack([support.y[:, 0, :n, 0].mean(axis=1) for n in (1, 4)], axis=1)  # [task, 2]
        expected.append((means - np.array([task["level"] for task in group])) ** 2)
    np.testing.assert_allclose(result.scores[:, 1:], np.concatenate(expected), rtol=1e-5)


def test_steps_are_those_asked_for_and_none_leave_the_state() -> None:
    tasks = LEVELS.held_out(10)
    over = evaluate_shots(MeanOfShots(), FAMILY, tasks, Streams(0), shots=(4, 4, 4), steps=(0, 5, 10))
    own = evaluate_shots(MeanOfShots(), FAMILY, tasks, Streams(0), shots=(0, 4))
    np.testing.assert_allclose(over.scores[:, [0, 2]], own.scores)
    assert not np.allclose(over.scores[:, 1], over.scores[:, 2])


def test_what_cannot_be_evaluated_is_refused() -> None:
    with pytest.raises(ValueError, match="got no tasks of 'levels'"):
        evaluate_shots(MeanOfShots(), FAMILY, [], Streams(0), shots=(1,))
    with pytest.raises(ValueError, match="got 1 numbers of shots and 2 of steps"):
        evaluate_shots(MeanOfShots(), FAMILY, LEVELS.held_out(2), Streams(0), shots=(1,), steps=(1, 2))
    other = metarl.find_family("sinusoid")
    learner = MeanOfShots()
    learner.spaces = ShotSpaces(x_shape=(3,), y_size=1, classification=False, shots=4, queries=5)
    with pytest.raises(ValueError, match=r"built for inputs \(3,\) and 1 outputs, but 'sinusoid' has \(1,\) and 1"):
        evaluate_shots(learner, other, other.distribution.held_out(2), Streams(0), shots=(1,))
    steady = MeanOfShots()
    steady.adapts_in_steps = False
    with pytest.raises(ValueError, match="does not adapt in steps"):
        evaluate_shots(steady, FAMILY, LEVELS.held_out(2), Streams(0), shots=(1,), steps=(1,))


def test_the_oracle_comes_close_to_what_the_examples_determine() -> None:
    family = metarl.find_family("sinusoid")
    tasks = family.distribution.held_out(6)
    found = evaluate_oracle(family, tasks, Streams(0), queries=50)
    nothing = evaluate_shots(
        metarl.make_agent("maml", family.spaces), family, tasks, Streams(0), shots=(0,), queries=50
    )
    assert found.shots == (1000,)
    assert found.scores.mean() < 0.02 * nothing.scores.mean()


def test_the_oracle_of_a_family_with_few_examples_uses_those() -> None:
    found = evaluate_oracle(FAMILY, LEVELS.held_out(3), Streams(0), steps=30)
    assert found.shots == (50,)
    assert np.isfinite(found.scores).all()


def test_the_sampler_gives_the_support_and_then_the_queries_of_each_trial() -> None:
    sampler, streams = ShotSampler(FAMILY, 3), Streams(7).child(0)
    tasks = LEVELS.sample(3, np.random.default_rng(0))
    sampler.set_tasks(tasks)
    agent = MeanOfShots()
    (support, _), (queries, state) = collects(sampler, agent, agent.begin(tasks, 1), streams)
    expected = draw(tasks, 4, 5, Streams(7).child(0).next().envs)
    for got, wanted in zip((support, queries), expected, strict=True):
        np.testing.assert_array_equal(got.x, wanted.x)
    np.testing.assert_allclose(state.numpy(), support.y.mean(axis=(1, 2, 3)))
    level = np.array([task["level"][0] for task in tasks])
    assert queries.score == pytest.approx(float(np.mean((state.numpy() - level) ** 2)))
    sampler.set_tasks(tasks)  # a new trial starts with a support
    first, _ = sampler.collect(agent, state, Streams(8))
    assert first.x.shape == (3, 1, 4, 1)
