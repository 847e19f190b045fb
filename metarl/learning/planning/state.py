"""The state of an agent that plans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Plans:
    """Plans, and the last transitions of each environment.

    Args:
        plans: `[M, E, H, A]`, scaled to [-1, 1].
        observation: The last observation, `[M, E, O]`.
        window: The last transitions, the newest one last, `[M, E, W, O + A + O]`.
        count: Number of transitions in the window, `[M, E]`.
    """

    plans: Tensor
    observation: Tensor
    window: Tensor
    count: Tensor

    def tasks(self, part: slice) -> Plans:
        """The state of some of the tasks, in order."""
        return Plans(*(t[part].clone() for t in vars(self).values()))

    @classmethod
    def join(cls, parts: Sequence[Plans]) -> Plans:
        """The state of all tasks of the parts, in order."""
        return cls(*(torch.cat(tensors) for tensors in zip(*(vars(part).values() for part in parts), strict=True)))
