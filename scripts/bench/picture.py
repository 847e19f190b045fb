"""The picture of sampling speed against the number of workers."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from metarl.report import literal


def check_picture(out: Path) -> None:
    """Raises ValueError if a picture cannot be written there, or would overwrite a file."""
    if out.suffix.lower() != ".png":
        raise ValueError(f"--out: got {out}, expected a name that ends in .png")
    if out.exists():
        raise ValueError(f"--out: got {out}, which exists already; expected another name")
    if not out.parent.is_dir():
        raise ValueError(f"--out: got {out}, but folder {out.parent} does not exist; create it first")


def speed_picture(rows: Sequence[Mapping[str, Any]], title: str) -> bytes:
    """A PNG of environment steps per second against the number of workers, on logarithmic axes.

    Each worker uses one core. Sampling without workers uses all cores by threads, so it is drawn at their number.

    Args:
        rows: Rows of `metarl.scripts.bench.sampling.speed_row`.
        title: Title of the figure.
    """
    from matplotlib.figure import Figure  # imported here, so that only commands that draw load it

    figure = Figure(figsize=(7.5, 4.5), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    cores = rows[0]["cores"]
    with_workers = [row for row in rows if row["workers"]]
    if with_workers:
        axes.plot(
            [row["workers"] for row in with_workers],
            [row["env_steps_per_s"] for row in with_workers],
            marker="o",
            label="worker processes",
        )
    for row in rows:
        if not row["workers"]:
            axes.plot(cores, row["env_steps_per_s"], marker="s", linestyle="none", label=f"one process, {cores} cores")
    limit = rows[-1]["physics_limit"]
    if limit is not None:
        axes.axhline(limit, color="0.3", linestyle="--", label=f"limit: physics alone, {cores} cores")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    speeds = [row["env_steps_per_s"] for row in rows] + [limit] * (limit is not None)
    axes.set_ylim(min(speeds) / 2, 2 * max(speeds))
    ticks = sorted({cores, *(row["workers"] for row in with_workers)})
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.set_xlabel("cores in use")
    axes.set_ylabel("environment steps per second")
    axes.set_title(literal(title))
    axes.grid(alpha=0.3, which="both")
    axes.legend(loc="best", fontsize="small")
    data = io.BytesIO()
    figure.savefig(data, format="png")
    return data.getvalue()
