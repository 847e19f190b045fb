"""Segments of trials as the rows of PPO's minibatches."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from metarl.learning.networks.cells.base import mapped
from metarl.learning.networks.sequence import SequenceNetwork, in_segments, memories_before_segments
from metarl.learning.ppo.learner import Forward, PpoSamples


def segments_of(network: SequenceNetwork[Any], x: Tensor, samples: PpoSamples, span: int) -> tuple[PpoSamples, Forward]:
    """Samples of segments, and the function that passes rows of them through the network.

    Each segment starts from its trial's current memory at that step, a stored state (Kapturowski et al. 2019,
    "Recurrent Experience Replay in Distributed Reinforcement Learning"). Segments that consist of padding are left out.

    Args:
        network: The network.
        x: Inputs of the network over whole trials, `[B, L, I]`.
        samples: Samples of whole trials, `[B, L, ...]`.
        span: Steps of a segment.
    """
    memories = memories_before_segments(network, x, span)
    happened = in_segments(samples.mask, span).any(dim=1).nonzero().squeeze(1)
    starts, inputs = mapped(lambda t: t[happened], memories), in_segments(x, span)[happened]
    segments = PpoSamples(*(in_segments(t, span)[happened] for t in samples))
    return segments, lambda rows: network(inputs[rows], mapped(lambda t: t[rows], starts))[:2]
