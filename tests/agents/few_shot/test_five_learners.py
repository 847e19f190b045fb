"""Promises of the learners by metric, by amortisation and by a learned prior, on small families."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from metarl.config import check
from metarl.few_shot.class_tasks import ClassTasks, draw_of_classes
from metarl.few_shot.evaluation import evaluate_shots
from metarl.few_shot.family import FewShotFamily
from metarl.few_shot.shots import Shots, ShotSpaces
from metarl.registry import LEARNERS, agent_class, find_family
from metarl.seeding import Streams
from metarl.types import MetaBatch

BY_METRIC = ("matching", "prototypical")
BY_MODEL = ("versa", "amortised-maml", "neural-process")
SMALL = {
    "matching": {"hidden": (16,), "embedding": 8},
    "prototypical": {"hidden": (16,), "embedding": 8},
    "versa": {"hidden": (16,), "features": 8, "amortisation": (16,)},
    "amortised-maml": {"hidden": (16,), "prediction_samples": 4, "inner_steps": 2},
    "neural-process": {"hidden": (16,), "encoding": 8, "features": 8},
}
CHANNELS = {"channels": 4}
CLUSTERS = """
import numpy as np
from metarl.few_shot.class_tasks import ClassTasks, draw_of_classes
from metarl.few_shot.family import FewShotFamily
from metarl.few_shot.shots import ShotSpaces


def clusters():
    rng = np.random.default_rng(0)
    examples = rng.normal(size=(12, 1, 4)) + 0.1 * rng.normal(size=(12, 30, 4))
    spaces = ShotSpaces(x_shape=(4,), y_size=3, classification=True, shots=2, queries=3)
    tasks = ClassTasks("clusters", 3, tuple(range(8)), tuple(range(8, 12)))
    draw = lambda *words: draw_of_classes(examples, *words)
    return FewShotFamily(name="clusters", summary="clusters", distribution=tasks, spaces=spaces, draw=draw)
