"""ProMP: MAML whose inner loss gives low-variance curvature, with clipped proximal outer steps.

Rothfuss, Lee, Clavera, Asfour and Abbeel 2019, "ProMP: Proximal Meta-Policy Search" (arXiv:1810.06784), algorithm 1.
The page `docs/promp.md` has the equations and every detail that changes a result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

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
    """Probability ratios beyond 1 - clip and 1 + clip earn nothing more; usually 0.2 to 0.3."""
    inner_kl_penalty: NonNegative = 5e-4
    """Weight of the divergence of the policies before each inner step from the old ones; usually 5e-4."""


class RatioLoss:
    """Inner loss: minus the mean of probability ratio times advantage (J^LR of the paper), by its derivatives.

    At the old policy its gradient is that of the log-probability's loss, sample by sample, but its Hessian also
    has the products of scores that the latter lacks: the paper's low-variance curvature estimator.

    Args:
        new: The policy's distributions.
        old_log_prob: Log-probability of the actions under the policy that took them, `[M, B]`.
        samples: The samples.

    Attributes:
        gradient: With respect to mean and log-std, or to the logits.
    """

    def __init__(self, new: Distribution, old_log_prob: Tensor, samples: Samples) -> None:
        self._new, self._actions = new, samples.actions
        ratio = probability_ratio(new, old_log_prob, samples)
        # With respect to a sample's log-probability, its first and its second derivative are the same, [M, B].
        self._slope = -samples.weights * samples.advantages * ratio
        self.gradient: tuple[Tensor, ...] = new.log_prob_gradient(self._actions, self._slope)

    def hessian_product(self, tangents: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Its Hessian times tangents of mean and log-std, or of the logits."""
        return self._new.log_prob_product(self._actions, self._slope, self._slope, tangents)


def clipped_objective(ratio: Tensor, samples: Samples, clip: float) -> Tensor:
    """Mean of min(ratio * A, clip(ratio, 1 - clip, 1 + clip) * A), `[M]` (J^CLIP of the paper); `ratio` is `[M, B]`."""
    bounded = ratio.clamp(1.0 - clip, 1.0 + clip)
    return (samples.weights * torch.minimum(ratio * samples.advantages, bounded * samples.advantages)).sum(dim=1)


def clipped_slope(ratio: Tensor, samples: Samples, clip: float) -> Tensor:
    """Derivative of `clipped_objective` with respect to each sample's log-probability, `[M, B]`."""
    counts = torch.where(samples.advantages >= 0.0, ratio <= 1.0 + clip, ratio >= 1.0 - clip)
    return samples.weights * samples.advantages * torch.where(counts, ratio, 0.0)


class OuterObjective(Protocol):
    """The outer objective of some tasks as a function of the initial parameters `[P]`, each task's numbers added up."""

    def gradient(self, parameters: Tensor) -> Tensor:
        """Gradient of the objective, `[P]`."""

    def evaluate(self, parameters: Tensor) -> Tensor:
        """Objective, divergence after and before adaptation, clipped fraction, `[4]`."""


class Pass(NamedTuple):
    """Some tasks' adaptation from given initial parameters.

    Attributes:
        before: The policy before each inner step.
        losses: Of each step, with what its derivatives need.
        steps: The steps themselves.
        after: The policy after the last step, at the observations of the last collect.
    """

    before: list[LinearisedPolicy]
    losses: list[LossDerivatives]
    steps: list[InnerStep]
    after: LinearisedPolicy


