"""`metarl bench update`, `iteration` and `all`: output, measurements, and the agreement of both contenders."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from metarl.learning.networks.cells.settings import CellSettings
from metarl.learning.networks.cells.table import CELLS, cell_size, make_cell
from metarl.registry import agent_class, make_family
from metarl.sampling import LocalSampler
from metarl.scripts.bench import everything
from metarl.scripts.bench import iteration as iteration_bench
from metarl.scripts.bench import update as update_bench
from metarl.scripts.bench.limits import flops, products_error, products_of, products_seconds
from metarl.scripts.bench.settings import contenders, with_settings
from metarl.scripts.bench.stopwatch import peak_mib, used_mib
from metarl.scripts.bench.synthetic import synthetic_batch, synthetic_spaces
from metarl.scripts.bench.tables import cell
from metarl.scripts.bench.update import Shape, UpdateCommand, exponent, mib_per_task, sized
from metarl.scripts.presets import default_settings
from metarl.scripts.reference.agents import REFERENCES
from metarl.seeding import Streams
from metarl.training import meta_train
from metarl.workers.blocks import BlockSampler, InProcess

CPU = torch.device("cpu")
SMALL = ("--episodes", "2", "--horizon", "10", "--rounds", "2", "--json")


@pytest.mark.parametrize("agent", REFERENCES)
def test_update_prints_its_keys_and_counts_the_work_of_the_update(run_metarl, agent: str) -> None:
    words = ("--agent", agent, "--family", "half-cheetah-vel", "--tasks", "2", "3", "--gradient-steps", "2", *SMALL)
    code, out, err = run_metarl("bench", "update", *words, "--no-reference")
    assert code == 0, err
    value = json.loads(out.splitlines()[-1])
    assert {"agent", "device", "threads", "hardware", "versions", "rows", "exponent", "mib_per_task"} < set(value)
    assert value["gradient_steps"] == (2 if agent in ("pearl", "recurrent-sac") else None)
    family = make_family("half-cheetah-vel")
    _, preset = default_settings(agent, family.name)
    for row, tasks in zip(value["rows"], (2, 3), strict=True):
        made = agent_class(agent).build(
            sized(preset, Shape(tasks, 2, 10), gradient_steps=2),
            synthetic_spaces(family, 10),
            device=CPU,
            rng=Streams(0).learner,
        )
        batch, _ = synthetic_batch(made, family, tasks, 2, 10, seed=0)
        work = flops(products_of(lambda made=made, batch=batch: made.meta_update(batch)))
        assert (row["tasks"], row["flops"]) == (tasks, work)
        assert row["reference_seconds"] is None
        assert 0 < row["products_error"] < 1e-5, "float32"


class CountingStopwatch:
    """Runs the work, records its name, and returns the next of the given seconds."""

    seconds: ClassVar[list[float]] = []
    timed: ClassVar[list[str]] = []

    def __init__(self, device: torch.device) -> None:
        pass

    def __call__(self, work: Callable[[], Any]) -> float:
        work()
        self.timed.append(work.__name__)
        return self.seconds[len(self.timed) - 1]


def test_update_reports_medians_and_the_ratios_of_each_round(run_metarl, monkeypatch) -> None:
    """With a fake clock: updates and adaptations, ours and the reference's, in two rounds."""
    CountingStopwatch.seconds = [8.0, 2.0, 24.0, 10.0, 4.0, 1.0, 16.0, 6.0]
    CountingStopwatch.timed = []
    peaks, limits = iter([5.0, 7.0]), iter([2.0, 2.0])
    monkeypatch.setattr(update_bench, "Stopwatch", CountingStopwatch)
    monkeypatch.setattr(update_bench, "peak_mib", lambda device, work: next(peaks))
    monkeypatch.setattr(update_bench, "products_seconds", lambda products, device: next(limits))
    code, out, err = run_metarl("bench", "update", "--tasks", "3", *SMALL)
    assert code == 0, err
    assert CountingStopwatch.timed == ["update", "adapt"] * 4
    (row,) = json.loads(out.splitlines()[-1])["rows"]
    assert (row["seconds"], row["seconds_range"], row["reference_seconds"]) == (6.0, [4.0, 8.0], 20.0)
    assert row["ratio_vs_reference"] == 3.5, "the median of 3 and 4, not 20 / 6"
    assert row["tasks_per_second"] == pytest.approx((3 / 8 + 3 / 4) / 2, rel=1e-3)
    assert row["fraction_of_products"] == pytest.approx((2 / 8 + 2 / 4) / 2)
    assert (row["adapt_seconds"], row["reference_adapt_seconds"]) == (1.5, 8.0)
    assert (row["peak_mib"], row["reference_peak_mib"], row["products_seconds"]) == (5.0, 7.0, 2.0)


