"""A policy and a value function with a memory, and how whole trials pass through them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from metarl.learning.networks.cells import PARTS, Cell, Remembering, memory_after, recurrent_cell, through
from metarl.learning.networks.distributions import Distribution, joined
from metarl.learning.networks.modules import PolicyHead, PolicySettings, hidden_layers, linear
from metarl.learning.networks.perceptron import Activation
from metarl.types import Bools, Spaces


class RecurrentActorCritic(nn.Module):
    """Encoder, recurrent cell, and on its output a policy and a value.

    With `hidden` layers, policy and value have a perceptron each, on the cell's output joined with its input: what
    only depends on the present then need not pass through the memory.

    Args:
        inputs: Size of the input, `I`.
        spaces: Sizes of the actions.
        encoder: Units of each layer before the cell; there may be none.
        activation: After each of them.
        cell: `gru` (Cho et al. 2014, arXiv:1406.1078) or `lstm` (Hochreiter and Schmidhuber 1997).
        units: `H`, size of the memory.
        hidden: Units of each layer after the cell, of policy and value each; there may be none.
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
        self.inputs, self.units, self._cell = inputs, units, cell
        sizes = (inputs, *encoder)
        self.encoder = hidden_layers(sizes, activation, rng)
        self.cell = recurrent_cell(cell, sizes[-1], units, rng)
        joined = (units + sizes[-1] if hidden else units, *hidden)
        self.actor, self.critic = (hidden_layers(joined, activation, rng) for _ in range(2))
        self.policy = PolicyHead(joined[-1], spaces, policy, rng=rng)
        self.value = linear(joined[-1], 1, 1.0, rng)

    def fresh_memory(self, rows: int) -> Tensor:
        """The memory at the start of a trial: zeros `[S, rows, H]`, with `S` = 2 for the LSTM and 1 for the GRU."""
        return torch.zeros(PARTS[self._cell], rows, self.units, dtype=torch.float32, device=self.value.weight.device)

    def forward(self, x: Tensor, memory: Tensor) -> tuple[Distribution, Tensor, Tensor]:
        """Goes on from a memory over `L` steps.

        Args:
            x: `[B, L, I]`.
            memory: `[S, B, H]`.

        Returns:
            The policy at each step, the values `[B, L]`, and the memory after the last step.
        """
        encoded = self.encoder(x)
        features, memory = through(self.cell, encoded, memory)
        if len(self.actor):
            features = torch.cat([features, encoded], dim=-1)
        return self.policy(self.actor(features)), self.value(self.critic(features)).squeeze(-1), memory

    def memory_after(self, x: Tensor, memory: Tensor, steps: Tensor) -> Tensor:
        """The memory `[S, B, H]` after the first `steps` `[B]` of each row of `[B, L, I]`."""
        return memory_after(self.cell, self.encoder(x), memory, steps)


def unroll(network: RecurrentActorCritic, x: Tensor, span: int = 0) -> tuple[Distribution, Tensor]:
    """Policy and values over whole packed trials, from a fresh memory.

    Args:
        network: The network.
        x: `[B, L, I]`.
        span: Steps that gradients flow back through; 0 for the whole trial. The values are the same.

    Returns:
        The policy at each step, and the values `[B, L]`.
    """
    memory = network.fresh_memory(len(x))
    distributions, values = [], []
    for piece in torch.split(x, span or x.shape[1], dim=1):
        distribution, value, memory = network(piece, memory.detach())
        distributions.append(distribution)
        values.append(value)
    return joined(distributions), torch.cat(values, dim=1)


def memories_before_segments(network: RecurrentActorCritic, x: Tensor, span: int) -> Tensor:
    """The memory that each segment of `span` steps starts from, `[S, B * P, H]`, when trials pass from a fresh one.

    Args:
        network: The network; no gradient is kept.
        x: `[B, L, I]`.
        span: Steps of a segment; there are `P` in a trial, ordered as in `in_segments`.
    """
    memory, memories = network.fresh_memory(len(x)), []
    with torch.no_grad():
        for piece in torch.split(x, span, dim=1):
            memories.append(memory)
            memory = network(piece, memory)[2]
    return torch.stack(memories, dim=2).flatten(1, 2)


def memories_after_episodes(network: Remembering, x: Tensor, over: Bools) -> Tensor:
    """The memory after each episode's last step, `[S, B * (K + 1), H]`, when trials pass from a fresh one.

    All steps pass through the network once, episode after episode.

    Args:
        network: The network; no gradient is kept.
        x: `[B, L, I]`, packed trials.
        over: `[B, L]`, True on the last step of each episode; all trials have `K + 1` episodes. The memories are in
            the order of these steps, trial after trial.
    """
    ends = np.nonzero(over)[1].reshape(len(over), -1)  # [B, K + 1]
    lengths = np.diff(ends, axis=1, prepend=-1)
    rows, memory, memories = torch.arange(len(x)).unsqueeze(1), network.fresh_memory(len(x)), []
    with torch.no_grad():
        for end, length in zip(ends.T, lengths.T, strict=True):
            steps = (end - length)[:, None] + np.arange(1, length.max() + 1)  # [B, T], beyond shorter episodes' ends
            episode = x[rows, torch.tensor(np.minimum(steps, x.shape[1] - 1))]
            memory = network.memory_after(episode, memory, torch.tensor(length))
            memories.append(memory)
    return torch.stack(memories, dim=2).flatten(1, 2)


def in_segments(steps: Tensor, span: int) -> Tensor:
    """Trials `[B, L, ...]` as segments `[B * P, span, ...]`, those of a trial after one another, padded with zeros."""
    rows, length, *rest = steps.shape
    padding = steps.new_zeros(rows, -length % span, *rest)
    return torch.cat([steps, padding], dim=1).reshape(-1, span, *rest)
