"""Tasks of the benchmarks, and the cache of their goals."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import metaworld
import numpy as np
import pytest

from metarl.envs.metaworld import families, goals
from metarl.envs.metaworld.classes import MANIPULATIONS
from metarl.envs.metaworld.families import Benchmark, BenchmarkTasks, ml, ml1
from metarl.tasks import split_name, split_tasks
from metarl.types import Task


def made_up(train: int, held_out: int) -> BenchmarkTasks:
    """Ten classes for training, of which the first is also held out, with made-up goals."""
    names = sorted(MANIPULATIONS)[:10]
    goals = SimpleNamespace(training=train, states=range(train + held_out), targets=np.zeros((train + held_out, 3)))
    benchmark = SimpleNamespace(
        classes=(names, names[:1]), held_out_classes=names[:1], goals=dict.fromkeys(names, goals)
    )
    return BenchmarkTasks("f", cast(Any, benchmark))


def test_goals_equal_meta_worlds() -> None:
    family, made = ml1("reach-v3"), metaworld.ML1("reach-v3", seed=42)
    for ours, theirs in (
        (family.distribution.train_tasks(50), made.train_tasks),
        (family.distribution.held_out(), made.test_tasks),
    ):
        assert len(ours) == len(theirs) == 50
        env = made.train_classes["reach-v3"]()
        for task, upstream in list(zip(ours, theirs, strict=True))[::10]:
            env.set_task(upstream)
            env.reset()
            assert np.array_equal(task["target"], env._target_pos)
    assert not set(family.distribution.train_tasks(50)) & set(family.distribution.held_out())


@pytest.mark.usefixtures("few_goals")
def test_another_seed_gives_the_goals_that_it_gives_there() -> None:
    made = metaworld.ML1("reach-v3", seed=1)
    env = made.train_classes["reach-v3"]()
    env.set_task(made.test_tasks[0])
    env.reset()
    first = ml1("reach-v3,seed=1").distribution.held_out(1)[0]["target"]
    assert np.array_equal(first, env._target_pos)
    assert first != ml1("reach-v3").distribution.held_out(1)[0]["target"]


@pytest.mark.usefixtures("few_goals")
def test_a_benchmark_that_reports_all_of_its_goals_is_tuned_on_training_goals() -> None:
    goals = ml1("reach-v3").distribution
    assert split_tasks(goals, "tune", 3) == goals.train_tasks(3)
    assert split_name(goals, "tune") == "train"
    assert not set(split_tasks(goals, "tune", 50)) & set(split_tasks(goals, "test"))


def test_a_class_that_is_trained_on_is_not_held_out_though_meta_world_lists_it_twice() -> None:
    """Meta-World 3.1.1's ML25 has basketball-v3 in both halves."""
    ml25 = Benchmark("ml25", 42)
    train, test = ml25.classes
    assert "basketball-v3" in train
    assert "basketball-v3" in test
    assert set(test) - set(ml25.held_out_classes) == {"basketball-v3"}
    assert len(ml25.held_out_classes) == 4
    assert len(Benchmark("ml45", 42).held_out_classes) == len(Benchmark("ml10", 42).held_out_classes) == 5
    assert Benchmark("ml1", 42, (("reach-v3",), ("reach-v3",))).held_out_classes == ("reach-v3",)


def test_a_meta_batch_takes_classes_evenly_and_goals_without_repetition() -> None:
    distribution = made_up(train=50, held_out=10)
    tasks = distribution.sample(20, np.random.default_rng(0))
    assert Counter(task["class"] for task in tasks) == {(float(k),): 2 for k in range(10)}
    assert len(set(tasks)) == 20
    assert [t["class"][0] for t in tasks] != sorted(t["class"][0] for t in tasks), "in random order"
    seen = {task for i in range(60) for task in distribution.sample(20, np.random.default_rng(i))}
    assert len(seen) > 400, "all goals come up"
    assert [t["goal"] for t in distribution.held_out(2)] == [(50.0,), (51.0,)]
    assert [t["class"][0] for t in distribution.train_tasks(12)] == [*map(float, range(10)), 0.0, 1.0]


