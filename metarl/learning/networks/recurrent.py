"""A policy and a value function around a cell."""

from __future__ import annotations

from typing import Generic

import numpy as np
import torch
from torch import Tensor

from metarl.learning.networks.acting import affine, through_layers
from metarl.learning.networks.cells.base import MemoryT
from metarl.learning.networks.cells.settings import CellSettings
from metarl.learning.networks.cells.table import make_cell
from metarl.learning.networks.distributions import Distribution
from metarl.learning.networks.modules import (
    PolicyHead,
    PolicySettings,
    hidden_layers,
    linear,
)
from metarl.learning.networks.perceptron import Activation
from metarl.learning.networks.sequence import SequenceNetwork
from metarl.types import Spaces


class CellNetwork(SequenceNetwork[MemoryT], Generic[MemoryT]):
    """A network whose memory is that of a cell behind an encoder; a subclass adds what follows the cell.

    Args:
        inputs: Size of the input, `I`.
        encoder: Units of each layer before the cell; may be empty.
        activation: Activation after each layer.
        cell: Settings of the cell.
        steps: Steps of a trial.
        rng: Source of the initial weights.
    """

    def __init__(
        self,
        inputs: int,
        *,
        encoder: tuple[int, ...],
        activation: Activation,
        cell: CellSettings,
        steps: int,
        rng: np.random.Generator,
    ) -> None:
        super().__init__()
        sizes = (inputs, *encoder)
        self.encoder = hidden_layers(sizes, activation, rng)
        self.cell = make_cell(cell, sizes[-1], steps, rng)

    def fresh_memory(self, rows: int) -> MemoryT:
        """The cell's memory at the start of a trial."""
        memory: MemoryT = self.cell.fresh_memory(rows)
        return memory

    def keep(self, live: Tensor, new: MemoryT, old: MemoryT) -> MemoryT:
        """The new memory in rows where `live` `[B]` is True, and the old one in the others."""
        kept: MemoryT = self.cell.keep(live, new, old)
        return kept

    def memory_after(self, x: Tensor, memory: MemoryT, steps: Tensor) -> MemoryT:
        """The memory after the first `steps` `[B]` of each row."""
        after: MemoryT = self.cell.memory_after(self.encoder(x), memory, steps)
        return after

    def exported_memory(self, memory: MemoryT) -> dict[str, Tensor]:
        """The cell's memory, as the cell names its parts."""
        return self.cell.exported_memory(memory)


class RecurrentActorCritic(CellNetwork[MemoryT], Generic[MemoryT]):
    """An encoder, a cell, and policy and value on the cell's output.

    With `hidden` layers, policy and value are two MLPs on the cell's output and input together. Features of the current
    observation then need not pass through the memory.

    Args:
        inputs: Size of the input, `I`.
        spaces: Sizes of the actions.
        encoder: Units of each layer before the cell; may be empty.
        activation: Activation after each layer.
        cell: Settings of the cell.
        steps: Steps of a trial.
        hidden: Units of each layer after the cell, of policy and value each; may be empty.
        policy: Settings of the policy's deviation and mean.
        rng: Source of the initial weights.
    """

    def __init__(
        self,
        inputs: int,
        spaces: Spaces,
        *,
        encoder: tuple[int, ...],
        activation: Activation,
        cell: CellSettings,
        steps: int,
        hidden: tuple[int, ...],
        policy: PolicySettings,
        rng: np.random.Generator,
    ) -> None:
        super().__init__(inputs, encoder=encoder, activation=activation, cell=cell, steps=steps, rng=rng)
        units = self.cell.outputs
        joined = (units + (inputs, *encoder)[-1] if hidden else units, *hidden)
        self.actor, self.critic = (hidden_layers(joined, activation, rng) for _ in range(2))
        self.policy = PolicyHead(joined[-1], spaces, policy, rng=rng)
        self.value = linear(joined[-1], 1, 1.0, rng)

    def forward(self, x: Tensor, memory: MemoryT) -> tuple[Distribution, Tensor, MemoryT]:
        """Policy and values `[B, L]` for inputs `[B, L, I]`, and the memory after the last step."""
        encoded = self.encoder(x)
        features, memory = self.cell(encoded, memory)
        if len(self.actor):
            features = torch.cat([features, encoded], dim=-1)
        return self.policy(self.actor(features)), self.value(self.critic(features)).squeeze(-1), memory

    def step(self, x: Tensor, memory: MemoryT) -> tuple[Distribution, Tensor, MemoryT]:
        """`forward` for a single step: policy and values `[B]` for inputs `[B, I]`, and the memory after it."""
        if x.is_cuda:
            return super().step(x, memory)
        encoded = through_layers(self.encoder, x.numpy())
        features, memory = self.cell.step(encoded, memory)
        if len(self.actor):
            features = np.concatenate([features, encoded], axis=-1)
        values = affine(self.value, through_layers(self.critic, features))[:, 0]
        return self.policy.step(through_layers(self.actor, features)), torch.from_numpy(values), memory