def test_the_reference_is_left_out_where_it_would_take_too_long(run_metarl) -> None:
    words = ("bench", "update", "--tasks", "2", "3", *SMALL, "--reference-up-to", "2")
    few, many = json.loads(run_metarl(*words)[1].splitlines()[-1])["rows"]
    names = ("reference_seconds", "ratio_vs_reference", "reference_adapt_seconds", "reference_peak_mib")
    assert all(few[name] is not None for name in names)
    assert all(many[name] is None for name in names)


def test_update_takes_the_agents_settings_and_refuses_what_it_cannot_measure(run_metarl) -> None:
    words = ("bench", "update", "--tasks", "2", *SMALL, "--no-reference")
    small, large = (
        json.loads(run_metarl(*words, "--config.hidden", units)[1].splitlines()[-1]) for units in ("8", "32")
    )
    assert small["rows"][0]["flops"] < large["rows"][0]["flops"]
    assert small["rows"][0]["reference_seconds"] is None
    assert small["exponent"] is None
    for bad, word in (
        ("--matmul", "tf32"),
        ("--agent", "reptile"),
        ("--config.inner-lr", "-1"),
        ("--tasks", "0"),
        ("--rounds", "0"),
    ):
        code, _, err = run_metarl("bench", "update", bad, word)
        assert code == 2
        assert len(err.splitlines()) == 1
    assert run_metarl("bench", "nothing")[0] == 2


def test_the_printed_parts_of_an_iteration_make_up_the_whole(run_metarl) -> None:
    words = ("--agent", "maml-trpo", "--family", "hopper-vel", "--tasks", "2", "--episodes", "2", "--horizon", "10")
    words += ("--workers", "0", "1", "--rounds", "1", "--out", "speed.png")
    code, out, err = run_metarl("bench", "iteration", *words, "--json")
    assert code == 0, err
    value = json.loads(out.splitlines()[-1])
    for name in ("", "reference_"):
        parts = value[f"{name}parts"]
        assert set(parts) == {"sampling", "adaptation", "update", "rest"}
        assert sum(parts.values()) == pytest.approx(value[f"{name}seconds"], rel=1e-3)
    alone, worker = value["rows"]
    assert (alone["workers"], worker["workers"], value["workers"]) == (0, 1, 1)
    assert 0 < alone["acting_seconds"] < alone["sampling"]
    assert worker["acting_seconds"] is None, "workers act elsewhere"
    for row in (alone, worker):
        fraction = row["env_steps_per_s"] / row["physics_limit"]
        assert row["fraction_of_limit"] == pytest.approx(fraction, rel=1e-3)
    assert value["fraction_of_limit"] == worker["fraction_of_limit"]
    assert worker["env_steps_per_s"] <= 2 * 2 * 2 * 10 / worker["sampling"] * 1.001
    assert value["ratio_vs_reference"] == pytest.approx(value["reference_seconds"] / value["seconds"], rel=1e-3)
    assert Path("speed.png").read_bytes().startswith(b"\x89PNG")
    code, _, err = run_metarl("bench", "iteration", *words)
    assert code == 2
    assert "exists already" in err