def held_out() -> list[Task]:
    """The held-out tasks of a new family object."""
    return ml1("reach-v3").distribution.held_out()


@pytest.mark.usefixtures("few_goals")
def test_the_second_start_reads_the_cache_and_a_damaged_one_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("METARL_CACHE", str(tmp_path))
    first = held_out()
    (file,) = (tmp_path / "metaworld").iterdir()
    derive, calls = families._derived, []

    def counted(*arguments):
        calls.append(arguments)
        return derive(*arguments)

    monkeypatch.setattr(families, "_derived", counted)
    again = held_out()
    assert not calls
    assert again == first
    data = bytearray(file.read_bytes())
    data[-100] ^= 1
    file.write_bytes(data)
    assert held_out() == first
    assert len(calls) == 1
    assert "damaged" in caplog.text
    file.write_bytes(b"cut")
    held_out()
    assert len(calls) == 2
    held_out()
    assert len(calls) == 2, "it was written again"


@pytest.mark.usefixtures("few_goals")
def test_other_package_versions_are_another_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METARL_CACHE", str(tmp_path))
    held_out()
    version = families.cached_goals.__globals__["importlib"].metadata.version
    monkeypatch.setattr("importlib.metadata.version", lambda name: version(name) + ".1")
    held_out()
    assert len(list((tmp_path / "metaworld").iterdir())) == 2


def test_untested_versions_are_named_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    version = importlib.metadata.version
    goals.warn_of_other_versions.cache_clear()
    goals.warn_of_other_versions()
    assert caplog.text == "", "these are the tested ones"
    monkeypatch.setattr("importlib.metadata.version", lambda name: "9.9" if name == "mujoco" else version(name))
    goals.warn_of_other_versions.cache_clear()
    for _ in range(2):
        goals.warn_of_other_versions()
    (record,) = caplog.records
    assert "got metaworld 3.1.1, mujoco 9.9" in record.message
    assert "tested are metaworld 3.1.1, mujoco 3.3.0, gymnasium 1.4.0" in record.message


@pytest.mark.usefixtures("few_goals")
def test_a_folder_that_cannot_be_written_to_costs_time_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    derive, calls, kept = families._derived, [], held_out()

    def counted(*arguments: Any) -> Any:
        calls.append(arguments)
        return derive(*arguments)

    monkeypatch.setattr(families, "_derived", counted)
    monkeypatch.setenv("METARL_CACHE", str(tmp_path / "file" / "folder"))  # not even root can make it
    for times in (1, 2):
        assert held_out() == kept
        assert len(calls) == times, "derived again"


@pytest.mark.parametrize(
    ("make", "argument", "expected"),
    [
        (ml1, "", "such as ml1:reach-v3"),
        (ml1, "reech-v3", "Did you mean 'reach-v3'?"),
        (ml1, "reach-v3,seed=x", "seed=NUMBER"),
        (ml, "reach-v3", "expected training classes / held-out classes"),
        (ml, "reach-v3/", "expected training classes / held-out classes"),
        (families.ml10, "reach-v3", "expected no argument, or seed=NUMBER"),
    ],
)
def test_a_bad_argument_is_refused(make, argument: str, expected: str) -> None:
    with pytest.raises(ValueError, match=expected.replace("(", r"\(").replace("?", r"\?")):
        make(argument)


def test_all_fifty_classes_are_there() -> None:
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS

    assert set(MANIPULATIONS) == set(ALL_V3_ENVIRONMENTS)


@pytest.mark.slow
def test_meta_worlds_largest_benchmark_fits_into_memory(with_goals: Callable[[str], None]) -> None:
    with_goals("ml45")
    words = ("--family", "ml45", "--tasks", "45", "--episodes", "10", "--horizon", "50", "--rounds", "1", "--json")
    words += ("--workers", "0")
    command = [sys.executable, "-c", "import metarl.scripts.cli as c; raise SystemExit(c.main())", "bench", "rollout"]
    done = subprocess.run([*command, *words], capture_output=True, text=True, check=True)  # whose peak is its own
    assert json.loads(done.stdout.splitlines()[-1])["peak_mib"] <= 4096
