"""A policy on a latent of the task, told by the task's parameters or estimated from the history.

Kumar et al. 2021, "RMA: Rapid Motor Adaptation for Legged Robots" (arXiv:2107.04034), section III.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from metarl.learning.networks.acting import affine, through_layers
from metarl.learning.networks.cells.base import Cell
from metarl.learning.networks.distributions import Distribution
from metarl.learning.networks.modules import POLICY_GAIN, ActorCritic, hidden_layers, linear
from metarl.learning.networks.perceptron import Activation
from metarl.learning.networks.sequence import SequenceNetwork
from metarl.types import Floats


class TaskEncoder(nn.Module):
    """The privileged encoder `z = tanh(mu(e))` of the task's parameters.

    Args:
        inputs: `D`, inputs about the task.
        hidden: Units of each hidden layer; may be empty.
        activation: Activation after each hidden layer.
        latent: `Z`.
        rng: Source of the initial weights.
    """

    def __init__(
        self, inputs: int, hidden: tuple[int, ...], activation: Activation, latent: int, rng: np.random.Generator
    ) -> None:
        super().__init__()
        sizes = (inputs, *hidden)
        self.layers = hidden_layers(sizes, activation, rng)
        self.output = linear(sizes[-1], latent, 1.0, rng)

    def forward(self, told: Tensor) -> Tensor:
        """Latents `[..., Z]` for inputs about the task `[..., D]`."""
        return torch.tanh(self.output(self.layers(told)))


class HistoryEncoder(nn.Module):
    """The adaptation module `z = tanh(phi(history))`: layers (ReLU) on each step, a cell over steps, a linear layer.

    Args:
        layers: Layers on each step, from `I` numbers to the inputs of the cell.
        cell: The memory of the history.
        latent: `Z`.
        rng: Source of the weights of the last layer, which are small, so that latents start near 0.
    """

    def __init__(self, layers: nn.Sequential, cell: Cell[Any], latent: int, rng: np.random.Generator) -> None:
        super().__init__()
        self.layers, self.cell = layers, cell
        self.output = linear(cell.outputs, latent, POLICY_GAIN, rng)

    def forward(self, x: Tensor, memory: Any) -> tuple[Tensor, Any]:
        """Latents after each step `[B, L, Z]` of `[B, L, I]`, and the cell's memory after the last."""
        features, memory = self.cell(self.layers(x), memory)
        return torch.tanh(self.output(features)), memory

    def step(self, x: Floats, memory: Any) -> tuple[Floats, Any]:
        """`forward` for a single step on a CPU, by NumPy: latents `[B, Z]` after `[B, I]`, and the memory."""
        features, memory = self.cell.step(through_layers(self.layers, x), memory)
        return np.tanh(affine(self.output, features)), memory

    def after(self, x: Tensor, memory: Any, steps: Tensor) -> tuple[Tensor, Any]:
        """Latents `[B, Z]` and the memory after the first `steps` `[B]` of each row of `[B, L, I]`."""
        features, memory = self.cell.features_after(self.layers(x), memory, steps)
        return torch.tanh(self.output(features)), memory


class LatentMemory(NamedTuple):
    """The memory of a policy on a latent.

    Attributes:
        cell: The history, as the encoder's cell remembers it; unchanged while the latent is given.
        latent: The latent of the last step, `[rows, Z]`; zeros before the first, unless it is given.
        given: `[rows]` bool, whether the latent is that of the task's parameters, and so the same in the whole trial.
    """

    cell: Any
    latent: Tensor
    given: Tensor


