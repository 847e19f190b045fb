"""Policies and value functions with a memory, and their forward passes over whole trials."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Generic

import numpy as np
import torch
from torch import Tensor

from metarl.learning.networks.cells.base import MemoryT, Remembering, mapped
from metarl.learning.networks.distributions import Distribution, at_step, joined
from metarl.learning.networks.modules import PolicyHead
from metarl.types import Bools


class SequenceNetwork(Remembering[MemoryT], Generic[MemoryT]):
    """A policy and a value function with a memory, for `metarl.learning.ppo.trial_agent.TrialAgent`.

    A subclass defines `fresh_memory`, `forward` and `policy`; the other methods have defaults for any memory, and may
    be overridden for speed.

    Attributes:
        policy: Output layer of the policy.
    """

    policy: PolicyHead

    @abstractmethod
    def forward(self, x: Tensor, memory: MemoryT) -> tuple[Distribution, Tensor, MemoryT]:
        """Continues from a memory over `L` steps. Rows are independent of each other.

        Args:
            x: Inputs, `[B, L, I]`.
            memory: Memory of `B` rows; not to be changed in place.

        Returns:
            The policy at each step `[B, L, ...]`, the values `[B, L]`, and the memory after the last step.
        """

    def step(self, x: Tensor, memory: MemoryT) -> tuple[Distribution, Tensor, MemoryT]:
        """Continues from a memory over a single step, for acting.

        Args:
            x: Inputs, `[B, I]`.
            memory: Memory of `B` rows; not to be changed in place.

        Returns:
            The policy `[B, ...]`, the values `[B]`, and the memory after the step.
        """
        distribution, values, memory = self(x.unsqueeze(1), memory)
        return at_step(distribution, 0), values[:, 0], memory

    def value_after(self, x: Tensor, steps: Tensor) -> Tensor:
        """The value `[B]` at step number `steps` `[B]` (from 0, on the CPU) of each row, from a fresh memory."""
        values: Tensor = self(x, self.fresh_memory(len(x)))[1]
        return values[torch.arange(len(x)), steps]

    def exported_parameters(self) -> dict[str, Tensor]:
        """The parameters of an exported policy, by name: `network.NAME`."""
        return {f"network.{name}": p.detach() for name, p in self.named_parameters()}


def unroll(network: SequenceNetwork[Any], x: Tensor, span: int = 0) -> tuple[Distribution, Tensor]:
    """Policy and values over whole packed trials, from a fresh memory.

    Args:
        network: The network.
        x: `[B, L, I]`.
        span: Steps of truncated back-propagation; 0 for the whole trial. It does not change the values.

    Returns:
        The policy at each step, and the values `[B, L]`.
    """
    memory = network.fresh_memory(len(x))
    distributions, values = [], []
    for piece in torch.split(x, span or x.shape[1], dim=1):
        distribution, value, memory = network(piece, mapped(Tensor.detach, memory))
        distributions.append(distribution)
        values.append(value)
    return joined(distributions), torch.cat(values, dim=1)


@torch.no_grad()
def memories_before_segments(network: SequenceNetwork[MemoryT], x: Tensor, span: int) -> MemoryT:
    """The memory before each segment of `span` steps, `B * P` rows, without gradient.

    Args:
        network: The network; trials pass through it from a fresh memory.
        x: `[B, L, I]`.
        span: Steps of a segment; a trial has `P` segments, ordered as in `in_segments`.
    """
    memory, memories = network.fresh_memory(len(x)), []
    for piece in torch.split(x, span, dim=1):
        memories.append(memory)
        memory = network(piece, memory)[2]
    return _side_by_side(memories)


@torch.no_grad()
def memories_after_episodes(network: Remembering[MemoryT], x: Tensor, over: Bools) -> MemoryT:
    """The memory after each episode's last step, `B * (K + 1)` rows, without gradient.

    All steps pass through the network once, episode after episode, from a fresh memory.

    Args:
        network: The network.
        x: Packed trials, `[B, L, I]`.
        over: `[B, L]`, True on the last step of each episode; all trials have `K + 1` episodes. The memories are in
            the order of these steps, trial after trial.
    """
    ends = np.nonzero(over)[1].reshape(len(over), -1)  # [B, K + 1]
    lengths = np.diff(ends, axis=1, prepend=-1)
    rows, memory, memories = torch.arange(len(x)).unsqueeze(1), network.fresh_memory(len(x)), []
    for end, length in zip(ends.T, lengths.T, strict=True):
        steps = (end - length)[:, None] + np.arange(1, length.max() + 1)  # [B, T], beyond shorter episodes' ends
        episode = x[rows, torch.tensor(np.minimum(steps, x.shape[1] - 1))]
        memory = network.memory_after(episode, memory, torch.tensor(length))
        memories.append(memory)
    return _side_by_side(memories)


def _side_by_side(memories: list[MemoryT]) -> MemoryT:
    """Several memories of the same `B` rows as one of `B * len(memories)` rows; the memories of a row are adjacent."""
    return mapped(lambda *parts: torch.stack(parts, dim=1).flatten(0, 1), *memories)


def in_segments(steps: Tensor, span: int) -> Tensor:
    """Trials `[B, L, ...]` as segments `[B * P, span, ...]`, those of a trial in order, padded with zeros."""
    rows, length, *rest = steps.shape
    padding = steps.new_zeros(rows, -length % span, *rest)
    return torch.cat([steps, padding], dim=1).reshape(-1, span, *rest)
