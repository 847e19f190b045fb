"""Settings of cells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, NamedTuple

from metarl.config import Rounds, RowsOrOwn, Units

CellName = Literal["gru", "lstm", "mingru", "s5", "attention", "snail"]


READ: Mapping[str, tuple[CellName, ...]] = {
    "cell_layers": ("mingru", "s5", "attention"),
    "attention_heads": ("attention",),
    "attention_window": ("attention",),
}
"""Settings that only some cells read."""


@dataclass(frozen=True, kw_only=True)
class CellSettings:
    """Settings of the memory of an agent."""

    cell: CellName = "gru"
    """Kind of memory; the page docs/memory.md compares them."""
    units: Units = 128
    """Size of the memory's output (H); usually 64 to 256."""
    cell_layers: Rounds = 2
    """Layers of mingru, s5 and attention; usually 1 to 3. The other cells have a fixed number."""
    attention_heads: Rounds = 4
    """Heads of attention; they divide the units."""
    attention_window: RowsOrOwn = 0
    """Number of steps that each layer of attention sees, the current one included; 0 for the whole trial."""
    aggregate: Literal["none", "max"] = "none"
    """Maximum over time of half of the memory's output (SplAgger), for any cell; the units are then even."""

    def description(self) -> dict[str, Any]:
        """The settings that the reader of an exported policy needs to compute the cell."""
        names = ("cell", "cell_layers", "attention_heads", "attention_window", "aggregate")
        return {name: getattr(self, name) for name in names}


def check_read(settings: CellSettings) -> None:
    """Checks that a setting without effect has its default.

    Raises:
        ValueError: A setting that the cell does not read has another value.
    """
    defaults = {field.name: field.default for field in fields(CellSettings)}
    for name, cells in READ.items():
        value = getattr(settings, name)
        if settings.cell not in cells and value != defaults[name]:
            raise ValueError(
                f"{name}: got {value} with cell {settings.cell!r}, which has no such setting; leave it out, or use "
                f"one of the cells {', '.join(cells)}"
            )


class CellSize(NamedTuple):
    """Size of a cell.

    Attributes:
        parameters: Number of parameters.
        memory: Numbers in the memory of a row.
    """

    parameters: int
    memory: int
