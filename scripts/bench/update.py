"""`metarl bench update`: a meta-update on synthetic experience, ours and the plain reference's in turn."""

from __future__ import annotations

import dataclasses
import math
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from metarl.agent import MetaAgent
from metarl.config import Rows, RowsOrOwn
from metarl.memory import RunSize, agent_memory, check_memory, rollout_memory
from metarl.registry import agent_class, make_family
from metarl.runs import resolve_device, use_matmul, versions
from metarl.scripts.bench.limits import flops, products_error, products_of, products_seconds
from metarl.scripts.bench.settings import ContenderCommand, contenders, with_settings
from metarl.scripts.bench.stopwatch import Stopwatch, peak_mib
from metarl.scripts.bench.synthetic import synthetic_batch, synthetic_spaces
from metarl.scripts.bench.tables import print_table
from metarl.scripts.common import border, end_with_json
from metarl.scripts.presets import default_settings
from metarl.tasks import Family
from metarl.types import MetaBatch


@dataclass(frozen=True, kw_only=True)
class UpdateCommand(ContenderCommand):
    """Measures a meta-update and an adaptation, ours and the reference's in turn, medians over the rounds."""

    tasks: tuple[Rows, ...] = ()
    """Tasks of the meta-batch (M), one row of results for each number; the preset's number by default."""
    gradient_steps: Rows = 50
    """Gradient steps of one update, for agents with that setting (pearl; its published 2000 steps take minutes)."""
    reference_up_to: RowsOrOwn = 0
    """Largest number of tasks for which the reference is measured too; 0 for no limit."""


@dataclass(frozen=True)
class Shape:
    """Sizes of the experience of an update.

    Args:
        tasks: `M`.
        episodes: `E`.
        horizon: `T`.
    """

    tasks: int
    episodes: int
    horizon: int


class Contender:
    """An agent to measure repeatedly from the same parameters.

    Args:
        agent: The agent, before any update.
        batch: Experience of the update.
        state: State of the agent before adaptation.
    """

    def __init__(self, agent: MetaAgent[Any], batch: MetaBatch[Any], state: Any) -> None:
        self._agent, self._batch, self._state = agent, batch, state
        self._tensors, self._counters = agent.tensors(), agent.counters()

    def rewind(self) -> None:
        """Restores the agent to its state before the updates."""
        self._agent.restore(self._tensors, self._counters)

    def update(self) -> None:
        """Makes a meta-update."""
        self._agent.meta_update(self._batch)

    def adapt(self) -> None:
        """Adapts to the first collect."""
        self._agent.adapt(self._state, self._batch.collects[0])


def sized(config: Any, shape: Shape, gradient_steps: int) -> Any:
    """Settings of an agent for a meta-batch of the given size, without warm-up iterations."""
    changes = {
        "meta_batch": shape.tasks,
        "replay_tasks": shape.tasks,
        "warmup_iterations": 0,
        "gradient_steps": gradient_steps,
    }
    known = {field.name for field in dataclasses.fields(config)}
    return dataclasses.replace(config, **{name: value for name, value in changes.items() if name in known})


def bench_shape(
    config: Any, family: Family, shape: Shape, device: torch.device, command: UpdateCommand
) -> dict[str, Any]:
    """One row of results: medians over the rounds. Ratios are taken within a round, so that machine drift cancels.

    Args:
        config: Settings of the agent.
        family: Source of the spaces.
        shape: Sizes of the experience.
        device: Device of networks and updates.
        command: Agent, rounds, seed, and whether to measure the reference.
    """
    spaces = synthetic_spaces(family, shape.horizon)
    with_reference = command.reference and shape.tasks <= (command.reference_up_to or shape.tasks)
    agents = contenders(command, config, spaces, device, with_reference=with_reference)
    batch, state = synthetic_batch(agents["ours"], family, shape.tasks, shape.episodes, shape.horizon, command.seed)
    measured = {name: Contender(agent, batch, state) for name, agent in agents.items()}
    stopwatch, seconds = Stopwatch(device), {name: (list[float](), list[float]()) for name in measured}
    products = products_of(measured["ours"].update)  # a warm-up, too
    measured["ours"].rewind()
    limits, peaks = list[float](), {}
    for i in range(command.rounds + 1):
        for name, contender in measured.items():
            updates, adaptations = seconds[name]
            if i == 0:  # the first round warms up
                contender.update()
                contender.rewind()
                peaks[name] = peak_mib(device, contender.update)
                contender.adapt()
            else:
                updates.append(stopwatch(contender.update))
                adaptations.append(stopwatch(contender.adapt))
            contender.rewind()
        if i > 0:
            limits.append(products_seconds(products, device))
        print(f"{command.agent}, {shape.tasks} tasks: round {i} of {command.rounds}", file=sys.stderr, flush=True)

    def median(values: Sequence[float]) -> float:
        return float(f"{statistics.median(values):.4g}")

    def ratios(numerators: Sequence[float], denominators: Sequence[float]) -> list[float]:
        return [a / b for a, b in zip(numerators, denominators, strict=True)]

    def rounded(mib: float | None) -> float | None:
        return None if mib is None else round(mib, 1)

    ours, adapting = seconds["ours"]
    theirs, adapting_theirs = seconds.get("reference", ([], []))
    return {
        **dataclasses.asdict(shape),
        "seconds": median(ours),
        "seconds_range": [float(f"{one:.4g}") for one in (min(ours), max(ours))],
        "reference_seconds": median(theirs) if theirs else None,
        "ratio_vs_reference": median(ratios(theirs, ours)) if theirs else None,
        "tasks_per_second": median([shape.tasks / one for one in ours]),
        "flops": flops(products),
        "products_seconds": median(limits),
        "products_error": float(f"{products_error(products, device):.3g}"),
        "fraction_of_products": median(ratios(limits, ours)),
        "adapt_seconds": median(adapting),
        "reference_adapt_seconds": median(adapting_theirs) if theirs else None,
        "peak_mib": rounded(peaks["ours"]),
        "reference_peak_mib": rounded(peaks.get("reference")),
    }


