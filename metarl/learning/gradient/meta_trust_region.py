"""A trust-region step on what is adapted afterwards: the outer loop of MAML-TRPO and of its relatives.

The meta-parameters `q` (initial parameters, perhaps step sizes too) become each task's parameters by an adaptation
with Jacobian `J = d theta' / d q`. The surrogate's gradient is then `J^T g`, and the divergence's curvature
`J^T F J`. What tells one algorithm from another is its `Adaptation`.
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
from metarl.learning.gradient.bounds import LowerBound
from metarl.learning.gradient.losses import mean_divergence, surrogate_objective
from metarl.learning.gradient.policy import Samples, StackedPolicy, task_chunks
from metarl.learning.gradient.trust_region import DivergenceCurvature, trust_region_step

GPU_CANDIDATES = 4
"""Steps of the line search that a GPU is given at once: most end within them, and only then does the host wait."""


@dataclass(frozen=True, kw_only=True)
class TrustRegionConfig:
    """Settings of the outer trust-region step."""

    max_kl: Positive = 0.01
    """Trust region: largest mean KL divergence of the adapted policies, nats; usually 0.005 to 0.02."""
    damping: NonNegative = 1e-5
    """Added to the diagonal of the curvature; usually 1e-5 to 1e-2."""
    cg_iterations: Rounds = 10
    """Iterations of conjugate gradients; usually 10."""
    line_search_steps: Rounds = 15
    """Candidates of the backtracking line search; usually 10 to 15."""
    line_search_decay: Shrinking = 0.8
    """Factor between two candidates' step lengths; usually 0.5 to 0.8."""


class Adaptation(Protocol):
    """How some tasks' parameters come about from the meta-parameters, `[Q]`, and the products with its Jacobian."""

    @property
    def end(self) -> Tensor:
        """Parameters after adaptation, `[M, P]`, without history."""
        ...

    def push(self, v: Tensor) -> Tensor:
        """Jacobian times a tangent `[Q]` of the meta-parameters: `[M, P]`."""
        ...

    def pull(self, w: Tensor) -> Tensor:
        """Transposed Jacobian times cotangents `[M, P]`, summed over the tasks: `[Q]`."""
        ...

    def adapted_from(self, meta_parameters: Tensor) -> Tensor:
        """Parameters after the same adaptation from other meta-parameters, `[M, P]`, without history."""
        ...


class ChunkLinearisation:
    """Everything about some of the tasks that does not change during one meta-update.

    Args:
        policy: The policy.
        adaptation: How the tasks' parameters came about.
        last: Samples of the collect after adaptation.
    """

    def __init__(self, policy: StackedPolicy, adaptation: Adaptation, last: Samples) -> None:
        self._policy, self._adaptation, self._last = policy, adaptation, last
        linear = policy.linearise(adaptation.end, last.observations)
        self._old = linear.distribution
        cotangents = linear.cotangents(lambda new: surrogate_objective(new, self._old, last))
        self._curvature = DivergenceCurvature(linear, last.weights)
        self.gradient = adaptation.pull(linear.pull(cotangents))  # [Q]

    def curvature_product(self, v: Tensor) -> Tensor:
        """Gauss-Newton product of the divergence after adaptation: `sum over tasks of J^T F J v`, `[Q]`.

        Exact at the old parameters: the other term of the Hessian carries the divergence's gradient, which is
        zero there.
        """
        return self._adaptation.pull(self._curvature.product(self._adaptation.push(v)))

    def evaluate(self, meta_parameters: Tensor) -> Tensor:
        """Surrogate and divergence at other meta-parameters, summed over the tasks, `[2]`."""
        adapted = self._adaptation.adapted_from(meta_parameters)
        with torch.no_grad():
            last = self._last
            new = self._policy(adapted, last.observations)
            return torch.stack(
                [surrogate_objective(new, self._old, last).sum(), mean_divergence(new, self._old, last).sum()]
            )


class RebuiltLinearisation:
    """A chunk that keeps nothing and is linearised anew whenever it is needed: slow, but its memory is one chunk's.

    Args:
        make: Linearises it.
    """

    def __init__(self, make: Callable[[], ChunkLinearisation]) -> None:
        self._make = make
        self.gradient = make().gradient  # [Q]

    def curvature_product(self, v: Tensor) -> Tensor:
        """See `ChunkLinearisation.curvature_product`."""
        return self._make().curvature_product(v)

    def evaluate(self, meta_parameters: Tensor) -> Tensor:
        """See `ChunkLinearisation.evaluate`."""
        return self._make().evaluate(meta_parameters)


Chunk = ChunkLinearisation | RebuiltLinearisation


def linearise(
    policy: StackedPolicy, adaptation: Callable[[Sequence[Samples]], Adaptation], samples: Sequence[Samples]
) -> list[Chunk]:
    """The outer objective of all tasks around the meta-parameters, as many tasks at a time as the device likes.

    All graphs are kept for the whole update if half of the free memory holds them; else each is built again for every
    product, so that a meta-batch of any size goes through.

    Args:
        policy: The policy.
        adaptation: Makes the adaptation of some tasks from their samples, one per adaptation step.
        samples: Of all tasks, one per collect.
    """
    (num_tasks, steps), device = samples[0].weights.shape, samples[0].weights.device
    keep = fits(num_tasks * graph_bytes(steps, policy.widths), device)

    def chunk(part: slice) -> ChunkLinearisation:
        *before, last = (s.tasks(part) for s in samples)
        return ChunkLinearisation(policy, adaptation(before), last)

    parts = task_chunks(num_tasks, steps, policy.widths, device)
    return [chunk(part) if keep else RebuiltLinearisation(partial(chunk, part)) for part in parts]


def mean_over_tasks(chunks: Sequence[Chunk], of: Callable[[Chunk], Tensor], num_tasks: int) -> Tensor:
    """Mean over all tasks of what the chunks give summed over theirs."""
    return torch.stack([of(c) for c in chunks]).sum(dim=0) / num_tasks


def meta_trust_region_step(
    meta_parameters: Tensor, chunks: Sequence[Chunk], num_tasks: int, config: TrustRegionConfig, bound: LowerBound
) -> tuple[Tensor, dict[str, float]]:
    """One trust-region step on the mean surrogate of the adapted policies.

    An entry at its bound whose gradient points below it takes no part in the step (Bertsekas 1982, section 2): else
    the trust region would be spent on a direction that the projection undoes.

    Args:
        meta_parameters: `[Q]`, those that the chunks were linearised at.
        chunks: All tasks of the meta-batch.
        num_tasks: `M`.
        config: Size of the region, conjugate gradients, line search.
        bound: Of the meta-parameters, which keep it.

    Returns:
        The new meta-parameters `[Q]` (the old ones if no candidate was accepted), and numbers for the log.
    """

    def product(v: Tensor) -> Tensor:
        image = mean_over_tasks(chunks, lambda c: c.curvature_product(v), num_tasks) + config.damping * v
        return bound.clear_(image, held)

    def evaluate(candidate: Tensor) -> Tensor:
        return mean_over_tasks(chunks, lambda c: c.evaluate(candidate), num_tasks)

    # Evaluated by the same code as the candidates, so that rounding cannot pass for an improvement.
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
