"""ProMP: MAML with low-variance estimates of the inner curvature and clipped proximal outer steps.

Rothfuss, Lee, Clavera, Asfour and Abbeel 2019, "ProMP: Proximal Meta-Policy Search" (arXiv:1810.06784), algorithm 1.
The page `docs/promp.md` has the equations and every detail that changes a result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from metarl.config import NonNegative, Positive, Rounds, Shrinking
from metarl.learning.gradient.agent import AdaptedPolicy, GradientAgent, GradientAgentConfig
from metarl.learning.gradient.inner_loop import InnerStep
from metarl.learning.gradient.losses import mean_divergence, probability_ratio
from metarl.learning.gradient.policy import Samples, StackedPolicy, task_chunks
from metarl.learning.networks.distributions import Distribution
from metarl.learning.networks.linearised import LinearisedPolicy, LossDerivatives
from metarl.learning.networks.optimisers import Adam
from metarl.types import MetaBatch, Spaces, Trajectories


@dataclass(frozen=True, kw_only=True)
class PrompConfig(GradientAgentConfig):
    """Settings of ProMP."""

    lr: Positive = 1e-3
    """Step size of Adam in the outer loop; usually 3e-4 to 1e-3."""
    epochs: Rounds = 5
    """Outer steps per iteration, each on the whole meta-batch; usually 5."""
    clip: Shrinking = 0.3
    """Probability ratios are clipped to [1 - clip, 1 + clip]; usually 0.2 to 0.3."""
    inner_kl_penalty: NonNegative = 5e-4
    """Weight of the KL divergence between the old policies and the new ones before each inner step; usually 5e-4."""


class RatioLoss:
    """Derivatives of the inner loss: minus the mean of probability ratio times advantage (J^LR, equation 12).

    At the old policy its gradient equals that of `inner_loss`, sample by sample. Its Hessian also contains the products
    of scores, which `inner_loss` lacks: the low-variance curvature estimator of section 5.

    Args:
        new: Action distributions of the policy.
        old_log_prob: Log-probability of the actions under the policy that took them, `[M, B]`.
        samples: The samples.

    Attributes:
        gradient: Gradient with respect to mean and log-std, or to the logits.
    """

    def __init__(self, new: Distribution, old_log_prob: Tensor, samples: Samples) -> None:
        self._new, self._actions = new, samples.actions
        ratio = probability_ratio(new, old_log_prob, samples)
        # First and second derivative with respect to a sample's log-probability, which are equal, [M, B].
        self._slope = -samples.weights * samples.advantages * ratio
        self.gradient: tuple[Tensor, ...] = new.log_prob_gradient(self._actions, self._slope)

    def hessian_product(self, tangents: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Hessian-vector product, for tangents of mean and log-std, or of the logits."""
        return self._new.log_prob_product(self._actions, self._slope, self._slope, tangents)


def clipped_objective(ratio: Tensor, samples: Samples, clip: float) -> Tensor:
    """Mean of min(ratio * A, clip(ratio, 1 - clip, 1 + clip) * A), `[M]` (J^CLIP, section 6); `ratio` is `[M, B]`."""
    bounded = ratio.clamp(1.0 - clip, 1.0 + clip)
    return (samples.weights * torch.minimum(ratio * samples.advantages, bounded * samples.advantages)).sum(dim=1)


def clipped_slope(ratio: Tensor, samples: Samples, clip: float) -> Tensor:
    """Derivative of `clipped_objective` with respect to each sample's log-probability, `[M, B]`."""
    counts = torch.where(samples.advantages >= 0.0, ratio <= 1.0 + clip, ratio >= 1.0 - clip)
    return samples.weights * samples.advantages * torch.where(counts, ratio, 0.0)


class Pass(NamedTuple):
    """The adaptation of some tasks from given initial parameters.

    Attributes:
        before: Policy before each inner step, at the observations of its collect.
        losses: Derivatives of the loss of each step.
        steps: The inner steps.
        after: Policy after the last step, at the observations of the last collect.
    """

    before: list[LinearisedPolicy]
    losses: list[LossDerivatives]
    steps: list[InnerStep]
    after: LinearisedPolicy