class ChunkObjective:
    """The outer objective of some tasks, around the policies that collected their samples.

    Args:
        policy: The policy.
        parameters: The initial parameters that the samples were collected with, `[P]`.
        samples: One per collect, of the chunk's tasks.
        config: Step size, clipping, penalty.
    """

    def __init__(
        self, policy: StackedPolicy, parameters: Tensor, samples: Sequence[Samples], config: PrompConfig
    ) -> None:
        self._policy, self._samples, self._config = policy, samples, config
        self._num_tasks = len(samples[0].observations)
        self._old: list[Distribution] = []  # of each collect
        self._old_log_probs: list[Tensor] = []  # of its actions, [M, B]
        first = self._pass(parameters)
        # The first epoch starts where the samples were collected, so its gradient costs no further pass.
        self._initial, self._initial_gradient = parameters, self._pull(first)

    def _pass(self, parameters: Tensor) -> Pass:
        """Adapts; the first pass of all finds the policies that collected."""
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
        """Each task's policy with the parameters `[M, P]`, at the observations of a collect."""
        samples = self._samples[collect]
        policy = self._policy.linearise(parameters, samples.observations)
        if collect == len(self._old):
            self._old.append(policy.distribution)
            self._old_log_probs.append(policy.distribution.log_prob(samples.actions))
        return policy

    def _pull(self, done: Pass) -> Tensor:
        """Gradient of the objective with respect to the initial parameters, `[P]`."""
        penalty = self._config.inner_kl_penalty / len(done.losses)
        after, last = done.after.distribution, self._samples[-1]
        slope = clipped_slope(self._ratio(after), last, self._config.clip)
        cotangent = done.after.pull(after.log_prob_gradient(last.actions, slope))
        for k in range(len(done.losses) - 1, -1, -1):
            # alpha H u + beta grad KL: both go back through the same network, hence in one pass.
            weights = penalty * self._samples[k].weights
            pulls = done.before[k].distribution.kl_gradient(self._old[k], weights)
            u = done.steps[k].through_projection(cotangent)
            cotangent = u - done.losses[k].hessian_product(self._config.inner_lr * u, pulls)
        return cotangent.sum(dim=0)

    def _divergence(self, new: Distribution, collect: int) -> Tensor:
        """From the policy that collected, `[M]`."""
        return mean_divergence(new, self._old[collect], self._samples[collect])

    def _ratio(self, after: Distribution) -> Tensor:
        """Of each action of the last collect, `[M, B]`."""
        return probability_ratio(after, self._old_log_probs[-1], self._samples[-1])

    def gradient(self, parameters: Tensor) -> Tensor:
        """Gradient of the objective (what `evaluate` gives first) with respect to the initial parameters, `[P]`."""
        if parameters is self._initial:
            return self._initial_gradient
        return self._pull(self._pass(parameters))

    def evaluate(self, parameters: Tensor) -> Tensor:
        """Summed over the tasks: objective, divergence after and before adaptation, clipped fraction, `[4]`."""
        last = self._samples[-1]
        if parameters is self._initial:  # where every ratio is 1
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
    """ProMP as a `metarl.agent.MetaAgent`; its state is an `AdaptedPolicy`.

    Args:
        config: The settings.
        spaces: Sizes and action bounds of the environments.
        device: Where the meta-update and the policy run.
        rng: Source of the initial parameters.
    """

    Config: ClassVar[type] = PrompConfig
    summary: ClassVar[str] = "MAML with low-variance curvature and clipped outer steps (Rothfuss et al. 2019)"

    def __init__(self, config: PrompConfig, spaces: Spaces, *, device: torch.device, rng: np.random.Generator):
        super().__init__(config, spaces, device=device, rng=rng)
        self._leaf = self._parameters.clone().requires_grad_()  # Adam moves it; the policy reads `_parameters`
        self._adam = Adam([self._leaf], config.lr)

    def adapt(self, state: AdaptedPolicy, trajectories: Trajectories) -> AdaptedPolicy:
        """One inner gradient step per task; the old policy is the one that acted."""
        samples = self._samples_for(state, trajectories)
        linear = self._policy.linearise(state.parameters, samples.observations)
        loss = RatioLoss(linear.distribution, linear.distribution.log_prob(samples.actions), samples)
        rate, bound = self.config.inner_lr, self._policy.bound
        return AdaptedPolicy(InnerStep(state.parameters, linear.pull(loss.gradient), rate, bound, None).end)

    def meta_update(self, batch: MetaBatch[Trajectories]) -> dict[str, float]:
        """Several steps of Adam on the clipped objective of the adapted policies."""
        num_tasks = len(batch.tasks)
        samples = [self._samples(t) for t in batch.collects]
        objectives = self._objectives(samples)

        def evaluate() -> list[float]:
            numbers = torch.stack([o.evaluate(self._parameters) for o in objectives]).sum(dim=0) / num_tasks
            return [float(x) for x in numbers]

        before, norms = evaluate()[0], []
        for _ in range(self.config.epochs):
            gradient = torch.stack([o.gradient(self._parameters) for o in objectives]).sum(dim=0) / num_tasks
            norms.append(gradient.norm())
            self._leaf.grad = -gradient
            self._adam.step()
            self._parameters = self._policy.bound.project_(self._leaf.detach()).clone()
        after, outer, inner, clipped = evaluate()
        self._update_statistics(batch.collects)
        return {
            "update/objective_gain": after - before,
            "update/kl": outer,
            "update/inner_kl": inner,
            "update/clipped": clipped,
            "update/gradient_norm": float(torch.stack(norms).mean()),
            "policy/std": self._policy.std(self._parameters),
        }

    def _objectives(self, samples: Sequence[Samples]) -> Sequence[OuterObjective]:
        """The outer objective around the present parameters, in parts that add up; `samples` has one per collect."""
        num_tasks, steps = samples[0].weights.shape
        return [
            ChunkObjective(self._policy, self._parameters, [s.tasks(part) for s in samples], self.config)
            for part in task_chunks(num_tasks, steps, self._policy.widths, self._device)
        ]

    def tensors(self) -> dict[str, Tensor]:
        """Parameters, running statistics and Adam's state."""
        return {**super().tensors(), **self._adam.tensors("adam")}

    def restore(self, tensors: Mapping[str, Tensor], counters: Mapping[str, Any]) -> None:
        """Takes back what `tensors` gave.

        Raises:
            ValueError: Names or shapes do not fit this agent.
        """
        super().restore(tensors, counters)
        with torch.no_grad():
            self._leaf.copy_(self._parameters)
        self._adam.restore("adam", tensors)
