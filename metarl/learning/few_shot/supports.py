"""Supports: sums of encodings per class or over all examples, random numbers of shots; checks of outputs and memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from metarl.few_shot.shots import ShotSpaces
from metarl.learning.device.gpu import send
from metarl.learning.few_shot.base import Examples
from metarl.learning.few_shot.networks import Network
from metarl.memory import FLOAT, LEARNED, Need, RunSize

NEVER = -1e30
"""Logit of a class without examples: its probability is 0, and no gradient becomes NaN."""

ZEROS = 4.0
"""Encodings of zero in a mean over residuals, so that a single example, mostly noise, changes little."""


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

    def plus_residuals(self, encodings: Tensor, residuals: Tensor) -> Summary:
        """The summary of a regression with more examples, one group of each output: sums of `[e, 1] r_o`.

        Args:
            encodings: `e`, `[M, B, Z - 1]`.
            residuals: `r`, outputs minus predictions, `[M, B, G]`.
        """
        e = functional.pad(encodings, (0, 1), value=1.0)
        return Summary(self.sums + residuals.mT @ e, self.counts + encodings.shape[1])

    @property
    def shrunk_means(self) -> Tensor:
        """Mean encoding of each group and of `ZEROS` encodings of zero, `[M, G, Z]`."""
        return self.sums / (self.counts + ZEROS).unsqueeze(-1)

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


def shuffled_inputs(
    support: Examples, queries: Examples, rng: np.random.Generator, probability: float
) -> tuple[Examples, Examples]:
    """Tasks in which one component of the inputs says nothing: its values are shuffled among the task's examples.

    They teach a learner of few training tasks to find out from the support what matters, instead of recognising the
    task (meta-augmentation: Rajendran et al. 2020, arXiv:2007.05549).

    Args:
        support: The support; inputs are vectors.
        queries: The queries.
        rng: Source of the choice.
        probability: Probability that a component of a task is shuffled.
    """
    count = support.x.shape[1]
    x = torch.cat([support.x, queries.x], dim=1)
    tasks, examples, size = x.shape
    chosen = rng.integers(size, size=tasks)
    order = np.argsort(rng.random((tasks, examples)), axis=1)
    order = np.where((rng.random(tasks) < probability)[:, None], order, np.arange(examples))
    rows = torch.arange(tasks, device=x.device).unsqueeze(1)
    components = send(chosen, x.device).unsqueeze(1).expand(-1, examples)
    places = torch.arange(examples, device=x.device).expand(tasks, -1)
    x = x.index_put((rows, places, components), x[rows, send(order, x.device), components])
    return Examples(x[:, :count], support.y), Examples(x[:, count:], queries.y)


def zero_at_first(network: Network, rng: np.random.Generator) -> Tensor:
    """Initial parameters of a network whose outputs are 0 at first, `[P]`."""
    parameters = network.initial(rng)
    parameters[-(network.features + 1) * network.outputs :] = 0.0
    return parameters


def networks_memory(networks: Sequence[Network], spaces: ShotSpaces, size: RunSize) -> list[Need]:
    """Memory of networks that all tasks share, and of their outputs for the examples of a meta-batch.

    Args:
        networks: The networks.
        spaces: Sizes of the examples.
        size: Size of the training.
    """
    parameters = sum(network.size for network in networks)
    examples = size.tasks * (spaces.shots + spaces.queries) * spaces.per_shot
    kept = examples * sum(network.features + network.outputs for network in networks)
    need = Need(
        f"training {len(networks)} networks of {parameters:,} parameters in all on {examples:,} examples",
        FLOAT * (LEARNED * parameters + (0 if size.gpu else kept)),
        "smaller layers (--agent.hidden, --agent.channels), smaller outputs of theirs, or fewer --tasks",
    )
    return [need]


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