def test_each_part_of_an_iteration_is_the_time_of_its_calls(monkeypatch) -> None:
    """With a fake clock that the agent advances: an action takes 1 s, an adaptation 100 s, an update 1000 s."""
    now = [0.0]
    monkeypatch.setattr(iteration_bench, "time", SimpleNamespace(perf_counter=lambda: now[0]))

    def taking(seconds: float, method: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any) -> Any:
            now[0] += seconds
            return method(*arguments)

        return timed

    family = make_family("point-robot")
    streams, kind = Streams(0), agent_class("maml-trpo")
    agent: Any = kind.build(kind.Config(inner_steps=2), family.spaces(7), device=CPU, rng=streams.learner)
    for name, seconds in (("act", 1.0), ("adapt", 100.0), ("meta_update", 1000.0)):
        setattr(agent, name, taking(seconds, getattr(agent, name)))
    player = InProcess(family.make_envs)
    parts = iteration_bench.one_iteration(agent, BlockSampler(player, 2, 2, 7), family, streams)
    player.close()
    acted = 3 * 7
    assert parts.pop("env_steps") == 2 * 2 * acted, "episodes of point robots have equal lengths"
    assert parts == {
        "sampling": acted,
        "adaptation": 200.0,
        "update": 1000.0,
        "rest": 0.0,
        "seconds": acted + 1200.0,
        "acting": acted,
    }


def test_iterations_of_pearl_are_measured_with_their_gradient_steps(run_metarl) -> None:
    """Its preset has twenty warm-up iterations without gradient steps."""
    words = ("--agent", "pearl", "--family", "point-robot", "--tasks", "2", "--config.gradient-steps", "30", *SMALL)
    code, out, err = run_metarl("bench", "iteration", *words, "--workers", "0")
    assert code == 0, err
    value = json.loads(out.splitlines()[-1])
    assert value["parts"]["update"] > 0.03, "thirty gradient steps take tens of milliseconds"


def test_all_writes_a_page_with_every_section_and_prints_the_short_table(run_metarl, monkeypatch) -> None:
    tiny = {"tasks": 2, "episodes": 2, "horizon": 10, "workers": (0,)}

    rollout, iteration, update = everything.bench_rollout, everything.bench_iteration, everything.bench_update
    monkeypatch.setattr(everything, "bench_rollout", lambda family, c: rollout(family, dataclasses.replace(c, **tiny)))
    monkeypatch.setattr(
        everything, "bench_iteration", lambda c, config: iteration(dataclasses.replace(c, **tiny), config)
    )
    short = {"episodes": 2, "horizon": 10}
    monkeypatch.setattr(everything, "bench_update", lambda c, config: update(dataclasses.replace(c, **short), config))
    monkeypatch.setattr(everything, "memory_bandwidth", lambda device: 1e9)
    words = ("--families", "point-robot", "--agents", "maml-trpo", "--tasks", "2", "3", "--rounds", "1")
    code, out, err = run_metarl("bench", "all", *words, "--out", "docs/page.md")
    assert code == 0, err
    text = Path("docs/page.md").read_text()
    titles = [line for line in text.splitlines() if line.startswith("## ")]
    assert [title.split()[1] for title in titles] == ["Sampling", "Meta-updates", "Iterations", "Meta-updates"]
    command = (
        "metarl bench update --agent maml-trpo --family half-cheetah-vel --tasks 2 3 --rounds 1 --device cpu --json"
    )
    assert command in text
    (line,) = (line for line in text.splitlines() if command in line)
    read, _ = with_settings(UpdateCommand, "metarl bench update", line.split()[3:])
    assert (read.tasks, read.rounds, read.json) == ((2, 3), 1, True), "the page's own command says what was measured"
    own = "`metarl bench all --rounds 1 --families point-robot --agents maml-trpo --tasks 2 3`"
    assert own in " ".join(text.split())
    assert "| point-robot |" in text
    assert "not measured" in text.lower() or torch.cuda.is_available()
    assert "env steps/s, point-robot" in out
    assert run_metarl("bench", "all", "--agents", "reptile")[0] == 2


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_page_of_the_gpu_alone_says_that_there_is_none(run_metarl) -> None:
    code, _, err = run_metarl("bench", "all", "--sections", "gpu", "--out", "page.md")
    assert code == 0, err
    text = Path("page.md").read_text()
    assert [line for line in text.splitlines() if line.startswith("## ")] == ["## Meta-updates on a GPU"]
    assert "Not measured" in text
    assert "`metarl bench all --sections gpu`" in text


