"""Supports: sums of encodings per class or over all examples, random numbers of shots, and a check of the outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from metarl.few_shot.shots import ShotSpaces
from metarl.learning.few_shot.base import Examples

NEVER = -1e30
"""Logit of a class without examples: its probability is 0, and no gradient becomes NaN."""


@dataclass(frozen=True)
class Summary:
    """Sums of encodings of the support, in G groups: the classes, or one group of all examples.

    A sum does not depend on the order of the examples, and more examples can be added at any time.

    Args:
        sums: `[M, G, Z]`.
        counts: Examples of each group, `[M, G]`.
    """

    sums: Tensor
    counts: Tensor

    @classmethod
    def fresh(cls, like: Tensor, tasks: int, groups: int, size: int) -> Summary:
        """The summary of no examples.

        Args:
            like: A tensor of the same type and device.
            tasks: `M`.
            groups: `G`.
            size: `Z`.
        """
        return cls(like.new_zeros(tasks, groups, size), like.new_zeros(tasks, groups))

    def plus(self, encodings: Tensor, groups: Tensor | None = None) -> Summary:
        """The summary with more examples.

        Args:
            encodings: `[M, B, Z]`.
            groups: Group of each example, one-hot, `[M, B, G]`; by default all are in one group.
        """
        if groups is None:
            groups = encodings.new_ones(*encodings.shape[:2], 1)
        return Summary(self.sums + groups.mT @ encodings, self.counts + groups.sum(dim=1))

    @property
    def means(self) -> Tensor:
        """Mean encoding of each group, `[M, G, Z]`; zeros for a group without examples."""
        return self.sums / self.counts.clamp(min=1).unsqueeze(-1)

    def possible(self, logits: Tensor) -> Tensor:
        """Logits of classes that have examples; uniform for a task without any example.

        Args:
            logits: `[M, B, G]`, or `[M, B, O]` if there is one group of all examples.
        """
        some = (self.counts > 0).any(dim=-1, keepdim=True)
        logits = logits.masked_fill(~some.unsqueeze(1), 0.0)
        return logits.masked_fill((some & (self.counts == 0)).unsqueeze(1), NEVER)

    def tasks(self, part: slice) -> Summary:
        """The state of some of the tasks."""
        return Summary(self.sums[part].clone(), self.counts[part].clone())

    @classmethod
    def join(cls, parts: Sequence[Summary]) -> Summary:
        """The state of all tasks of the parts, in order."""
        return cls(torch.cat([part.sums for part in parts]), torch.cat([part.counts for part in parts]))


def some_shots(support: Examples, spaces: ShotSpaces, rng: np.random.Generator, *, fewest: int) -> Examples:
    """The support of a random number of shots, uniform from `fewest` to all; the same number for all tasks.

    Args:
        support: The support.
        spaces: Sizes of the examples.
        rng: Source of the number.
        fewest: Smallest number of shots.
    """
    shots = support.x.shape[1] // spaces.per_shot
    count = int(rng.integers(fewest, shots, endpoint=True)) * spaces.per_shot
    return Examples(support.x[:, :count], support.y[:, :count])


def check_classification(learner: str, spaces: ShotSpaces) -> None:
    """Checks that outputs are classes.

    Args:
        learner: Name of the learner, for the message.
        spaces: Sizes of the examples.

    Raises:
        ValueError: Outputs are real numbers.
    """
    if not spaces.classification:
        raise ValueError(
            f"{learner}: got a family with real outputs (a regression), expected one with classes, such as skills; "
            "for this family use versa, amortised-maml or neural-process"
        )
