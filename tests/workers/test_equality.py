"""Results do not depend on who plays the episodes: parameters and metrics, bit for bit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import metarl
from metarl.learning.networks.cells.table import CELLS
from metarl.workers import choice
from metarl.workers import pool as pool_module
from metarl.workers.pool import Processes
from metarl.workers.worker import Worker

SIZES: dict[str, Any] = {"tasks": 5, "episodes": 2, "horizon": 12, "blocks": 4, "iterations": 5}
SIZES |= {"eval_every": 2, "eval_tasks": 6, "checkpoint_every": 1}
SETTINGS: dict[str, dict[str, Any]] = {
    "maml-trpo": {"hidden": (8,)},
    "rl2": {},
    "pearl": {"warmup_iterations": 2, "gradient_steps": 4, "batch": 16, "hidden": (16,)},
    "recurrent-sac": {"warmup_iterations": 2, "gradient_steps": 3, "batch_trials": 8, "units": 16, "hidden": (16,)},
    "varibad": {"vae_updates": 2, "vae_trials": 2},
    "rma": {"history_updates": 2, "history_trials": 3, "units": 8},
    "meta-lstm": {"hidden": (8,), "inner_steps": 2},
    "gbml": {"hidden": (8,), "inner_steps": 2},
    "meta-networks": {"hidden": (8,)},
}
CHEETAH, GYMNASIUM, ARM = "half-cheetah-vel", "still_robot:still", "ml1:reach-v3"
SLOW = pytest.mark.slow


@pytest.fixture
def train(tmp_path: Path) -> Callable[..., Path]:
    """Trains with so many workers, in a folder named after them."""

    def run(agent: str, family: str, workers: int | str, **more: Any) -> Path:
        settings = {"out": tmp_path / f"run-{workers}", **SIZES, **SETTINGS[agent], **more}
        return metarl.train(agent, family, workers=workers, track="none", **settings).out

    return run


@pytest.mark.parametrize(
    ("agent", "family", "counts"),
    [
        ("maml-trpo", CHEETAH, (1, 2, 3)),
        ("rl2", CHEETAH, (2,)),
        ("pearl", CHEETAH, (2,)),
        ("recurrent-sac", CHEETAH, (2,)),
        ("varibad", CHEETAH, (2,)),
        ("rma", CHEETAH, (2,)),
        ("meta-lstm", CHEETAH, (2,)),
        ("gbml", CHEETAH, (2,)),
        ("meta-networks", CHEETAH, (2,)),
        ("maml-trpo", GYMNASIUM, (2,)),
        *(pytest.param(agent, CHEETAH, (1, 3), marks=SLOW) for agent in ("rl2", "rma", "pearl", "varibad")),
        *(pytest.param(agent, GYMNASIUM, (1, 3), marks=SLOW) for agent in ("rl2", "pearl", "varibad")),
        pytest.param("rl2", ARM, (2, 3), marks=SLOW),
    ],
)
def test_a_run_is_the_same_with_any_number_of_workers(
    train: Callable[..., Path], assert_same_run, agent: str, family: str, counts: tuple[int, ...]
) -> None:
    alone = train(agent, family, 0)
    for workers in counts:
        assert_same_run(alone, train(agent, family, workers))


@pytest.mark.parametrize(
    ("agent", "memory"),
    [
        *(("rl2", {"cell": cell}) for cell in CELLS if cell != "gru"),
        ("rl2", {"aggregate": "max"}),
        ("rl2", {"head": "hypernetwork", "hidden": (8,)}),
        ("varibad", {"cell": "attention", "attention_window": 5}),
        ("rma", {"history_encoder": "gru", "phase_two": 0.5}),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(map(str, value.values())),
)
def test_every_memory_travels_to_workers_and_back(
    train: Callable[..., Path], assert_same_run, agent: str, memory: dict[str, Any]
) -> None:
    small = {"iterations": 2, "eval_every": 0, "units": 16, **memory}
    small |= {} if agent == "rma" else {"encoder": (8,)}
    assert_same_run(train(agent, CHEETAH, 0, **small), train(agent, CHEETAH, 2, **small))


def test_a_run_started_with_three_workers_and_resumed_with_one_is_the_same(train, assert_same_run) -> None:
    alone = train("maml-trpo", CHEETAH, 0)
    out = train("maml-trpo", CHEETAH, 3, iterations=3)
    train("maml-trpo", CHEETAH, 1, out=out, resume=True)
    assert_same_run(alone, out)


def test_the_switch_to_workers_in_the_midst_of_a_run_changes_no_bit(
    train, assert_same_run, soon, monkeypatch: pytest.MonkeyPatch
) -> None:
    here: list[int] = []
    there: list[int] = []
    play, give = Processes._play_here, Worker.give

    def counted_play(pool: Processes, *words: Any) -> None:
        play(pool, *words)
        here.append(len(there))
        if len(here) == 10:
            soon(lambda: all(worker.connection.poll() for worker in pool._workers))

    def counted_give(worker: Worker, number: int, *words: Any) -> None:
        there.append(number)
        give(worker, number, *words)

    monkeypatch.setattr(Processes, "_play_here", counted_play)
    monkeypatch.setattr(Worker, "give", counted_give)
    monkeypatch.setattr(pool_module, "PAYS_AFTER", 0.0)
    monkeypatch.setattr(choice, "available_cores", lambda: 2)
    out = train("maml-trpo", CHEETAH, "auto")
    assert 1 <= len(here) <= 10
    assert not any(here), "this process does not play any more once a worker has"
    assert len(there) > 20
    assert_same_run(train("maml-trpo", CHEETAH, 0), out)


def test_an_evaluation_is_the_same_with_workers(train, run_metarl) -> None:
    out = train("maml-trpo", CHEETAH, 0, iterations=1)
    results = []
    for workers in (0, 2):
        words = ("evaluate", out, "--tasks", 12, "--episodes", 2, "--workers", workers, "--json")
        code, text, err = run_metarl(*words)
        assert code == 0, err
        found = json.loads(text.splitlines()[-1])
        results.append({name: value for name, value in found.items() if "second" not in name})
    assert results[0] == results[1]
