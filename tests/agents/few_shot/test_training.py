"""Runs of few-shot learners with an update rule: resumed, annealed, better than the pooled network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from metarl.envs.few_shot.sinusoid import sinusoid
from metarl.few_shot.evaluation import evaluate_shots
from metarl.few_shot.shots import ShotSpaces
from metarl.few_shot.source import ShotSampler
from metarl.memory import RunSize
from metarl.registry import LEARNERS, agent_class
from metarl.seeding import Streams
from metarl.tasks import split_tasks
from metarl.training import meta_train

RULES = ("maml", "fomaml", "reptile", "meta-sgd", "meta-lstm", "gbml", "pooled")
SMALL = (
    "--tasks",
    "3",
    "--eval-every",
    "2",
    "--eval-tasks",
    "2",
    "--checkpoint-every",
    "2",
    "--agent.hidden",
    "8",
    "7",
)


@pytest.mark.parametrize("name", RULES)
def test_four_iterations_are_two_and_two_bit_for_bit(name: str, run_metarl, assert_same_run, tmp_path: Path) -> None:
    base = ("train", name, "sinusoid", *SMALL, "--agent.no-anneal")
    assert run_metarl(*base, "--out", tmp_path / "whole", "--iterations", "4")[0] == 0
    assert run_metarl(*base, "--out", tmp_path / "parts", "--iterations", "2")[0] == 0
    resume = ("train", name, "sinusoid", "--out", tmp_path / "parts", "--resume", "--iterations", "4")
    code, _, err = run_metarl(*resume)
    assert code == 0, err
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_an_annealed_step_size_falls_to_zero(run_metarl, logged, tmp_path: Path) -> None:
    base = ("train", "maml", "sinusoid", *SMALL, "--iterations", "4", "--agent.learning-rate", "0.008")
    assert run_metarl(*base, "--agent.anneal", "--out", tmp_path / "run")[0] == 0
    found = [row["update/learning_rate"] for row in logged(tmp_path / "run")]
    assert found == pytest.approx([0.008, 0.006, 0.004, 0.002])
    assert run_metarl(*base, "--agent.no-anneal", "--out", tmp_path / "constant")[0] == 0
    assert [row["update/learning_rate"] for row in logged(tmp_path / "constant")] == [0.008] * 4


def trained_error(name: str, iterations: int, **settings: Any) -> float:
    """Mean squared error on tuning waves after adaptation to 10 shots, of a learner that saw the same waves."""
    family, streams, kind = sinusoid(), Streams(0), agent_class(name, LEARNERS)
    config = kind.Config(**settings)
    learner: Any = kind.build(config, family.spaces, device=torch.device("cpu"), rng=streams.learner)
    sampler = ShotSampler(family, 10)
    for _ in meta_train(learner, sampler, family.distribution, streams, iterations=iterations):
        pass
    tasks = split_tasks(family.distribution, "tune", 40)
    return float(evaluate_shots(learner, family, tasks, Streams(1), shots=[10], queries=50).scores.mean())


@pytest.fixture(scope="module")
def error_of_pooled() -> float:
    torch.set_num_threads(1)
    return min(
        trained_error("pooled", 300, learning_rate=0.003, inner_lr=rate, inner_steps=3) for rate in (0.003, 0.01)
    )


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("maml", {"learning_rate": 0.003}),
        ("fomaml", {"learning_rate": 0.003, "inner_steps": 3}),
        ("reptile", {}),
        ("meta-sgd", {"learning_rate": 0.003}),
        ("meta-lstm", {"learning_rate": 0.003, "rule_units": 4}),
        ("gbml", {"learning_rate": 0.003, "rule_units": 4}),
    ],
)
def test_a_short_training_is_better_than_the_pooled_network(
    name: str, settings: dict[str, Any], error_of_pooled: float
) -> None:
    assert trained_error(name, 300, **settings) < 0.9 * error_of_pooled


@pytest.mark.parametrize("name", RULES)
def test_the_memory_of_a_run_grows_with_tasks_steps_and_rule(name: str) -> None:
    kind: Any = agent_class(name, LEARNERS)
    spaces = ShotSpaces(x_shape=(3,), y_size=2, classification=False, shots=5, queries=5)

    def needed(tasks: int, steps: int, **settings: Any) -> float:
        config = kind.Config(inner_steps=steps, **settings)
        [need] = kind.memory_needed(config, spaces, RunSize(tasks=tasks, episodes=1, iterations=9, gpu=False))
        return float(need.num_bytes)

    assert needed(100, 2) > needed(10, 2)
    assert needed(100, 9) > needed(100, 2)
    if hasattr(kind.Config, "rule_units"):
        assert needed(100, 2, rule_units=50) > 2 * needed(100, 2, rule_units=20)


@pytest.mark.parametrize("name", RULES)
def test_a_learner_takes_no_random_numbers_of_torch(name: str) -> None:
    before, kind = torch.get_rng_state(), agent_class(name, LEARNERS)
    built: Any = [
        kind.build(kind.Config(), sinusoid().spaces, device=torch.device("cpu"), rng=np.random.default_rng(seed))
        for seed in (0, 0, 1)
    ]
    assert torch.equal(built[0].parameters, built[1].parameters)
    assert not torch.equal(built[0].parameters, built[2].parameters)
    assert torch.equal(before, torch.get_rng_state())
