"""`metarl bench memory`: cost of acting and of learning for each cell, against the length of a trial."""

from __future__ import annotations

import dataclasses
import io
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from metarl.config import Rounds, Rows, RowsOrOwn, Seed, Units, check
from metarl.files import write_bytes
from metarl.learning.device.process import threads
from metarl.learning.networks.cells.base import leaves
from metarl.learning.networks.cells.settings import READ, CellName, CellSettings
from metarl.learning.networks.cells.table import CELLS, make_cell
from metarl.report import literal
from metarl.runs import resolve_device, versions
from metarl.scripts.bench.picture import check_picture
from metarl.scripts.bench.stopwatch import Stopwatch, peak_mib
from metarl.scripts.bench.tables import print_table
from metarl.scripts.common import border, end_with_json, parse

ACTED = 20
"""Steps of acting in one measurement."""
COLUMNS = ("cell", "steps", "act_us", "update_us_per_step", "peak_mib", "state_numbers", "parameters")
"""Columns of the printed table."""


@dataclass(frozen=True, kw_only=True)
class MemoryCommand:
    """Measures each cell by itself: a step of acting at the end of a trial, and a pass over trials with its derivative.

    Cells of one length are measured in turn; the figures are medians over the rounds.
    """

    cells: tuple[CellName, ...] = tuple(CELLS)
    """Cells to measure."""
    steps: tuple[Rows, ...] = (50, 200, 1000, 5000)
    """Lengths of the trials."""
    units: Units = 128
    """Size of the output of each cell, and of its input."""
    cell_layers: Rounds = CellSettings.cell_layers
    """Layers of mingru, s5 and attention."""
    attention_window: RowsOrOwn = 0
    """Number of steps that attention sees; 0 for the whole trial."""
    rows: Rows = 8
    """Trials of an update."""
    acting_rows: Rows = 20
    """Environments that act at once."""
    rounds: Rounds = 5
    """Measurements, after a warm-up."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device of the cells."""
    seed: Seed = 0
    """Seed of the weights and inputs."""
    out: Path | None = None
    """File to write the picture to (PNG), in a new file; no picture by default."""
    json: bool = False
    """Print the results as one JSON line at the end."""


class MeasuredCell:
    """A cell with the work that is measured.

    Args:
        name: Name of the cell.
        command: Sizes.
        steps: Steps of a trial.
        device: Device of the cell.
    """

    def __init__(self, name: CellName, command: MemoryCommand, steps: int, device: torch.device) -> None:
        given = {key: getattr(command, key) for key in ("cell_layers", "attention_window") if name in READ[key]}
        settings = CellSettings(cell=name, units=command.units, **given)
        rng = np.random.default_rng(command.seed)
        self.cell = make_cell(settings, command.units, steps, rng).to(device)
        self._rows = command.rows
        self._x = _normal(rng, (command.rows, steps, command.units), device)
        with torch.no_grad():
            history = _normal(rng, (command.acting_rows, steps, command.units), device)
            start = self.cell.fresh_memory(command.acting_rows)
            self._before = self.cell(history[:, : max(steps - ACTED, 1)], start)[1]
        self._seen = [_normal(rng, (command.acting_rows, command.units), device) for _ in range(ACTED)]

    @torch.inference_mode()
    def act(self) -> None:
        """The last `ACTED` steps of a trial, by one thread, as in a rollout."""
        memory = self._before
        with threads(1):
            for x in self._seen:
                memory = self.cell(x.unsqueeze(1), memory)[1] if x.is_cuda else self.cell.step(x.numpy(), memory)[1]

    def update(self) -> None:
        """A pass over whole trials, and its derivative."""
        features, _ = self.cell(self._x, self.cell.fresh_memory(self._rows))
        torch.autograd.grad(features.sum(), list(self.cell.parameters()), allow_unused=True)

    def sizes(self) -> dict[str, int]:
        """Numbers in the state of one environment, and number of parameters."""
        state = sum(t[0].numel() for t in leaves(self.cell.fresh_memory(1)))
        return {"state_numbers": state, "parameters": sum(p.numel() for p in self.cell.parameters())}