def test_sections_that_were_measured_stay_if_a_later_one_fails(run_metarl, monkeypatch) -> None:
    def fail(*_: object) -> None:
        raise ValueError("physics limit: got no speed")

    monkeypatch.setattr(everything, "bench_rollout", fail)
    monkeypatch.setattr(everything, "gpu_section", lambda *_: "## A section")
    Path("page.md").write_text("old")
    code, _, err = run_metarl("bench", "all", "--sections", "gpu", "sampling", "--out", "page.md")
    assert code == 2
    assert "got no speed" in err
    assert "written so far: page.so-far.md" in err
    assert Path("page.so-far.md").read_text().endswith("## A section")
    assert Path("page.md").read_text() == "old"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "-"), (0.0, "0.00"), (0.01234, "0.0123"), (1.234, "1.23"), (12.34, "12.3"), (6_326.02, "6,326"), (7, "7")],
)
def test_tables_show_three_digits(value: Any, shown: str) -> None:
    assert cell(value) == shown


@pytest.mark.parametrize("agent", REFERENCES)
def test_both_contenders_make_the_same_update_of_synthetic_experience(agent: str) -> None:
    family = make_family("half-cheetah-vel")
    _, preset = default_settings(agent, family.name)
    config = sized(preset, Shape(3, 2, 12), gradient_steps=3)
    spaces = family.make_envs(1, 1, 12).spaces
    agents = list(contenders(UpdateCommand(agent=agent), config, spaces, CPU, with_reference=True).values())
    batch, _ = synthetic_batch(agents[0], family, 3, 2, 12, seed=0)
    before = {name: t.clone() for name, t in agents[0].tensors().items()}
    for one in agents:
        one.meta_update(batch)
    ours, theirs = (one.tensors() for one in agents)
    learned = [name for name in ours if "parameters" in name or name in ("policy", "critics", "encoder")]
    assert learned
    assert any(not torch.equal(ours[name], before[name]) for name in learned)
    for name in learned:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-3, atol=1e-4)


def test_products_are_counted_and_timed_at_their_shapes() -> None:
    x, w = torch.randn(5, 7), torch.randn(7, 11, requires_grad=True)
    batch = torch.randn(3, 5, 7)

    def work() -> None:
        (x @ w).sum().backward()  # the product, and one for the weight's gradient
        torch.baddbmm(torch.zeros(3, 1, 11), batch, w.expand(3, 7, 11))

    products = products_of(work)
    assert sum(products.values()) == 3
    assert flops(products) == 2 * (5 * 7 * 11) * (1 + 1 + 3)
    assert products_seconds(products, CPU) > 0


def test_the_error_of_products_is_that_against_float64() -> None:
    x, w = torch.randn(64, 256), torch.randn(256, 32)
    error = products_error(products_of(lambda: x @ w), CPU)
    assert 1e-8 < error < 1e-6, "float32 keeps 24 bits"


def test_the_peak_of_memory_is_that_of_the_call() -> None:
    peak = peak_mib(CPU, lambda: torch.ones(64, 2**20).sum())  # 256 MiB
    assert peak is not None
    assert 240 < peak < 300