def exponent(rows: Sequence[dict[str, Any]]) -> float | None:
    """`p` of a fit of the seconds to `M^p` (least squares over logarithms); None for fewer than two sizes."""
    sizes, seconds = [row["tasks"] for row in rows], [row["seconds"] for row in rows]
    if len(set(sizes)) < 2:
        return None
    return round(float(np.polyfit([math.log(m) for m in sizes], [math.log(s) for s in seconds], 1)[0]), 3)


def mib_per_task(rows: Sequence[dict[str, Any]]) -> float | None:
    """Slope of the peak memory over the tasks (least squares); None for fewer than two sizes."""
    points = [(row["tasks"], row["peak_mib"]) for row in rows if row["peak_mib"] is not None]
    if len({tasks for tasks, _ in points}) < 2:
        return None
    tasks, mib = zip(*points, strict=True)
    return round(float(np.polyfit(tasks, mib, 1)[0]), 3)


def bench_update(command: UpdateCommand, config: Any) -> dict[str, Any]:
    """Time and memory of meta-updates, as `metarl bench update` prints them.

    Args:
        command: Options of the measurement.
        config: Settings of the agent.

    Raises:
        ValueError: The family or the device does not exist, or the device does not support the format.
    """
    training, _ = default_settings(command.agent, command.family, command.preset)
    family, device = make_family(command.family), resolve_device(command.device)
    use_matmul(command.matmul, device)
    rows = []
    for tasks in command.tasks or (training.tasks,):
        shape = Shape(
            tasks, command.episodes or training.episodes, command.horizon or training.horizon or family.horizon
        )
        settings = sized(config, shape, command.gradient_steps)
        size = RunSize(tasks=tasks, episodes=shape.episodes, iterations=1, gpu=device.type == "cuda")
        spaces = family.spaces(shape.horizon)
        needs = agent_memory(agent_class(command.agent), settings, spaces, size)
        check_memory([rollout_memory(spaces, tasks, shape.episodes), *needs])
        rows.append(bench_shape(settings, family, shape, device, command))
    about = versions()
    return {
        "agent": command.agent,
        "family": command.family,
        "device": str(device),
        "matmul": command.matmul,
        "threads": torch.get_num_threads(),
        "hardware": about["machine"],
        "versions": {**about["packages"], "python": about["python"]},
        "rows": rows,
        "exponent": exponent(rows),
        "mib_per_task": mib_per_task(rows),
        "gradient_steps": command.gradient_steps if hasattr(config, "gradient_steps") else None,
    }


COLUMNS = (
    "tasks",
    "seconds",
    "reference_seconds",
    "ratio_vs_reference",
    "tasks_per_second",
    "fraction_of_products",
    "adapt_seconds",
    "peak_mib",
)
"""Columns of the printed table."""


def main(arguments: Sequence[str]) -> int:
    """Runs `metarl bench update`; returns its exit code."""
    with border():
        value = bench_update(*with_settings(UpdateCommand, "metarl bench update", arguments))
    if "--json" in arguments:
        end_with_json(value)
    else:
        print_table(COLUMNS, value["rows"])
        growth = "" if value["exponent"] is None else f"; time grows as M^{value['exponent']}"
        growth += "" if value["mib_per_task"] is None else f", memory by {value['mib_per_task']} MiB per task"
        print(f"{value['agent']} on {value['device']}, {value['threads']} threads{growth}")
    return 0
