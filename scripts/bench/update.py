"""`metarl bench update`: one meta-update on synthetic experience, ours and the plain reference's in turn."""

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
from metarl.scripts.bench.settings import ContenderCommand, with_settings
from metarl.scripts.bench.stopwatch import Stopwatch, peak_mib
from metarl.scripts.bench.synthetic import synthetic_batch, synthetic_spaces
from metarl.scripts.bench.tables import print_table
from metarl.scripts.common import border, end_with_json
from metarl.scripts.presets import default_settings
from metarl.scripts.reference.agents import reference_class
from metarl.seeding import Streams
from metarl.tasks import Family
from metarl.types import MetaBatch


@dataclass(frozen=True, kw_only=True)
class UpdateCommand(ContenderCommand):
    """Measures a meta-update and an adaptation, ours and the reference's in turn, medians over the rounds."""

    tasks: tuple[Rows, ...] = ()
    """Tasks of the meta-batch (M), one row of figures each; the preset's by default."""
    gradient_steps: Rows = 50
    """Gradient steps of one update, where the agent has that setting (pearl; the published 2000 take minutes)."""
    reference_up_to: RowsOrOwn = 0
    """Most tasks with which the reference is measured too; 0 for any number."""


@dataclass(frozen=True)
class Shape:
    """What an update learns from.

    Args:
        tasks: `M`.
        episodes: `E`.
        horizon: `T`.
    """

    tasks: int
    episodes: int
    horizon: int


class Contender:
    """An agent whose update is measured again and again from the same state.

    Args:
        agent: The agent, before any update.
        batch: What it learns from.
        state: Its state before any adaptation.
    """

    def __init__(self, agent: MetaAgent[Any], batch: MetaBatch[Any], state: Any) -> None:
        self._agent, self._batch, self._state = agent, batch, state
        self._tensors, self._counters = agent.tensors(), agent.counters()

    def rewind(self) -> None:
        """Takes everything back that updates changed."""
        self._agent.restore(self._tensors, self._counters)

    def update(self) -> None:
        """One meta-update."""
        self._agent.meta_update(self._batch)

    def adapt(self) -> None:
        """One adaptation to the first collect."""
        self._agent.adapt(self._state, self._batch.collects[0])


def sized(config: Any, shape: Shape, gradient_steps: int) -> Any:
    """An agent's settings with as many tasks in everything, and an update that begins at once."""
    changes = {
        "meta_batch": shape.tasks,
        "replay_tasks": shape.tasks,
        "warmup_iterations": 0,
        "gradient_steps": gradient_steps,
    }
    known = {field.name for field in dataclasses.fields(config)}
    return dataclasses.replace(config, **{name: value for name, value in changes.items() if name in known})


def bench_shape(
    agent: str, config: Any, family: Family, shape: Shape, device: torch.device, command: UpdateCommand
) -> dict[str, Any]:
    """One row of figures: medians over the rounds, of ratios too, so that a drift of the machine cancels.

    Args:
        agent: Name of the agent.
        config: Its settings.
        family: Whose spaces to use.
        shape: Sizes of the experience.
        device: Where to compute.
        command: Rounds, seed, and whether to measure the reference.
    """
    spaces = synthetic_spaces(family, shape.horizon)
    kinds: dict[str, Any] = {"ours": agent_class(agent)}
    if command.reference and shape.tasks <= (command.reference_up_to or shape.tasks):
        kinds["reference"] = reference_class(agent)
    contenders, batch = {}, None
    for name, kind in kinds.items():
        made = kind(config, spaces, device=device, rng=Streams(command.seed).learner)
        if batch is None:
            batch, state = synthetic_batch(made, family, shape.tasks, shape.episodes, shape.horizon, command.seed)
        contenders[name] = Contender(made, batch, state)
    stopwatch, seconds = Stopwatch(device), {name: ([], []) for name in kinds}  # type: ignore[var-annotated]
    products = products_of(contenders["ours"].update)  # which warms up, too
    contenders["ours"].rewind()
    limits, peaks = list[float](), {}
    for i in range(command.rounds + 1):
        for name, contender in contenders.items():
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
        print(f"{agent}, {shape.tasks} tasks: round {i} of {command.rounds}", file=sys.stderr, flush=True)

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
    """`p` where the seconds grow as `M^p`, by least squares over the logarithms; None with fewer than two sizes."""
    sizes, seconds = [row["tasks"] for row in rows], [row["seconds"] for row in rows]
    if len(set(sizes)) < 2:
        return None
    return round(float(np.polyfit([math.log(m) for m in sizes], [math.log(s) for s in seconds], 1)[0]), 3)


def mib_per_task(rows: Sequence[dict[str, Any]]) -> float | None:
    """Slope of the peak memory over the tasks, by least squares; None with fewer than two sizes."""
    points = [(row["tasks"], row["peak_mib"]) for row in rows if row["peak_mib"] is not None]
    if len({tasks for tasks, _ in points}) < 2:
        return None
    tasks, mib = zip(*points, strict=True)
    return round(float(np.polyfit(tasks, mib, 1)[0]), 3)


def bench_update(command: UpdateCommand, config: Any) -> dict[str, Any]:
    """Times and memory of meta-updates, as `metarl bench update` prints them.

    Args:
        command: What to measure.
        config: The agent's settings.

    Raises:
        ValueError: There is no such family or device, or the device has no such format.
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
        rows.append(bench_shape(command.agent, settings, family, shape, device, command))
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
"""Of the table."""


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