class ChunkObjective:
    """The outer objective of some tasks, summed over them, as a function of the initial parameters `[P]`.

    Args:
        policy: The policy.
        parameters: Initial parameters that the samples were collected with, `[P]`.
        samples: One per collect, of these tasks.
        config: Step size, clipping, penalty.
    """

    def __init__(
        self, policy: StackedPolicy, parameters: Tensor, samples: Sequence[Samples], config: PrompConfig
    ) -> None:
        self._policy, self._samples, self._config = policy, samples, config
        self._num_tasks = len(samples[0].observations)
        self._old: list[Distribution] = []  # policies that collected
        self._old_log_probs: list[Tensor] = []  # of their actions, [M, B]
        first = self._pass(parameters)
        # The first epoch starts where the samples were collected, so its gradient costs no further pass.
        self._initial, self._initial_gradient = parameters, self._vjp(first)

    def _pass(self, parameters: Tensor) -> Pass:
        """Adapts from the parameters `[P]`; the first call also records the policies that collected."""
        at, before, losses, steps = parameters.expand(self._num_tasks, -1).contiguous(), [], [], []
        for k, samples in enumerate(self._samples[:-1]):
            before.append(self._at(at, k))
            loss = RatioLoss(before[-1].distribution, self._old_log_probs[k], samples)
            losses.append(LossDerivatives(before[-1], loss))
            gradient, product = losses[-1].gradient, losses[-1].hessian_product
            steps.append(InnerStep(at, gradient, self._config.inner_lr, self._policy.bound, product))
            at = steps[-1].end
        return Pass(before, losses, steps, self._at(at, len(losses)))

    def _at(self, parameters: Tensor, collect: int) -> LinearisedPolicy:
        """The policies with the parameters `[M, P]`, linearised at the observations of a collect."""
        samples = self._samples[collect]
        policy = self._policy.linearise(parameters, samples.observations)
        if collect == len(self._old):
            self._old.append(policy.distribution)
            self._old_log_probs.append(policy.distribution.log_prob(samples.actions))
        return policy

    def _vjp(self, done: Pass) -> Tensor:
        """Gradient of the objective with respect to the initial parameters, `[P]`, back through all inner steps."""
        penalty = self._config.inner_kl_penalty / len(done.losses)
        after, last = done.after.distribution, self._samples[-1]
        slope = clipped_slope(self._ratio(after), last, self._config.clip)
        cotangent = done.after.vjp(after.log_prob_gradient(last.actions, slope))
        for k in range(len(done.losses) - 1, -1, -1):
            # alpha H u + eta grad KL: both go back through the same network, in one backward pass.
            weights = penalty * self._samples[k].weights
            kl_gradient = done.before[k].distribution.kl_gradient(self._old[k], weights)
            u = done.steps[k].through_projection(cotangent)
            cotangent = u - done.losses[k].hessian_product(self._config.inner_lr * u, kl_gradient)
        return cotangent.sum(dim=0)

    def _divergence(self, new: Distribution, collect: int) -> Tensor:
        """Mean divergence from the policy that collected, `[M]`."""
        return mean_divergence(new, self._old[collect], self._samples[collect])

    def _ratio(self, after: Distribution) -> Tensor:
        """Probability ratios of the actions of the last collect, `[M, B]`."""
        return probability_ratio(after, self._old_log_probs[-1], self._samples[-1])

    def gradient(self, parameters: Tensor) -> Tensor:
        """Gradient of the objective (the first number of `evaluate`) with respect to the initial parameters, `[P]`."""
        if parameters is self._initial:
            return self._initial_gradient
        return self._vjp(self._pass(parameters))

    def evaluate(self, parameters: Tensor) -> Tensor:
        """Objective, divergence after and before adaptation, clipped fraction, each summed over the tasks, `[4]`."""
        last = self._samples[-1]
        if parameters is self._initial:  # every ratio is 1
            gain = (last.weights * last.advantages).sum()
            return torch.stack([gain, *[torch.zeros_like(gain)] * 3])
        done = self._pass(parameters)
        after, ratio = done.after.distribution, self._ratio(done.after.distribution)
        divergences = [self._divergence(policy.distribution, k).sum() for k, policy in enumerate(done.before)]
        inner, outer = torch.stack(divergences).mean(), self._divergence(after, len(divergences)).sum()
        objective = clipped_objective(ratio, last, self._config.clip).sum() - self._config.inner_kl_penalty * inner
        clipped = (last.weights * ((ratio - 1.0).abs() > self._config.clip)).sum()
        return torch.stack([objective, outer, inner, clipped])