class LatentPolicy(SequenceNetwork[LatentMemory]):
    """A policy and a value function of observation, previous action and latent.

    Args:
        task_encoder: Latents of the task's parameters.
        encoder: Latents of the history.
        actor_critic: Policy and value function on `S + Z` numbers.
        seen: `S`, leading inputs that policy and value function see: observation and previous action.
        read: Leading inputs that the history encoder reads; at least `S`.
    """

    def __init__(
        self, task_encoder: TaskEncoder, encoder: HistoryEncoder, actor_critic: ActorCritic, *, seen: int, read: int
    ) -> None:
        super().__init__()
        self.task_encoder, self.encoder, self.actor_critic = task_encoder, encoder, actor_critic
        self.policy = actor_critic.policy
        self.seen, self.read = seen, read

    def fresh_memory(self, rows: int) -> LatentMemory:
        """The memory at the start of a trial: no history, and a latent to be estimated from it."""
        bias = self.encoder.output.bias
        given = torch.zeros(rows, dtype=torch.bool, device=bias.device)
        return LatentMemory(self.encoder.cell.fresh_memory(rows), bias.detach().new_zeros(rows, len(bias)), given)

    def told_memory(self, told: Tensor) -> LatentMemory:
        """The memory at the start of a trial whose latent is given, by inputs about each row's task `[rows, D]`."""
        memory = self.fresh_memory(len(told))
        return memory._replace(latent=self.task_encoder(told), given=torch.ones_like(memory.given))

    def forward(self, x: Tensor, memory: LatentMemory) -> tuple[Distribution, Tensor, LatentMemory]:
        """Policy and values `[B, L]` on the latent after each input `[B, L, I]`, and the memory after the last."""
        if memory.given.all():
            latents, cell = memory.latent.unsqueeze(1).expand(-1, x.shape[1], -1), memory.cell
        else:
            estimates, cell = self.encoder(x[..., : self.read], memory.cell)
            latents = torch.where(memory.given.view(-1, 1, 1), memory.latent.unsqueeze(1), estimates)
        distribution, values = self.acting(x, latents)
        return distribution, values, LatentMemory(cell, latents[:, -1].clone(), memory.given)

    def step(self, x: Tensor, memory: LatentMemory) -> tuple[Distribution, Tensor, LatentMemory]:
        """`forward` for a single step: policy and values `[B]` for inputs `[B, I]`, and the memory after it."""
        if x.is_cuda:
            return super().step(x, memory)
        inputs, latent, cell = x.numpy(), memory.latent, memory.cell
        if not memory.given.all():
            estimate, cell = self.encoder.step(inputs[:, : self.read], cell)
            latent = torch.where(memory.given.unsqueeze(1), latent, torch.tensor(estimate))
        distribution, values = self.actor_critic.step(np.concatenate([inputs[:, : self.seen], latent.numpy()], axis=-1))
        return distribution, values, LatentMemory(cell, latent, memory.given)

    def memory_after(self, x: Tensor, memory: LatentMemory, steps: Tensor) -> LatentMemory:
        """The memory after the first `steps` `[B]` of each row."""
        if memory.given.all():
            return memory
        estimate, cell = self.encoder.after(x[..., : self.read], memory.cell, steps)
        return LatentMemory(cell, torch.where(memory.given.unsqueeze(1), memory.latent, estimate), memory.given)

    def acting(self, x: Tensor, latents: Tensor) -> tuple[Distribution, Tensor]:
        """Policy and values `[...]` for inputs `[..., I]`, or their leading `S` alone, and latents `[..., Z]`."""
        passed: tuple[Distribution, Tensor] = self.actor_critic(torch.cat([x[..., : self.seen], latents], dim=-1))
        return passed

    def exported_parameters(self) -> dict[str, Tensor]:
        """Policy and value function as `network.NAME`, the history encoder as `encoder.NAME`."""
        parts = {"network": self.actor_critic, "encoder": self.encoder}
        return {f"{part}.{name}": p.detach() for part, module in parts.items() for name, p in module.named_parameters()}

    def exported_memory(self, memory: LatentMemory) -> dict[str, Tensor]:
        """The memory of the history; the latent follows from it."""
        return self.encoder.cell.exported_memory(memory.cell)
