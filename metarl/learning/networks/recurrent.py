"""A recurrent policy and value function."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from metarl.learning.networks.acting import affine, through_layers
from metarl.learning.networks.cells import (
    Cell,
    CellMemory,
    fresh_cell_memory,
    memory_after,
    one_step,
    recurrent_cell,
    through,
)
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


class RecurrentActorCritic(SequenceNetwork[CellMemory]):
    """An encoder, a recurrent cell, and policy and value on the cell's output.

    With `hidden` layers, policy and value are two MLPs on the cell's output and input together. Features of the current
    observation then need not pass through the memory.

    Args:
        inputs: Size of the input, `I`.
        spaces: Sizes of the actions.
        encoder: Units of each layer before the cell; may be empty.
        activation: Activation after each layer.
        cell: `gru` (Cho et al. 2014, arXiv:1406.1078) or `lstm` (Hochreiter and Schmidhuber 1997).
        units: `H`, size of the memory.
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
        cell: Cell,
        units: int,
        hidden: tuple[int, ...],
        policy: PolicySettings,
        rng: np.random.Generator,
    ) -> None:
        super().__init__()
        sizes = (inputs, *encoder)
        self.encoder = hidden_layers(sizes, activation, rng)
        self.cell = recurrent_cell(cell, sizes[-1], units, rng)
        joined = (units + sizes[-1] if hidden else units, *hidden)
        self.actor, self.critic = (hidden_layers(joined, activation, rng) for _ in range(2))
        self.policy = PolicyHead(joined[-1], spaces, policy, rng=rng)
        self.value = linear(joined[-1], 1, 1.0, rng)
        self._kind, self._units = cell, units

    def fresh_memory(self, rows: int) -> CellMemory:
        """Zeros: `[rows, H]` for the GRU, two such arrays for the LSTM."""
        return fresh_cell_memory(self._kind, rows, self._units, self.value.weight.device)

    def forward(self, x: Tensor, memory: CellMemory) -> tuple[Distribution, Tensor, CellMemory]:
        """Policy and values `[B, L]` for inputs `[B, L, I]`, and the memory after the last step."""
        encoded = self.encoder(x)
        features, memory = through(self.cell, encoded, memory)
        if len(self.actor):
            features = torch.cat([features, encoded], dim=-1)
        return self.policy(self.actor(features)), self.value(self.critic(features)).squeeze(-1), memory

    def step(self, x: Tensor, memory: CellMemory) -> tuple[Distribution, Tensor, CellMemory]:
        """`forward` for a single step: policy and values `[B]` for inputs `[B, I]`, and the memory after it."""
        if x.is_cuda:
            return super().step(x, memory)
        encoded = through_layers(self.encoder, x.numpy())
        features, memory = one_step(self.cell, encoded, memory)
        if len(self.actor):
            features = np.concatenate([features, encoded], axis=-1)
        values = affine(self.value, through_layers(self.critic, features))[:, 0]
        return self.policy.step(through_layers(self.actor, features)), torch.from_numpy(values), memory

    def memory_after(self, x: Tensor, memory: CellMemory, steps: Tensor) -> CellMemory:
        """The memory after the first `steps` `[B]` of each row, by one pass over packed sequences."""
        return memory_after(self.cell, self.encoder(x), memory, steps)

    def exported_memory(self, memory: CellMemory) -> dict[str, Tensor]:
        """The memory as one array `[S, rows, H]`: hidden state, and for the LSTM (`S` = 2) cell state."""
        return {"memory": torch.stack((memory,) if isinstance(memory, Tensor) else memory)}
