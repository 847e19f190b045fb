"""Split aggregation (SplAgger): half of a cell's features as a running maximum over time.

Beck, Jackson, Vuorio, Xiong and Whiteson 2024, "SplAgger: Split Aggregation for Meta-Reinforcement Learning"
(arXiv:2403.03020).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from metarl.learning.networks.cells.base import Cell
from metarl.learning.networks.cells.settings import CellSettings, CellSize
from metarl.types import Floats

LOWEST = torch.finfo(torch.float32).min
"""The maximum before the first step. It is finite, and no feature is below it, so that it never becomes a feature."""


class AggregatedMemory(NamedTuple):
    """The memory of an `Aggregated` cell.

    Attributes:
        inner: Memory of the cell inside.
        previous: Input of the last step, `[rows, I]`; zeros at the start of a trial.
        maximum: Maximum of each aggregated feature so far, `[rows, H / 2]`; `LOWEST` at the start.
    """

    inner: Any
    previous: Tensor
    maximum: Tensor


class Aggregated(Cell[AggregatedMemory]):
    """A cell around another one, with the maximum over time of the second half of its features.

    With inputs x and features h of the cell inside, and `[a, b]` for the two halves of a vector,

        [a_t, b_t] = h_t(x_t, x_{t-1}),  output_t = [a_t, max(b_1, ..., b_t)]

    Each input is given together with the one before it, so that the cell sees whole transitions. An input of an agent
    encodes an observation, and the action and reward before it: two consecutive ones have state, action, reward and
    next state. At the first step of an episode, the one before it is of the last step of the episode that ended. At
    the start of a trial it is zero.

    The maximum passes its derivative to the step that it was reached at; the last one of several equal ones.

    Args:
        inner: The cell inside, of inputs of `2 I` numbers and an even number of features.
        inputs: `I`.
    """

    def __init__(self, inner: Cell[Any], inputs: int) -> None:
        super().__init__()
        self.inner = inner
        self.outputs = inner.outputs
        self._inputs = inputs
        self._passed = inner.outputs // 2

    def fresh_memory(self, rows: int) -> AggregatedMemory:
        """Zeros for the previous input, `LOWEST` for the maximum, and the fresh memory of the cell inside."""
        weight = next(self.inner.parameters())
        previous = torch.zeros(rows, self._inputs, dtype=torch.float32, device=weight.device)
        maximum = torch.full_like(previous[:, :1], LOWEST).repeat(1, self.outputs - self._passed)
        return AggregatedMemory(self.inner.fresh_memory(rows), previous, maximum)

    def forward(self, x: Tensor, memory: AggregatedMemory) -> tuple[Tensor, AggregatedMemory]:
        """The features after each step `[B, L, H]`, and the memory after the last step."""
        features, inner = self.inner(_transitions(x, memory.previous), memory.inner)
        features = self._aggregate(features, memory.maximum)
        return features, AggregatedMemory(inner, x[:, -1], features[:, -1, self._passed :])

    def step(self, x: Floats, memory: AggregatedMemory) -> tuple[Floats, AggregatedMemory]:
        """`forward` for a single step on a CPU, by NumPy."""
        features, inner = self.inner.step(np.concatenate([x, memory.previous.numpy()], axis=-1), memory.inner)
        maximum = torch.empty_like(memory.maximum)
        np.maximum(features[:, self._passed :], memory.maximum.numpy(), out=maximum.numpy())
        joined = np.concatenate([features[:, : self._passed], maximum.numpy()], axis=-1)
        return joined, AggregatedMemory(inner, torch.tensor(x), maximum)

    def keep(self, live: Tensor, new: AggregatedMemory, old: AggregatedMemory) -> AggregatedMemory:
        """The new memory in rows where `live` `[B]` is True, and the old one in the others."""
        inner, live = self.inner.keep(live, new.inner, old.inner), live.unsqueeze(1)
        previous = torch.where(live, new.previous, old.previous)
        return AggregatedMemory(inner, previous, torch.where(live, new.maximum, old.maximum))

    def features_after(self, x: Tensor, memory: AggregatedMemory, steps: Tensor) -> tuple[Tensor, AggregatedMemory]:
        """The features `[B, H]` and the memory after the first `steps` `[B]` of each row."""
        transitions, last = _transitions(x, memory.previous), (torch.arange(len(x)), steps - 1)
        features = self._aggregate(self.inner(transitions, memory.inner)[0], memory.maximum)[last]
        inner = self.inner.memory_after(transitions, memory.inner, steps)
        return features, AggregatedMemory(inner, x[last], features[:, self._passed :])

    def exported_memory(self, memory: AggregatedMemory) -> dict[str, Tensor]:
        """The memory of the cell inside, and `memory.previous` `[rows, I]` and `memory.maximum` `[rows, H / 2]`."""
        own = {"memory.previous": memory.previous.clone(), "memory.maximum": memory.maximum.clone()}
        return self.inner.exported_memory(memory.inner) | own

    def _aggregate(self, features: Tensor, maximum: Tensor) -> Tensor:
        """Features `[B, L, H]` with the second half as its maximum so far, which starts from `maximum`."""
        passed, aggregated = features[..., : self._passed], features[..., self._passed :]
        so_far = torch.cat([maximum.unsqueeze(1), aggregated], dim=1).cummax(dim=1).values
        return torch.cat([passed, so_far[:, 1:]], dim=-1)


def inner_inputs(inputs: int) -> int:
    """Size of the input of the cell inside."""
    return 2 * inputs


def outer_size(inner: CellSize, settings: CellSettings, inputs: int) -> CellSize:
    """Size of the cell around one of size `inner`."""
    return CellSize(inner.parameters, inner.memory + inputs + settings.units // 2)


def check_units(settings: CellSettings) -> None:
    """Checks that the features can be halved.

    Raises:
        ValueError: The number of units is odd.
    """
    if settings.units % 2:
        raise ValueError(
            f"units: got {settings.units}, expected an even number where aggregate is {settings.aggregate!r}, which "
            f"halves the cell's output; use {settings.units + 1}, or aggregate 'none'"
        )


def _transitions(x: Tensor, previous: Tensor) -> Tensor:
    """Each input `[B, L, I]` and the one before it, `[B, L, 2 I]`; `previous` `[B, I]` comes before the first."""
    return torch.cat([x, torch.cat([previous.unsqueeze(1), x[:, :-1]], dim=1)], dim=-1)