"""


def clusters(shape: tuple[int, ...] = (4,), spread: float = 0.3) -> FewShotFamily:
    """Classes of normally distributed inputs; five of 20 are withheld."""
    rng = np.random.default_rng(0)
    examples = rng.normal(size=(20, 1, *shape)) + spread * rng.normal(size=(20, 20, *shape))
    return FewShotFamily(
        name="clusters",
        summary="clusters",
        distribution=ClassTasks("clusters", 3, tuple(range(15)), tuple(range(15, 20))),
        spaces=ShotSpaces(x_shape=shape, y_size=3, classification=True, shots=3, queries=4),
        draw=lambda tasks, shots, queries, rng: draw_of_classes(examples, tasks, shots, queries, rng),
    )


def built(name: str, family: FewShotFamily, **changes: Any) -> Any:
    """A small learner."""
    kind = agent_class(name, LEARNERS)
    config = kind.Config(**{**SMALL[name], **changes})
    check(config)
    return kind.build(config, family.spaces, device=torch.device("cpu"), rng=np.random.default_rng(0))


def trained(learner: Any, family: FewShotFamily, iterations: int, tasks: int = 10) -> None:
    """Trains on new tasks."""
    rng = np.random.default_rng(1)
    for _ in range(iterations):
        drawn = family.distribution.sample(tasks, rng)
        collects = family.draw(drawn, family.spaces.shots, family.spaces.queries, rng)
        learner.meta_update(MetaBatch(tuple(drawn), list(collects)))


FAMILIES = [("clusters", name) for name in (*BY_METRIC, *BY_MODEL)]
FAMILIES += [("images", name) for name in (*BY_METRIC, *BY_MODEL)]
FAMILIES += [("sinusoid", name) for name in BY_MODEL]


def family_of(kind: str) -> FewShotFamily:
    if kind == "sinusoid":
        return find_family("sinusoid")  # type: ignore[return-value]
    return clusters((1, 8, 8)) if kind == "images" else clusters()


@pytest.mark.parametrize(("kind", "name"), FAMILIES)
def test_any_number_of_shots_and_predictions_of_one_query_at_a_time(kind: str, name: str) -> None:
    family = family_of(kind)
    learner = built(name, family, **CHANNELS)
    trained(learner, family, 2, tasks=2)
    tasks = family.distribution.held_out(3)
    support, queries = family.draw(tasks, 7, 4, np.random.default_rng(2))
    per_shot = family.spaces.per_shot
    for shots in (0, 1, 2, 7):
        state = learner.begin(tasks, 1)
        if shots:
            state = learner.adapt(state, support.first(shots * per_shot))
        together = learner.predict(state, queries.x)
        assert together.shape == queries.y.shape
        assert torch.isfinite(together).all()
        assert torch.equal(together, learner.predict(state, queries.x)), "predictions repeat"
        for i in (0, queries.x.shape[2] - 1):
            alone = learner.predict(state, queries.x[:, :, i : i + 1])
            assert torch.allclose(alone, together[:, :, i : i + 1], rtol=0, atol=1e-5)
        cut = state.tasks(slice(1, 2))
        assert torch.allclose(learner.predict(cut, queries.x[1:2]), together[1:2], rtol=0, atol=1e-5)
        again = type(state).join([state.tasks(slice(0, 1)), state.tasks(slice(1, 3))])
        assert torch.equal(learner.predict(again, queries.x), together)


@pytest.mark.parametrize("name", [*BY_METRIC, "versa", "neural-process"])
def test_classes_are_equally_probable_before_adaptation(name: str) -> None:
    family = clusters()
    learner = built(name, family)
    trained(learner, family, 2, tasks=2)
    tasks = family.distribution.held_out(2)
    _, queries = family.draw(tasks, 1, 4, np.random.default_rng(2))
    predicted = learner.predict(learner.begin(tasks, 1), queries.x)
    assert torch.allclose(predicted, torch.full_like(predicted, 1 / 3), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", [*BY_METRIC, *BY_MODEL])
def test_predictions_are_the_same_for_any_order_of_the_support(name: str) -> None:
    family = clusters()
    learner = built(name, family)
    tasks = family.distribution.held_out(2)
    support, queries = family.draw(tasks, 3, 4, np.random.default_rng(2))
    order = np.random.default_rng(3).permutation(9)
    shuffled = Shots(support.x[:, :, order], support.y[:, :, order], score_name="accuracy")
    one, other = (learner.predict(learner.adapt(learner.begin(tasks, 1), s), queries.x) for s in (support, shuffled))
    assert torch.allclose(one, other, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", [*BY_METRIC, *BY_MODEL])
def test_a_short_training_beats_chance_on_withheld_classes(name: str) -> None:
    family = clusters()
    learner = built(name, family, learning_rate=3e-3)
    trained(learner, family, 300 if name in BY_METRIC else 400)
    tasks = family.distribution.held_out(40)
    found = evaluate_shots(learner, family, tasks, Streams.for_evaluation(0, 0), shots=(0, 3)).scores.mean(axis=0)
    assert found[1] > (0.9 if name in BY_METRIC else 0.6)
    assert found[1] > found[0] + 0.2


@pytest.mark.parametrize("name", BY_MODEL)
def test_a_short_training_beats_the_pooled_network_on_sinusoids(name: str) -> None:
    family = family_of("sinusoid")
    sizes: dict[str, Any] = {"features": 64, "amortisation": (64, 64)} if name == "versa" else {}
    learner = built(name, family, hidden=(40, 40), learning_rate=2e-3, **sizes)
    trained(learner, family, 1200 if name == "versa" else 600, tasks=20)
    tasks = family.distribution.held_out(40)
    found = evaluate_shots(learner, family, tasks, Streams.for_evaluation(0, 0), shots=(0, 10)).scores.mean(axis=0)
    assert found[1] < 0.75 * found[0]
    # No function of x alone has a lower error than half the mean squared amplitude, less what the mean wave explains.
    assert found[1] < 2.6


def test_steps_of_amortised_maml_can_be_varied() -> None:
    family = family_of("sinusoid")
    learner = built("amortised-maml", family)
    tasks = family.distribution.held_out(2)
    support, _ = family.draw(tasks, 5, 4, np.random.default_rng(2))
    state, by_step = learner.begin(tasks, 1), learner.begin(tasks, 1)
    for _ in range(3):
        by_step = learner.adapt_in_steps(by_step, support, 1)
    assert torch.equal(learner.adapt_in_steps(state, support, 3).flat, by_step.flat)
    assert torch.equal(learner.adapt(state, support).flat, learner.adapt_in_steps(state, support, 2).flat)


@pytest.fixture
def own_family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A family of clusters in a module of the working folder."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "own_clusters.py").write_text(CLUSTERS, encoding="utf-8")
    yield "own_clusters:clusters"
    sys.modules.pop("own_clusters", None)


@pytest.mark.parametrize(("kind", "name"), [row for row in FAMILIES if row[0] != "images"])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(
    run_metarl: Any, assert_same_run: Any, tmp_path: Path, own_family: str, kind: str, name: str
) -> None:
    spec = own_family if kind == "clusters" else kind
    # Without annealing, which depends on the number of iterations.
    shared = ("--tasks", "3", "--eval-every", "2", "--eval-tasks", "2", "--agent.hidden", "8", "--agent.no-anneal")
    words = ("train", name, spec, *shared)
    for out, iterations in (("whole", "4"), ("parts", "2")):
        code, _, err = run_metarl(*words, "--out", tmp_path / out, "--iterations", iterations)
        assert code == 0, err
    code, _, err = run_metarl("train", name, spec, "--out", tmp_path / "parts", "--resume", "--iterations", "4")
    assert (code, "resuming after iteration 2" in err) == (0, True), err
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize("name", BY_METRIC)
def test_a_regression_is_refused_in_one_line(run_metarl: Any, tmp_path: Path, name: str) -> None:
    code, out, err = run_metarl("train", name, "sinusoid", "--out", tmp_path / "run")
    assert code == 2
    assert not out
    (line,) = err.strip().splitlines()
    assert line.startswith(f"metarl: error: {name}: got a family with real outputs (a regression), expected one with")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("matching", "temperature", "0"),
        ("prototypical", "embedding", "0"),
        ("versa", "samples", "0"),
        ("amortised-maml", "kl-weight", "-1"),
        ("neural-process", "least-std", "0"),
    ],
)
def test_a_setting_out_of_range_is_refused_in_one_line(
    run_metarl: Any, tmp_path: Path, own_family: str, name: str, option: str, value: str
) -> None:
    code, _, err = run_metarl("train", name, own_family, "--out", tmp_path / "run", f"--agent.{option}", value)
    assert code == 2
    assert len(err.strip().splitlines()) == 1
    assert f"agent.{option.replace('-', '_')}: got {value}" in err


@pytest.mark.parametrize(("kind", "name"), [row for row in FAMILIES if row[0] != "images"])
def test_networks_larger_than_the_memory_are_refused_in_one_line(
    run_metarl: Any, tmp_path: Path, own_family: str, kind: str, name: str
) -> None:
    spec = own_family if kind == "clusters" else kind
    large = ("--agent.hidden", *["65536"] * 40)
    code, _, err = run_metarl("train", name, spec, "--out", tmp_path / "run", *large)
    assert code == 2
    (line,) = err.strip().splitlines()
    assert line.startswith("metarl: error: memory: ")
    assert "--agent.hidden" in line


def test_more_ways_than_classes_are_refused() -> None:
    with pytest.raises(ValueError, match="got ways=6, expected 2 to 5"):
        ClassTasks("clusters", 6, tuple(range(15)), tuple(range(15, 20)))
