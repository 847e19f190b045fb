"""Every registered few-shot learner: states are values, predictions, any number of shots, saving and resuming."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

import metarl
from metarl.few_shot.class_tasks import ClassTasks, draw_of_classes
from metarl.few_shot.family import FewShotFamily
from metarl.few_shot.shots import Shots, ShotSpaces
from metarl.few_shot.source import ShotSampler
from metarl.learning.networks.cells.base import leaves
from metarl.memory import RunSize, agent_memory
from metarl.registry import LEARNERS, agent_class, names
from metarl.seeding import Streams
from metarl.tasks import ContinuousTasks, uniform
from metarl.training import meta_train

CLASSES_ONLY = {"matching", "prototypical"}
SMALL = {"hidden": (8, 8), "channels": 3}


def lines() -> FewShotFamily:
    """Linear functions of two inputs with two outputs."""
    slope = uniform("slope", -1.0, 1.0, size=4, meaning="matrix")

    def draw(tasks, shots, queries, rng):
        x = rng.standard_normal((len(tasks), 1, shots + queries, 2)).astype(np.float32)
        matrix = np.array([task["slope"] for task in tasks], np.float32).reshape(-1, 1, 2, 2)
        y = x @ matrix
        return Shots(x[:, :, :shots], y[:, :, :shots]), Shots(x[:, :, shots:], y[:, :, shots:])

    return FewShotFamily(
        name="lines",
        summary="linear functions",
        distribution=ContinuousTasks("lines", (slope,)),
        spaces=ShotSpaces(x_shape=(2,), y_size=2, classification=False, shots=4, queries=6),
        draw=draw,
        most_shots=50,
    )


def blobs(x_shape: tuple[int, ...]) -> FewShotFamily:
    """Ten classes around a centre each, as vectors or images."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((10, 1, *x_shape))
    examples = list((centres + 0.5 * rng.standard_normal((10, 12, *x_shape))).astype(np.float32))

    def draw(tasks, shots, queries, rng):
        return draw_of_classes(examples, tasks, shots, queries, rng)

    return FewShotFamily(
        name="blobs",
        summary="clouds of points",
        distribution=ClassTasks("blobs", 3, tuple(range(6)), (6, 7, 8, 9)),
        spaces=ShotSpaces(x_shape=x_shape, y_size=3, classification=True, shots=2, queries=3),
        draw=draw,
        most_shots=9,
    )


FAMILIES = {"lines": lines(), "blobs": blobs((3,)), "pictures": blobs((1, 8, 8))}
CASES = [
    (name, family) for name in names(LEARNERS) for family in FAMILIES if family != "lines" or name not in CLASSES_ONLY
]


@pytest.fixture(params=CASES, ids="-".join)
def case(request: pytest.FixtureRequest) -> tuple[str, FewShotFamily]:
    return request.param[0], FAMILIES[request.param[1]]


def made(name: str, family: FewShotFamily, seed: int = 0):
    settings = {key: value for key, value in SMALL.items() if hasattr(agent_class(name, LEARNERS).Config(), key)}
    return metarl.make_agent(name, family.spaces, seed=seed, **settings)


def trained(name: str, family: FewShotFamily, iterations: int) -> Iterator:
    """Trains for some iterations; yields learner and streams after each."""
    learner, streams = made(name, family), Streams(3)
    for _ in meta_train(learner, ShotSampler(family, 4), family.distribution, streams, iterations=iterations):
        yield learner, streams


def test_predictions_and_states_fit_any_number_of_shots(case) -> None:
    name, family = case
    learner, spaces = made(name, family), family.spaces
    tasks = family.distribution.train_tasks(3)
    support, queries = family.draw(tasks, 3, 2, np.random.default_rng(1))
    before = learner.begin(tasks, 1)
    for count in (0, 1, 3):
        state = learner.adapt(before, support.first(count * spaces.per_shot)) if count else before
        predicted = learner.predict(state, queries.x)
        assert predicted.shape == queries.y.shape
        assert not predicted.requires_grad
        assert torch.isfinite(predicted).all()
        if spaces.classification:
            assert (predicted >= 0).all()
            torch.testing.assert_close(predicted.sum(dim=-1), torch.ones(predicted.shape[:-1]))
        alone = learner.predict(state, queries.x[:, :, :1])
        torch.testing.assert_close(alone, predicted[:, :, :1], atol=1e-5, rtol=1e-4)
    again = learner.predict(learner.adapt(before, support), queries.x)
    assert torch.equal(again, learner.predict(learner.adapt(before, support), queries.x)), "predictions have no noise"


def test_adapting_leaves_the_state_and_the_learner_as_they_are(case) -> None:
    name, family = case
    learner = made(name, family)
    tasks = family.distribution.train_tasks(3)
    support, queries = family.draw(tasks, 2, 2, np.random.default_rng(1))
    state = learner.begin(tasks, 1)
    first, arrays = learner.predict(state, queries.x), {n: t.clone() for n, t in learner.tensors().items()}
    adapted = learner.adapt(state, support)
    changed = learner.predict(adapted, queries.x)
    assert torch.equal(learner.predict(state, queries.x), first)
    assert not torch.equal(changed, first)
    assert all(torch.equal(t, arrays[n]) for n, t in learner.tensors().items())


