"""Settings of cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from metarl.config import Units

CellName = Literal["gru", "lstm"]


@dataclass(frozen=True, kw_only=True)
class CellSettings:
    """Settings of the memory of an agent. Each cell reads those that it has a use for."""

    cell: CellName = "gru"
    """Kind of memory; the page docs/memory.md compares them."""
    units: Units = 128
    """Size of the memory's output; usually 64 to 256."""


class CellSize(NamedTuple):
    """Size of a cell.

    Attributes:
        parameters: Number of parameters.
        memory: Numbers in the memory of a row.
    """

    parameters: int
    memory: int
