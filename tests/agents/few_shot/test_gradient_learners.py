"""Few-shot learners with an update rule, against `torch.func`, steps by hand, and each other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from metarl.agents.few_shot.gbml import shot_statistics
from metarl.envs.few_shot.sinusoid import sinusoid
from metarl.few_shot.shots import Shots, ShotSpaces
from metarl.learning.few_shot.base import Examples
from metarl.learning.few_shot.gradient import AdaptedNetwork, GradientLearner
from metarl.learning.networks.optimisers import Adam
from metarl.registry import LEARNERS, agent_class
from metarl.scripts.reference import few_shot as plain
from metarl.types import MetaBatch

RULES = ("maml", "fomaml", "reptile", "meta-sgd", "meta-lstm", "gbml", "pooled")
SPACES = ShotSpaces(x_shape=(2,), y_size=3, classification=False, shots=4, queries=5)
CLASSES = ShotSpaces(x_shape=(2, 6, 6), y_size=3, classification=True, shots=2, queries=3)
M, HIDDEN = 6, (5, 4)
SIZES = (2, *HIDDEN, 3)


def built(name: str, spaces: ShotSpaces = SPACES, **settings: Any) -> Any:
    """A small learner in float64."""
    kind = agent_class(name, LEARNERS)
    config = kind.Config(**{"hidden": HIDDEN, "channels": 3, "gradient_clip": 0.0, **settings})
    learner: Any = kind.build(config, spaces, device=torch.device("cpu"), rng=np.random.default_rng(0))
    learner.parameters = learner.parameters.detach().double().requires_grad_()
    if name == "meta-sgd":
        with torch.no_grad():
            learner.parameters[learner.network.size :] = config.inner_lr  # not rounded to float32
    learner._adam = Adam([learner.parameters], config.learning_rate)
    return learner


def drawn(spaces: ShotSpaces = SPACES, m: int = M) -> tuple[Shots, Shots]:
    """Support and queries of noise, float64, and random classes."""
    rng, both = np.random.default_rng(1), []
    for count in (spaces.shots * spaces.per_shot, spaces.queries * spaces.per_shot):
        x = rng.normal(size=(m, 1, count, *spaces.x_shape))
        y = rng.normal(size=(m, 1, count, spaces.y_size))
        if spaces.classification:
            y = np.eye(spaces.y_size)[np.tile(np.arange(spaces.y_size), (m, 1, count // spaces.y_size))]
        both.append(Shots(x, y))
    return both[0], both[1]


def batch(spaces: ShotSpaces = SPACES) -> MetaBatch[Shots]:
    tasks = sinusoid().distribution.train_tasks(M)
    return MetaBatch(tuple(tasks), drawn(spaces))


def of_reference(shots: Shots) -> plain.Data:
    return torch.tensor(shots.x[:, 0]), torch.tensor(shots.y[:, 0])


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found.detach(), expected.detach(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("name", ["maml", "fomaml", "meta-sgd"])
def test_meta_gradient_and_outer_step_are_those_of_torch_func(name: str, steps: int) -> None:
    learner = built(name, inner_lr=0.1, inner_steps=steps)
    p = learner.network.size
    if name == "meta-sgd":  # step sizes that differ
        noise = torch.tensor(np.random.default_rng(2).uniform(0.05, 0.15, size=p))
        learner.parameters = torch.cat([learner.parameters.detach()[:p], noise]).requires_grad_()
        learner._adam = Adam([learner.parameters], 1e-3)
    before = learner.parameters.detach().clone()
    rates = before[p:] if name == "meta-sgd" else torch.full((p,), 0.1, dtype=torch.float64)
    support, queries = batch().collects
    of_weights, of_rates = plain.meta_gradient(
        plain.unflattened(before[:p], SIZES),
        plain.unflattened(rates, SIZES),
        of_reference(support),
        of_reference(queries),
        steps=steps,
        first_order=name == "fomaml",
    )
    expected = plain.flattened(of_weights + (of_rates if name == "meta-sgd" else []))
    loss, gradient = learner._outer_gradient(learner.examples(support), learner.examples(queries))
    assert gradient.abs().max() > 0.01
    close(gradient, expected)
    metrics = learner.meta_update(batch())
    close(learner.parameters, plain.first_adam_step(before, expected, 1e-3))
    assert metrics["update/loss"] == pytest.approx(float(loss.detach()), rel=1e-12)
    assert metrics["update/gradient_norm"] == pytest.approx(float(expected.norm()), rel=1e-10)


def test_second_derivatives_matter() -> None:
    examples = [built("maml").examples(shots) for shots in drawn()]
    exact, first = (built(name, inner_lr=0.1)._outer_gradient(*examples)[1] for name in ("maml", "fomaml"))
    assert (exact - first).norm() > 0.01 * exact.norm()


def test_a_large_gradient_is_scaled_to_the_largest_norm() -> None:
    free, bound = built("reptile"), built("reptile", gradient_clip=0.01)
    start = free.parameters.detach().clone()
    norm = free.meta_update(batch())["update/gradient_norm"]
    assert bound.meta_update(batch())["update/gradient_norm"] == norm > 0.01
    close(bound.parameters - start, (free.parameters - start) * 0.01 / norm)


def test_reptile_moves_toward_the_mean_of_alternating_gradient_steps() -> None:
    learner = built("reptile", inner_lr=0.05, inner_steps=3, learning_rate=0.3)
    start, ends = learner.parameters.detach().clone(), []
    support, queries = (of_reference(shots) for shots in drawn())
    for task in range(M):
        weights = plain.unflattened(start, SIZES)
        rates = [torch.full_like(w, 0.05) for w in weights]
        for data in (support, queries, support):
            weights = plain.adapted(weights, rates, (data[0][task], data[1][task]), 1, True)
        ends.append(plain.flattened(weights))
    mean = torch.stack(ends).mean(dim=0)
    metrics = learner.meta_update(batch())
    close(learner.parameters, start + 0.3 * (mean - start))
    assert metrics["update/gradient_norm"] == pytest.approx(float((mean - start).norm()), rel=1e-10)


def adapted(learner: GradientLearner[Any], steps: int) -> AdaptedNetwork:
    support, _ = drawn(learner.spaces)
    state = learner.begin(batch().tasks, 1)
    return learner.adapt_in_steps(state, support, steps)


@pytest.mark.parametrize("spaces", [SPACES, CLASSES], ids=["vectors", "images"])
@pytest.mark.parametrize("name", ["fomaml", "reptile", "meta-sgd", "gbml", "pooled"])
def test_before_training_the_adaptation_is_gradient_steps(name: str, spaces: ShotSpaces) -> None:
    expected = adapted(built("maml", spaces, inner_lr=0.1), 3).parameters
    close(adapted(built(name, spaces, inner_lr=0.1), 3).parameters, expected)


@pytest.mark.parametrize("spaces", [SPACES, CLASSES], ids=["vectors", "images"])
def test_an_lstm_that_keeps_everything_takes_gradient_steps(spaces: ShotSpaces) -> None:
    learner = built("meta-lstm", spaces, rule_units=4)
    with torch.no_grad():  # gates that read nothing: forget 1, input 0.1
        own = learner.parameters[learner.network.size :]
        own[:] = 0.0
        own[-2:] = torch.tensor([50.0, np.log(0.1 / 0.9)])
    close(adapted(learner, 3).parameters, adapted(built("maml", spaces, inner_lr=0.1), 3).parameters)


def test_the_lstm_remembers_between_steps_and_calls() -> None:
    learner = built("meta-lstm", rule_units=4)
    with torch.no_grad():
        learner.parameters += torch.tensor(np.random.default_rng(3).normal(size=learner.parameters.shape))
    support, _ = drawn()
    state = adapted(learner, 1)
    again = learner.adapt_in_steps(state, support, 2)
    close(again.parameters, adapted(learner, 3).parameters)
    fresh = AdaptedNetwork(state.parameters, learner.begin(batch().tasks, 1).memory)
    assert not torch.allclose(learner.adapt_in_steps(fresh, support, 2).parameters, again.parameters)


@pytest.mark.parametrize(("name", "settings"), [("meta-lstm", {"rule_units": 4}), ("gbml", {"inner_lr": 0.1})])
def test_first_order_differs_in_the_meta_gradient_alone(name: str, settings: dict[str, Any]) -> None:
    exact, first = (built(name, inner_steps=2, first_order=order, **settings) for order in (False, True))
    with torch.no_grad():
        for learner in (exact, first):
            learner.parameters += 0.3 * torch.tensor(np.random.default_rng(3).normal(size=learner.parameters.shape))
    close(adapted(exact, 2).parameters, adapted(first, 2).parameters)
    examples = [exact.examples(shots) for shots in drawn()]
    (loss, gradient), (same, other) = (one._outer_gradient(*examples) for one in (exact, first))
    close(loss, same)
    assert (gradient - other).norm() > 1e-4 * gradient.norm() > 0
    torch.testing.assert_close(gradient[-2:], finite_difference(exact, examples), rtol=1e-8, atol=1e-10)


def finite_difference(learner: Any, examples: list[Examples]) -> Tensor:
    """Derivative of the objective in the last two meta-parameters, by a five-point stencil."""
    found, h = [], 1e-3
    for i in (-2, -1):
        total = 0.0
        for steps, weight in ((-2, 1), (-1, -8), (1, 8), (2, -1)):
            moved = learner.parameters.detach().clone()
            moved[i] += steps * h
            total += weight * learner._loss(moved, *examples).item() / (12 * h)
        found.append(total)
    return torch.tensor(found, dtype=torch.float64)


def test_gbml_reads_moments_of_the_support_if_told_to() -> None:
    x = torch.tensor([[[1.0, 5.0], [3.0, 5.0]]])
    found = shot_statistics(Examples(x, torch.tensor([[[0.0], [4.0]]])))
    close(found, torch.tensor([[2.0, 5.0, 1.0, 0.0, 2.0, 2.0]]))
    image = torch.arange(8.0).view(1, 2, 2, 2, 1)  # two images of two channels and two pixels
    found = shot_statistics(Examples(image, torch.ones(1, 2, 1)))
    close(found[0, :2], torch.tensor([(0 + 1 + 4 + 5) / 4, (2 + 3 + 6 + 7) / 4]))
    for spaces in (SPACES, CLASSES):
        learner = built("gbml", spaces, statistics=True, inner_lr=0.1)
        close(adapted(learner, 2).parameters, adapted(built("maml", spaces, inner_lr=0.1), 2).parameters)
        with torch.no_grad():
            learner.parameters += 0.1
        assert not torch.equal(adapted(learner, 2).parameters, adapted(built("gbml", spaces), 2).parameters)


@pytest.mark.parametrize("name", RULES)
def test_predictions_do_not_depend_on_other_queries_or_tasks(name: str) -> None:
    for spaces in (SPACES, CLASSES):
        learner, (_, queries) = built(name, spaces), drawn(spaces)
        state = adapted(learner, 2)
        together = learner.predict(state, queries.x)
        assert together.shape == queries.y.shape
        close(learner.predict(state, queries.x[:, :, 1:2]), together[:, :, 1:2])
        alone = learner.predict(state.tasks(slice(2, 3)), queries.x[2:3])
        close(alone, together[2:3])


@pytest.mark.parametrize("name", RULES)
def test_a_state_stays_the_same_when_the_learner_changes(name: str) -> None:
    learner, (_, queries) = built(name), drawn()
    state = learner.begin(batch().tasks, 1)
    before = learner.predict(state, queries.x)
    learner.meta_update(batch())
    assert torch.equal(learner.predict(state, queries.x), before)
    assert not torch.equal(learner.predict(learner.begin(batch().tasks, 1), queries.x), before)


@pytest.mark.parametrize("name", RULES)
def test_states_are_cut_and_joined_along_the_tasks(name: str) -> None:
    learner, (_, queries) = built(name), drawn()
    state = adapted(learner, 2)
    again = AdaptedNetwork.join([state.tasks(slice(0, 2)), state.tasks(slice(2, M))])
    support, _ = drawn()
    for one, other in ((state, again), *((learner.adapt(s, support) for s in (state, again)),)):
        assert torch.equal(learner.predict(one, queries.x), learner.predict(other, queries.x))


@pytest.mark.parametrize("name", RULES)
def test_any_number_of_shots_will_do(name: str) -> None:
    learner, (support, queries) = built(name), drawn()
    state = learner.begin(batch().tasks, 1)
    for count in (1, 3):
        some = learner.adapt(state, support.first(count))
        assert learner.predict(some, queries.x).isfinite().all()
        assert not torch.equal(some.parameters, state.parameters)
