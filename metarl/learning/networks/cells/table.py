"""The cells by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from metarl.learning.networks.cells.base import Cell
from metarl.learning.networks.cells.gru import Gru
from metarl.learning.networks.cells.lstm import Lstm
from metarl.learning.networks.cells.settings import CellName, CellSettings, CellSize


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


CELLS: Mapping[CellName, CellKind] = {"gru": Gru, "lstm": Lstm}


def make_cell(settings: CellSettings, inputs: int, steps: int, rng: np.random.Generator) -> Cell[Any]:
    """The cell of these settings; arguments as in `CellKind.build`."""
    return CELLS[settings.cell].build(settings, inputs, steps, rng)


def cell_size(settings: CellSettings, inputs: int, steps: int) -> CellSize:
    """Size of the cell that `make_cell` returns."""
    return CELLS[settings.cell].size(settings, inputs, steps)
