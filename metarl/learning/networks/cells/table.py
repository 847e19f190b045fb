"""The cells by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from metarl.learning.networks.cells.aggregated import Aggregated, check_units, inner_inputs, outer_size
from metarl.learning.networks.cells.attention import Attention
from metarl.learning.networks.cells.base import Cell
from metarl.learning.networks.cells.gru import Gru
from metarl.learning.networks.cells.lstm import Lstm
from metarl.learning.networks.cells.mingru import MinGru
from metarl.learning.networks.cells.s5 import S5
from metarl.learning.networks.cells.settings import CellName, CellSettings, CellSize, check_read
from metarl.learning.networks.cells.snail import Snail


class CellKind(Protocol):
    """A class of cells."""

    def build(self, settings: CellSettings, inputs: int, steps: int, rng: np.random.Generator) -> Cell[Any]:
        """A cell with initial weights.

        Args:
            settings: The settings.
            inputs: `I`, size of the input.
            steps: Steps of a trial. Longer ones are possible too.
            rng: Source of the initial weights.
        """

    def size(self, settings: CellSettings, inputs: int, steps: int) -> CellSize:
        """Size of the cell that `build` returns."""


CELLS: Mapping[CellName, CellKind] = {
    "gru": Gru,
    "lstm": Lstm,
    "mingru": MinGru,
    "s5": S5,
    "attention": Attention,
    "snail": Snail,
}


def make_cell(settings: CellSettings, inputs: int, steps: int, rng: np.random.Generator) -> Cell[Any]:
    """The cell of these settings; arguments as in `CellKind.build`.

    Raises:
        ValueError: Settings do not fit together.
    """
    check_read(settings)
    kind = CELLS[settings.cell]
    if settings.aggregate == "none":
        return kind.build(settings, inputs, steps, rng)
    check_units(settings)
    return Aggregated(kind.build(settings, inner_inputs(inputs), steps, rng), inputs)


def cell_size(settings: CellSettings, inputs: int, steps: int) -> CellSize:
    """Size of the cell that `make_cell` returns."""
    kind = CELLS[settings.cell]
    if settings.aggregate == "none":
        return kind.size(settings, inputs, steps)
    return outer_size(kind.size(settings, inner_inputs(inputs), steps), settings, inputs)