def test_the_exponent_is_the_slope_of_the_logarithms() -> None:
    rows = [{"tasks": m, "seconds": 0.3 * m**1.5} for m in (5, 10, 40)]
    assert exponent(rows) == 1.5
    assert exponent(rows[:1]) is None


def test_memory_per_task_is_the_slope_of_the_peaks() -> None:
    rows = [{"tasks": m, "peak_mib": 20 + 1.25 * m} for m in (5, 10, 40)]
    assert mib_per_task(rows) == 1.25
    assert mib_per_task(rows[:1]) is None
    assert mib_per_task([{"tasks": m, "peak_mib": None} for m in (5, 10)]) is None, "a system that does not tell"


@pytest.mark.slow
@pytest.mark.parametrize("agent", REFERENCES)
def test_memory_does_not_grow_over_200_iterations(agent: str) -> None:
    family = make_family("point-robot")
    _, preset = default_settings(agent, family.name)
    small = {"gradient_steps": 3, "warmup_iterations": 1, "replay_size": 200, "replay_tasks": 4, "vae_updates": 2}
    small |= {"buffer_trials": 20}
    known = {field.name for field in dataclasses.fields(preset)}
    config = dataclasses.replace(preset, **{name: value for name, value in small.items() if name in known})
    envs, streams = family.make_envs(4, 2, 20), Streams(0)
    distribution = family.with_finite_train_set(4).distribution
    made = agent_class(agent)(config, envs.spaces, device=CPU, rng=streams.learner)
    reports = meta_train(made, LocalSampler(envs), distribution, streams, iterations=200)
    used = [used_mib() for i, _ in enumerate(reports, 1) if i % 50 == 0]
    envs.close()
    assert used[-1] - used[0] < 2, "MiB"


def test_memory_measures_every_cell_at_every_length(run_metarl, tmp_path: Path) -> None:
    words = ("--steps", "25", "50", "--units", "8", "--rows", "2", "--acting-rows", "3", "--rounds", "1")
    code, out, err = run_metarl("bench", "memory", *words, "--out", "memory.png", "--json")
    assert code == 0, err
    value = json.loads(out.splitlines()[-1])
    assert [(row["steps"], row["cell"]) for row in value["rows"]] == [(n, c) for n in (25, 50) for c in CELLS]
    for row in value["rows"]:
        assert row["act_us"] > 0
        assert row["update_us_per_step"] > 0
        size = cell_size(CellSettings(cell=row["cell"], units=8), 8, row["steps"])
        assert (row["parameters"], row["state_numbers"]) == size
    assert Path("memory.png").read_bytes().startswith(b"\x89PNG")
    code, _, err = run_metarl("bench", "memory", *words, "--out", "memory.png")
    assert code == 2
    assert "exists already" in err


@pytest.mark.parametrize("name", ["steps", "cells"])
def test_memory_refuses_an_empty_list(run_metarl, name: str) -> None:
    code, out, err = run_metarl("bench", "memory", f"--{name}")
    assert (code, out) == (2, "")
    assert f"{name}: got nothing" in err


def test_the_products_of_compiled_loops_are_counted() -> None:
    """`2 B L G H (I + H)` operations forwards, as much again for the gradients of inputs and of weights each."""
    for name, gates in (("gru", 3), ("lstm", 4)):
        cell = make_cell(CellSettings(cell=name, units=5), 4, 7, np.random.default_rng(0))
        x = torch.ones(2, 7, 4, requires_grad=True)

        def work(cell: Any = cell, x: torch.Tensor = x) -> None:
            cell(x, cell.fresh_memory(2))[0].sum().backward()

        forwards = 2 * 2 * 7 * gates * 5 * (4 + 5)
        without_start = 2 * 2 * gates * 5 * 5  # the product at the first step, for the gradient of the memory
        assert flops(products_of(work)) == 3 * forwards - without_start
        with torch.no_grad():
            assert flops(products_of(lambda cell=cell, x=x: cell(x, cell.fresh_memory(2)))) == forwards