def test_a_state_is_cut_and_joined_along_the_tasks(case) -> None:
    name, family = case
    learner = made(name, family)
    tasks = family.distribution.train_tasks(4)
    support, queries = family.draw(tasks, 2, 2, np.random.default_rng(1))
    whole = learner.adapt(learner.begin(tasks, 1), support)
    parts = [whole.tasks(slice(0, 1)), whole.tasks(slice(1, 4))]
    joined = type(whole).join(parts)
    assert torch.equal(learner.predict(joined, queries.x), learner.predict(whole, queries.x))
    one = learner.predict(parts[0], queries.x[:1])
    torch.testing.assert_close(one, learner.predict(whole, queries.x)[:1], atol=1e-5, rtol=1e-4)
    assert all(leaf.shape[0] == 1 for leaf in leaves(tuple(vars(parts[0]).values())))


def test_tasks_do_not_see_each_other(case) -> None:
    name, family = case
    learner = made(name, family)
    tasks = family.distribution.train_tasks(3)
    support, queries = family.draw(tasks, 2, 2, np.random.default_rng(1))
    predicted = learner.predict(learner.adapt(learner.begin(tasks, 1), support), queries.x)
    other, _ = family.draw(tasks, 2, 2, np.random.default_rng(2))
    mixed = Shots(np.concatenate([support.x[:1], other.x[1:]]), np.concatenate([support.y[:1], other.y[1:]]))
    changed = learner.predict(learner.adapt(learner.begin(tasks, 1), mixed), queries.x)
    torch.testing.assert_close(changed[0], predicted[0], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(changed[1:], predicted[1:])


def test_a_resumed_training_equals_an_uninterrupted_one(case) -> None:
    name, family = case
    *_, (whole, _) = trained(name, family, 4)
    steps = trained(name, family, 4)
    next(steps)
    first, streams = next(steps)
    other, resumed = made(name, family, seed=9), Streams(0)
    other.restore(first.tensors(), first.counters())
    resumed.restore(streams.state())
    start = metarl.training.Progress(2, 0, False)
    sampler = ShotSampler(family, 4)
    for _ in meta_train(other, sampler, family.distribution, resumed, iterations=4, start=start):
        pass
    assert other.tensors().keys() == whole.tensors().keys()
    assert all(torch.equal(t, other.tensors()[n]) for n, t in whole.tensors().items())
    assert other.counters() == whole.counters()


def test_training_updates_every_part_of_the_parameters(case) -> None:
    name, family = case
    before = made(name, family).tensors()["parameters"]
    *_, (learner, _) = trained(name, family, 3)
    after = learner.tensors()["parameters"]
    assert (before != after).float().mean() > 0.1  # one step reads no hidden state of meta-lstm
    assert torch.isfinite(after).all()


def test_a_learner_that_adapts_in_steps_takes_the_number_that_is_asked_for(case) -> None:
    name, family = case
    learner = made(name, family)
    tasks = family.distribution.train_tasks(2)
    support, queries = family.draw(tasks, 2, 2, np.random.default_rng(1))
    begin = learner.begin(tasks, 1)
    if not learner.adapts_in_steps:
        assert not hasattr(learner.config, "inner_steps")
        return
    own = learner.predict(learner.adapt(begin, support), queries.x)
    asked = learner.adapt_in_steps(begin, support, learner.config.inner_steps)
    assert torch.equal(learner.predict(asked, queries.x), own)
    more = learner.adapt_in_steps(begin, support, learner.config.inner_steps + 2)
    assert not torch.equal(learner.predict(more, queries.x), own)


def test_the_memory_that_a_run_needs_is_an_estimate(case) -> None:
    name, family = case
    kind = agent_class(name, LEARNERS)
    config = kind.Config()
    sizes = [RunSize(tasks=tasks, episodes=1, iterations=10) for tasks in (10, 1000)]
    needs = [sum(need.num_bytes for need in agent_memory(kind, config, family.spaces, size)) for size in sizes]
    assert 0 <= needs[0] <= needs[1]


def test_a_saved_state_is_a_file_of_arrays(case, tmp_path) -> None:
    from metarl.storage import read_tensors

    name, family = case
    learner = made(name, family)
    tasks = family.distribution.train_tasks(2)
    support, _ = family.draw(tasks, 2, 2, np.random.default_rng(1))
    learner.save_policy(learner.adapt(learner.begin(tasks, 1), support), tmp_path / "state.safetensors", task=1)
    arrays, about = read_tensors(tmp_path / "state.safetensors")
    assert torch.equal(arrays["parameters"], learner.tensors()["parameters"])
    assert about["agent"]
