"""Segments of trials as the rows of PPO's minibatches."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from metarl.learning.networks.cells.base import leaves, rebuilt
from metarl.learning.networks.distributions import Distribution
from metarl.learning.networks.sequence import SequenceNetwork, in_segments, memories_before_segments
from metarl.learning.ppo.learner import PpoSamples


def segments_of(
    network: SequenceNetwork[Any], x: Tensor, samples: PpoSamples, span: int
) -> tuple[PpoSamples, tuple[Tensor, ...]]:
    """Samples of segments, and the inputs of `through_segments` in the same rows.

    Each segment starts from its trial's current memory at that step, a stored state (Kapturowski et al. 2019,
    "Recurrent Experience Replay in Distributed Reinforcement Learning"). Segments that consist of padding are left out.

    Args:
        network: The network.
        x: Inputs of the network over whole trials, `[B, L, I]`.
        samples: Samples of whole trials, `[B, L, ...]`.
        span: Steps of a segment.
    """
    memories = leaves(memories_before_segments(network, x, span))
    happened = in_segments(samples.mask, span).any(dim=1).nonzero().squeeze(1)
    segments = PpoSamples(*(in_segments(t, span)[happened] for t in samples))
    return segments, (in_segments(x, span)[happened], *(t[happened] for t in memories))


def through_segments(network: SequenceNetwork[Any], x: Tensor, *memory: Tensor) -> tuple[Distribution, Tensor]:
    """Policy and values of segments.

    Args:
        network: The network.
        x: Inputs, `[B, span, I]`.
        memory: The tensors of the memories before the segments.
    """
    distribution, values, _ = network(x, rebuilt(network.fresh_memory(1), memory))
    return distribution, values
