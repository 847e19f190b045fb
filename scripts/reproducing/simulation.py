"""How often the check of a table fails without a fault, and how often it finds one: `docs/reproduce.md`, simulated.

`python -m metarl.scripts.reproducing.simulation` prints the tables of that page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from metarl.comparison import Over, intervals
from metarl.intervals import Interval
from metarl.scripts.bench.tables import markdown
from metarl.scripts.reproducing.repetition import Twice, difference, share_weights, training_errors
from metarl.types import Floats

TABLES = 1000
"""Simulated tables of each line of the page."""
SHIFTS: tuple[float, ...] = (2.0, 3.0, 5.0, 10.0)
"""Faults of one row, in standard deviations of its trainings."""
MULTITASK, AGENT, ORACLE = -40.0, -12.0, 0.0
"""Levels, in standard deviations of a single cell."""
FAILED_TRAINING = -8.0
"""Effect of a failed training, in standard deviations of trainings."""


@dataclass(frozen=True)
class World:
    """Tables of `multitask`, `oracle` and agents: task + training + cell, each normal with its own deviation.

    Args:
        rows: Rows of a table, both references included.
        fresh: Trainings of a fresh row.
        docs: Trainings of a row of the docs.
        training: Deviation of trainings, by that of a cell; that of a task is 3.
        unlike: Deviation of the logarithm of `training` between rows.
        trainings: Distribution of trainings: `failing` has one of ten fail, `heavy` is Student's t with 3 degrees.
        drift: Correlation of a fresh training with that of the same seed in the docs.
        tasks: Tasks.
    """

    rows: int = 18
    fresh: int = 3
    docs: int = 3
    training: float = 1.0
    unlike: float = 0.7
    trainings: Literal["normal", "heavy", "failing"] = "normal"
    drift: float = 0.0
    tasks: int = 40

    def draw(self, rng: np.random.Generator) -> dict[str, tuple[Twice, float]]:
        """The rows of a table with the deviations of their trainings."""
        found = {}
        for row in range(self.rows):
            name = ("multitask", "oracle")[row] if row < 2 else f"agent {row - 1}"
            level = {"multitask": MULTITASK, "oracle": ORACLE}.get(name, AGENT)
            deviation = self.training * float(np.exp(self.unlike * rng.normal()))
            task = 3.0 * rng.normal(size=self.tasks)
            docs, fresh = (self._trainings(rng, count, deviation) for count in (self.docs, self.fresh))
            same = min(self.docs, self.fresh)
            fresh[:same] = self.drift * docs[:same] + np.sqrt(1.0 - self.drift**2) * fresh[:same]
            found[name] = (Twice(level + task + docs, level + task + fresh), deviation)
        return found

    def _trainings(self, rng: np.random.Generator, count: int, deviation: float) -> Floats:
        effects = rng.standard_t(3, (count, 1)) if self.trainings == "heavy" else rng.normal(size=(count, 1))
        if self.trainings == "failing":
            effects = effects + FAILED_TRAINING * (rng.random((count, 1)) < 0.1)
        return deviation * effects + rng.normal(size=(count, self.tasks))


@dataclass(frozen=True)
class Rates:
    """Shares of simulated tables.

    Args:
        numbers: Compared numbers of a table.
        number: Share of numbers that are not met without a fault.
        table: Share of tables with at least one of them.
        overlap: The same by another rule: each mean in the other's interval.
        found: Share of tables that find each fault of one row: `SHIFTS`, then an agent that does not adapt.
    """

    numbers: int
    number: float
    table: float
    overlap: float
    found: tuple[float, ...]


def not_met(rows: Mapping[str, Twice]) -> dict[tuple[str, str], bool]:
    """Which returns and shares of the gap are not met, by row and number."""
    errors, weights = training_errors(rows), dict[tuple[str, str], Mapping[str, float]]()
    for name in rows:
        weights[name, "return"] = {name: 1.0}
        of_share = None if name in ("multitask", "oracle") else share_weights(name, "multitask", "oracle", rows, errors)
        if of_share is not None:
            weights[name, "share"] = of_share
    found = {key: difference(one, rows, errors, len(weights)) for key, one in weights.items()}
    return {key: not one.low <= 0.0 <= one.high for key, one in found.items()}


def apart(row: Twice) -> bool:
    """Whether a mean is outside the 95 % interval of the other side: over tasks with one training, else over both."""
    sides = [_interval(side) for side in (row.docs, row.fresh)]
    return any(not one.low <= other.mean <= one.high for one, other in (sides, sides[::-1]))


def _interval(side: Floats) -> Interval:
    over: Over = "both" if len(side) > 1 else "tasks"
    return intervals(side[..., None], over, "mean")[0]


def rates(world: World, tables: int, seed: int = 0, faults: bool = True, overlap: bool = True) -> Rates:
    """The rates of a world.

    Args:
        world: The world.
        tables: Simulated tables.
        seed: Seed of the simulation.
        faults: Whether to simulate faults too.
        overlap: Whether to apply the other rule too.
    """
    rng, number, table, other, numbers = np.random.default_rng(seed), list[float](), list[bool](), list[bool](), 0
    found = np.zeros(len(SHIFTS) + 1)
    for _ in range(tables):
        drawn = world.draw(rng)
        rows = {name: row for name, (row, _) in drawn.items()}
        failed = not_met(rows)
        number.append(float(np.mean([*failed.values()])))
        table.append(any(failed.values()))
        numbers = max(numbers, len(failed))
        other.append(overlap and any(map(apart, rows.values())))
        if faults:
            row, deviation = drawn["agent 1"]
            falls = [*(-shift * deviation for shift in SHIFTS), MULTITASK - AGENT]
            broken = (not_met(rows | {"agent 1": replace(row, fresh=row.fresh + fall)}) for fall in falls)
            found += [one["agent 1", "return"] or one.get(("agent 1", "share"), False) for one in broken]
    return Rates(numbers, float(np.mean(number)), float(np.mean(table)), float(np.mean(other)), tuple(found / tables))


LINES: tuple[World, ...] = tuple(
    World(rows=rows, fresh=fresh, docs=docs) for fresh, docs in ((1, 3), (3, 3), (5, 5)) for rows in (6, 11, 18)
)
"""Worlds of the first table of the page."""
OTHERS: dict[str, World] = {
    "trainings do not differ, only cells": World(training=0.0),
    "all rows have the same deviation": World(unlike=0.0),
    "deviations of rows differ more (by a factor of 4.5 instead of 2)": World(unlike=1.5),
    "trainings with heavy tails (Student's t, 3 degrees)": World(trainings="heavy"),
    "one of ten trainings of every row fails": World(trainings="failing"),
    "the same seeds, hardly drifted apart (correlation 0.9)": World(drift=0.9),
}
"""Worlds of its second table, by their names."""


def percent(rate: float) -> str:
    """A rate in per cent."""
    return f"{100.0 * rate:.1f} %" if rate < 0.095 else f"{100.0 * rate:.0f} %"


def first_table(tables: int) -> str:
    """The rates without a fault and with one, in Markdown."""
    columns = {"trainings": "trainings, fresh and docs", "numbers": "numbers", "number": "a number fails"}
    columns |= {"table": "a table fails", "overlap": "by overlap"}
    columns |= {str(shift): f"finds {shift:g} sd" for shift in SHIFTS} | {"still": "finds no adaptation"}
    lines = []
    for world in LINES:
        found = rates(world, tables)
        line = {"trainings": f"{world.fresh} and {world.docs}", "numbers": str(found.numbers)}
        line |= {"number": f"{100.0 * found.number:.2f} %", "table": percent(found.table)}
        line |= {"overlap": percent(found.overlap)}
        names = [*(str(shift) for shift in SHIFTS), "still"]
        lines.append(line | dict(zip(names, map(percent, found.found), strict=True)))
    return markdown(columns, lines)


def second_table(tables: int, sizes: Sequence[tuple[int, int]] = ((1, 3), (3, 3), (5, 5))) -> str:
    """The rates without a fault where the assumptions do not hold, in Markdown."""
    lines = []
    for name, world in OTHERS.items():
        of_sizes = (rates(replace(world, fresh=f, docs=d), tables, faults=False, overlap=False) for f, d in sizes)
        lines.append({"world": name} | {str(i): percent(one.table) for i, one in enumerate(of_sizes)})
    return markdown({"world": "34 numbers"} | {str(i): f"{f} and {d}" for i, (f, d) in enumerate(sizes)}, lines)


if __name__ == "__main__":
    print(first_table(TABLES))
    print(second_table(TABLES))
