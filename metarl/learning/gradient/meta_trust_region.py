"""The trust-region step through an adaptation: the outer loop of MAML-TRPO and its relatives.

An adaptation with the Jacobian `J = d theta' / d q` maps the meta-parameters `q` (initial parameters, for Meta-SGD also
step sizes) to each task's parameters. The gradient of the surrogate is `J^T g`, the curvature of the divergence
`J^T F J`. The algorithms differ in their `Adaptation` only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from metarl.config import NonNegative, Positive, Rounds, Shrinking
from metarl.learning.device.chunks import fits, graph_bytes
from metarl.learning.gradient.adaptation import Adaptation
from metarl.learning.gradient.bounds import LowerBound
from metarl.learning.gradient.losses import mean_divergence, surrogate_objective
from metarl.learning.gradient.policy import Samples, StackedPolicy, task_chunks
from metarl.learning.gradient.trust_region import DivergenceCurvature, trust_region_step

GPU_CANDIDATES = 4
"""Line-search candidates that a GPU evaluates before the host waits; most searches need no more."""


@dataclass(frozen=True, kw_only=True)
class TrustRegionConfig:
    """Settings of the outer trust-region step."""

    max_kl: Positive = 0.01
    """Largest mean KL divergence per update (trust region), nats; usually 0.005 to 0.02."""
    damping: NonNegative = 1e-5
    """Damping added to the Fisher matrix's diagonal; usually 1e-5 to 1e-2."""
    cg_iterations: Rounds = 10
    """Iterations of the conjugate gradient method; usually 10."""
    line_search_steps: Rounds = 15
    """Largest number of line-search steps; usually 10 to 15."""
    line_search_decay: Shrinking = 0.8
    """Factor on the step length per line-search step; usually 0.5 to 0.8."""


class ChunkLinearisation:
    """Outer objective and divergence of some tasks, linearised at the meta-parameters.

    Args:
        policy: The policy.
        adaptation: Adaptation of these tasks.
        last: Samples of the collect after adaptation.

    Attributes:
        gradient: Gradient of the surrogate, summed over the tasks, `[Q]`.
    """

    def __init__(self, policy: StackedPolicy, adaptation: Adaptation, last: Samples) -> None:
        self._policy, self._adaptation, self._last = policy, adaptation, last
        linear = policy.linearise(adaptation.end, last.observations)
        self._old = linear.distribution
        cotangents = linear.cotangents(lambda new: surrogate_objective(new, self._old, last))
        self._curvature = DivergenceCurvature(linear, last.weights)
        self.gradient = adaptation.vjp(linear.vjp(cotangents))

    def curvature_product(self, v: Tensor) -> Tensor:
        """Gauss-Newton product of the divergence after adaptation: `sum over tasks of J^T F J v`, `[Q]`.

        It is exact at the old parameters: the other term of the Hessian contains the gradient of the divergence, which
        is zero there.
        """
        return self._adaptation.vjp(self._curvature.product(self._adaptation.jvp(v)))

    def evaluate(self, meta_parameters: Tensor) -> Tensor:
        """Surrogate and divergence at other meta-parameters, summed over the tasks, `[2]`."""
        adapted = self._adaptation.adapted_from(meta_parameters)
        with torch.no_grad():
            last = self._last
            new = self._policy(adapted, last.observations)
            return torch.stack(
                [surrogate_objective(new, self._old, last).sum(), mean_divergence(new, self._old, last).sum()]
            )


class Chunk(Protocol):
    """Outer objective and divergence of some tasks, linearised at the meta-parameters; see `ChunkLinearisation`."""

    gradient: Tensor

    def curvature_product(self, v: Tensor) -> Tensor:
        """See `ChunkLinearisation.curvature_product`."""
        ...

    def evaluate(self, meta_parameters: Tensor) -> Tensor:
        """See `ChunkLinearisation.evaluate`."""
        ...


class RebuiltLinearisation:
    """A chunk that is linearised again for every product: slow, but only one chunk is in memory at a time.

    Args:
        make: Linearises the chunk.
    """

    def __init__(self, make: Callable[[], Chunk]) -> None:
        self._make = make
        self.gradient = make().gradient  # [Q]

    def curvature_product(self, v: Tensor) -> Tensor:
        """See `ChunkLinearisation.curvature_product`."""
        return self._make().curvature_product(v)

    def evaluate(self, meta_parameters: Tensor) -> Tensor:
        """See `ChunkLinearisation.evaluate`."""
        return self._make().evaluate(meta_parameters)