def _normal(rng: np.random.Generator, shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Standard normal numbers on the device."""
    return torch.tensor(rng.standard_normal(shape, dtype=np.float32), device=device)


def bench_memory(command: MemoryCommand) -> dict[str, Any]:
    """Times and sizes of cells, as `metarl bench memory` prints them.

    Args:
        command: Options of the measurement.

    Raises:
        ValueError: The device does not exist.
    """
    for name in ("cells", "steps"):
        if not getattr(command, name):
            raise ValueError(f"{name}: got nothing, expected one or more; leave --{name} out for the default")
    device, rows = resolve_device(command.device), []
    for steps in dict.fromkeys(command.steps):
        measured = {name: MeasuredCell(name, command, steps, device) for name in command.cells}
        rows += _in_turn(measured, command, steps, device)
    about = versions()
    return {
        "device": str(device),
        "threads": torch.get_num_threads(),
        "hardware": about["machine"],
        "versions": {**about["packages"], "python": about["python"]},
        **{key: value for key, value in dataclasses.asdict(command).items() if key in ("units", "rows", "acting_rows")},
        "rows": rows,
    }


def _in_turn(
    measured: Mapping[CellName, MeasuredCell], command: MemoryCommand, steps: int, device: torch.device
) -> list[dict[str, Any]]:
    """One row of results per cell."""
    stopwatch = Stopwatch(device)
    seconds = {name: (list[float](), list[float]()) for name in measured}
    peaks = {name: peak_mib(device, one.update) for name, one in measured.items()}  # a warm-up, too
    for i in range(command.rounds + 1):
        for name, one in measured.items():
            acting, learning = stopwatch(one.act), stopwatch(one.update)
            if i:
                seconds[name][0].append(acting / ACTED)
                seconds[name][1].append(learning / (command.rows * steps))
        print(f"{steps:,} steps: round {i} of {command.rounds}", file=sys.stderr, flush=True)

    def microseconds(values: Sequence[float]) -> float:
        return float(f"{1e6 * statistics.median(values):.4g}")

    return [
        {
            "cell": name,
            "steps": steps,
            "act_us": microseconds(seconds[name][0]),
            "update_us_per_step": microseconds(seconds[name][1]),
            "peak_mib": None if (peak := peaks[name]) is None else round(peak, 1),
            **one.sizes(),
        }
        for name, one in measured.items()
    ]


def memory_picture(rows: Sequence[Mapping[str, Any]], title: str) -> bytes:
    """A PNG of the time per step of acting, and per step of an update, against the length of the trials.

    Args:
        rows: `rows` of `bench_memory`.
        title: Title of the figure.
    """
    from matplotlib.figure import Figure  # imported here, so that only commands that draw load it

    figure = Figure(figsize=(9.0, 4.2), dpi=150, layout="constrained")
    axes: Any = figure.subplots(1, 2)
    panels = {"act_us": "a step of acting, us", "update_us_per_step": "an update, us per step of a trial"}
    for one, (key, label) in zip(axes, panels.items(), strict=True):
        for name in dict.fromkeys(row["cell"] for row in rows):
            points = [row for row in rows if row["cell"] == name]
            one.plot([row["steps"] for row in points], [row[key] for row in points], marker="o", label=literal(name))
        one.set(xscale="log", yscale="log", xlabel="steps of a trial", ylabel=label)
        one.grid(alpha=0.3, which="both")
    axes[0].legend(fontsize="small")
    figure.suptitle(literal(title))
    data = io.BytesIO()
    figure.savefig(data, format="png")
    return data.getvalue()


def main(arguments: Sequence[str]) -> int:
    """Runs `metarl bench memory`; returns its exit code."""
    with border():
        command: MemoryCommand = parse(MemoryCommand, "metarl bench memory", arguments, MemoryCommand())
        check(command)
        if command.out is not None:
            check_picture(command.out)
        value = bench_memory(command)
        if command.out is not None:
            title = f"Cells of {command.units} units, {value['threads']} threads on {value['device']}"
            write_bytes(command.out, memory_picture(value["rows"], title))
    if command.json:
        end_with_json(value)
    else:
        print_table(COLUMNS, value["rows"])
        print(
            f"{command.units} units on {value['device']}, {value['threads']} threads: act_us for {command.acting_rows} "
            f"environments at once, updates with {command.rows} trials"
        )
    return 0