class Promp(GradientAgent[PrompConfig]):
    """ProMP as a `metarl.agent.MetaAgent`; its state is an `AdaptedPolicy`. It is built like a `GradientAgent`."""

    Config: ClassVar[type] = PrompConfig
    summary: ClassVar[str] = "MAML with low-variance curvature and clipped outer steps (Rothfuss et al. 2019)"

    def __init__(self, config: PrompConfig, spaces: Spaces, *, device: torch.device, rng: np.random.Generator):
        super().__init__(config, spaces, device=device, rng=rng)
        self._leaf = self.parameters.clone().requires_grad_()  # Adam's own copy, before the projection
        self._adam = Adam([self._leaf], config.lr)

    def adapt(self, state: AdaptedPolicy, trajectories: Trajectories) -> AdaptedPolicy:
        """One inner step per task on J^LR; the old policy is the one that acted (section 6)."""
        samples = self._samples_for(state, trajectories)
        linear = self.policy.linearise(state.parameters, samples.observations)
        loss = RatioLoss(linear.distribution, linear.distribution.log_prob(samples.actions), samples)
        gradient, bound = linear.vjp(loss.gradient), self.policy.bound
        return AdaptedPolicy(InnerStep(state.parameters, gradient, self.config.inner_lr, bound, None).end)

    def meta_update(self, batch: MetaBatch[Trajectories]) -> dict[str, float]:
        """Several steps of Adam on the clipped objective of the adapted policies (algorithm 1)."""
        num_tasks, samples = len(batch.tasks), [self.samples(t) for t in batch.collects]
        objectives = [
            ChunkObjective(self.policy, self.parameters, [s.tasks(part) for s in samples], self.config)
            for part in task_chunks(num_tasks, samples[0].weights.shape[1], self.policy.widths, self.device)
        ]

        def evaluate() -> list[float]:
            numbers = torch.stack([o.evaluate(self.parameters) for o in objectives]).sum(dim=0) / num_tasks
            return [float(x) for x in numbers]

        before, norms = evaluate()[0], []
        for _ in range(self.config.epochs):
            gradient = torch.stack([o.gradient(self.parameters) for o in objectives]).sum(dim=0) / num_tasks
            norms.append(gradient.norm())
            self.ascend(gradient)
        after, outer, inner, clipped = evaluate()
        self.update_statistics(batch.collects)
        return {
            "update/objective_gain": after - before,
            "update/kl": outer,
            "update/inner_kl": inner,
            "update/clipped": clipped,
            "update/gradient_norm": float(torch.stack(norms).mean()),
            "policy/std": self.policy.std(self.parameters),
        }

    def ascend(self, gradient: Tensor) -> None:
        """One step of Adam along the gradient of the objective `[P]`, projected onto the policy's bound."""
        self._leaf.grad = -gradient
        self._adam.step()
        self.parameters = self.policy.bound.project_(self._leaf.detach()).clone()

    def tensors(self) -> dict[str, Tensor]:
        """Parameters, running statistics and the state of Adam."""
        return {**super().tensors(), **self._adam.tensors("adam")}

    def restore(self, tensors: Mapping[str, Tensor], counters: Mapping[str, Any]) -> None:
        """Restores the arrays of `tensors`.

        Raises:
            ValueError: Names or shapes differ from this agent's.
        """
        super().restore(tensors, counters)
        with torch.no_grad():
            self._leaf.copy_(self.parameters)
        self._adam.restore("adam", tensors)