def linearise(
    policy: StackedPolicy,
    adaptation: Callable[[Sequence[Samples]], Adaptation],
    samples: Sequence[Samples],
    more_bytes: int = 0,
) -> list[Chunk]:
    """The outer objective of all tasks, linearised at the meta-parameters, in chunks of tasks; see `in_chunks`.

    Args:
        policy: The policy.
        adaptation: Maps the samples of some tasks, one per adaptation step, to their adaptation.
        samples: Samples of all tasks, one per collect.
        more_bytes: Bytes of each task's graph besides the policy's.
    """

    def chunk(samples: Sequence[Samples]) -> ChunkLinearisation:
        *before, last = samples
        return ChunkLinearisation(policy, adaptation(before), last)

    return in_chunks(chunk, samples, policy.widths, more_bytes)


def in_chunks(
    make: Callable[[Sequence[Samples]], Chunk],
    samples: Sequence[Samples],
    widths: tuple[int, ...],
    more_bytes: int = 0,
) -> list[Chunk]:
    """Linearises chunks of tasks sized for the device.

    All chunks are kept for the whole update if half of the free memory holds them. Otherwise each is linearised again
    for every product, so that the size of the meta-batch is not limited by memory.

    Args:
        make: Linearises the objective of some tasks, given their samples.
        samples: Samples of all tasks, one per collect.
        widths: Units of every layer of the network.
        more_bytes: Bytes of each task's graph besides the policy's.
    """
    (num_tasks, steps), device = samples[0].weights.shape, samples[0].weights.device
    keep = fits(num_tasks * (graph_bytes(steps, widths) + more_bytes), device)
    parts = task_chunks(num_tasks, steps, widths, device, more_bytes)
    chunks = [partial(make, [s.tasks(part) for s in samples]) for part in parts]
    return [chunk() if keep else RebuiltLinearisation(chunk) for chunk in chunks]


def mean_over_tasks(chunks: Sequence[Chunk], of: Callable[[Chunk], Tensor], num_tasks: int) -> Tensor:
    """Mean over all tasks of a quantity that each chunk sums over its tasks."""
    return torch.stack([of(c) for c in chunks]).sum(dim=0) / num_tasks


def meta_trust_region_step(
    meta_parameters: Tensor, chunks: Sequence[Chunk], num_tasks: int, config: TrustRegionConfig, bound: LowerBound
) -> tuple[Tensor, dict[str, float]]:
    """One trust-region step on the mean surrogate of the adapted policies.

    An entry at its bound with a gradient that points below it is left out of the step (Bertsekas 1982, section 2).
    Otherwise the projection would undo a part of the step, and waste a part of the trust region.

    Args:
        meta_parameters: `[Q]`, the point at which the chunks were linearised.
        chunks: Chunks with all tasks of the meta-batch.
        num_tasks: `M`.
        config: Size of the region, conjugate gradients, line search.
        bound: Lower bound of the meta-parameters.

    Returns:
        The new meta-parameters `[Q]` (the old ones if no candidate was accepted), and metrics.
    """

    def product(v: Tensor) -> Tensor:
        image = mean_over_tasks(chunks, lambda c: c.curvature_product(v), num_tasks) + config.damping * v
        return bound.clear_(image, held)

    def evaluate(candidate: Tensor) -> Tensor:
        return mean_over_tasks(chunks, lambda c: c.evaluate(candidate), num_tasks)

    # Computed by the same code as for the candidates, so that a rounding error cannot count as an improvement.
    old_surrogate = evaluate(meta_parameters)[0].item()
    gradient = mean_over_tasks(chunks, lambda c: c.gradient, num_tasks)
    held = bound.held(meta_parameters, gradient)
    gradient = bound.clear_(gradient, held)
    result = trust_region_step(
        meta_parameters,
        gradient,
        product,
        evaluate,
        old_surrogate=old_surrogate,
        max_kl=config.max_kl,
        iterations=config.cg_iterations,
        backtracks=config.line_search_steps,
        decay=config.line_search_decay,
        at_once=GPU_CANDIDATES if meta_parameters.is_cuda else 1,
        project=bound.project_,
    )
    return result.parameters, {
        "update/accepted": float(result.accepted),
        "update/kl": result.kl,
        "update/surrogate_gain": result.surrogate - old_surrogate,
        "update/backtracks": float(result.backtracks),
        "update/gradient_norm": float(gradient.norm()),
    }
