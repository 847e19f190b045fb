"""MAML with a trust-region outer step: learns initial parameters from which one gradient step goes far.

Finn, Abbeel and Levine 2017, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks"
(arXiv:1703.03400), algorithm 3, with TRPO (Schulman et al. 2015, arXiv:1502.05477) as meta-optimiser.
The page `docs/maml-trpo.md` has the equations and every detail that changes a result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from metarl.config import Count, NonNegative, Positive, Shrinking, UnitInterval
from metarl.learning.distributions import Distribution
from metarl.learning.inner_loop import InnerStep, inner_loop, pull_back, push_forward
from metarl.learning.networks import Activation
from metarl.learning.normalisation import RunningMoments
from metarl.learning.policy import Samples, StackedPolicy, task_chunks
from metarl.learning.returns import discounted_sums, policy_advantages
from metarl.learning.trust_region import DivergenceCurvature, trust_region_step
from metarl.storage import write_tensors
from metarl.types import Action, MetaBatch, Spaces, Step, Task, Trajectories


@dataclass(frozen=True, kw_only=True)
class MamlTrpoConfig:
    """Settings of MAML-TRPO."""

    inner_lr: NonNegative = 0.1
    """Step size of the inner loop (alpha in the paper); usually 0.01 to 0.5."""
    inner_steps: Count = 1
    """Adaptation steps of the inner loop, each after a fresh collect; usually 1 to 3."""
    max_kl: Positive = 0.01
    """Trust region: largest mean KL divergence of the adapted policies, nats; usually 0.005 to 0.02."""
    damping: NonNegative = 1e-5
    """Added to the diagonal of the curvature; usually 1e-5 to 1e-2."""
    cg_iterations: Count = 10
    """Iterations of conjugate gradients; usually 10."""
    line_search_steps: Count = 15
    """Candidates of the backtracking line search; usually 10 to 15."""
    line_search_decay: Shrinking = 0.8
    """Factor between two candidates' step lengths; usually 0.5 to 0.8."""
    gamma: UnitInterval = 0.99
    """Discount per step."""
    gae_lambda: UnitInterval = 1.0
    """Decay of generalised advantage estimation; 1 is the return minus the baseline."""
    baseline: Literal["linear", "none"] = "linear"
    """Baseline of the advantages: ridge regression on observation and time per task and collect, or none."""
    baseline_ridge: Positive = 1e-5
    """Regularisation of the linear baseline."""
    hidden: tuple[Count, ...] = (64, 64)
    """Units of each hidden layer of the policy."""
    activation: Activation = "tanh"
    """Between the layers of the policy."""
    init_std: Positive = 1.0
    """Standard deviation of the policy's output at the start."""
    min_std: Positive = 1e-6
    """Lower bound of that standard deviation."""
    action_scale: Positive = 1.0
    """Policy output that stands for a full action; 10 is the setting of the MAML experiments on MuJoCo."""
    normalise_observations: bool = False
    """Show the policy observations normalised by running statistics."""
    normalise_rewards: bool = False
    """Divide the rewards that the learner sees by the running standard deviation of the return."""


@dataclass(frozen=True)
class AdaptedPolicy:
    """The state of a gradient-based agent: each task's own policy parameters, `[M, P]`."""

    parameters: Tensor


def inner_loss(policy: StackedPolicy, samples: Samples, parameters: Tensor) -> Tensor:
    """Loss of the adaptation step: minus the mean of log-probability times advantage, `[M]` (equation 4)."""
    log_prob = policy(parameters, samples.observations).log_prob(samples.actions)
    return -(samples.weights * log_prob * samples.advantages).sum(dim=1)


def surrogate_objective(new: Distribution, old: Distribution, samples: Samples) -> Tensor:
    """Mean of probability ratio times advantage, `[M]` (TRPO, equation 14)."""
    ratio = torch.exp(new.log_prob(samples.actions) - old.log_prob(samples.actions))
    return (samples.weights * ratio * samples.advantages).sum(dim=1)


def mean_divergence(new: Distribution, old: Distribution, samples: Samples) -> Tensor:
    """Mean KL(old || new) over the samples, `[M]`."""
    return (samples.weights * new.kl_from(old)).sum(dim=1)


class ChunkLinearisation:
    """Everything about some of the tasks that does not change during one meta-update.

    Args:
        policy: The policy.
        parameters: The initial parameters, `[P]`.
        samples: One per collect, of the chunk's tasks.
        inner_lr: Step size of the inner loop.
    """

    def __init__(self, policy: StackedPolicy, parameters: Tensor, samples: Sequence[Samples], inner_lr: float) -> None:
        self._policy, self._samples, self._inner_lr = policy, samples, inner_lr
        self._num_tasks = len(samples[0].observations)
        self._steps = self._adapt(parameters, differentiable=True)
        adapted = self._steps[-1].end.requires_grad_()
        last = samples[-1]
        with torch.enable_grad():
            new = policy(adapted, last.observations)
            self._old = new.detach()
            objective = surrogate_objective(new, self._old, last).sum()
            (gradient,) = torch.autograd.grad(objective, adapted, retain_graph=True)
        self._curvature = DivergenceCurvature(new, adapted, last.weights)
        self.gradient = pull_back(self._steps, gradient).sum(dim=0)  # [P]

    def _adapt(self, parameters: Tensor, *, differentiable: bool) -> list[InnerStep]:
        losses = [lambda p, s=s: inner_loss(self._policy, s, p) for s in self._samples[:-1]]
        start = parameters.expand(self._num_tasks, -1).contiguous()
        return inner_loop(losses, start, self._inner_lr, differentiable=differentiable)

    def curvature_product(self, v: Tensor) -> Tensor:
        """Gauss-Newton product of the divergence after adaptation: `sum over tasks of J^T F J v`, `[P]`.

        Exact at the old parameters: the other term of the Hessian carries the divergence's gradient, which is
        zero there.
        """
        tangent = push_forward(self._steps, v.expand(self._num_tasks, -1))
        return pull_back(self._steps, self._curvature.product(tangent)).sum(dim=0)

    def evaluate(self, parameters: Tensor) -> Tensor:
        """Surrogate and divergence if these were the initial parameters, summed over the tasks, `[2]`."""
        adapted = self._adapt(parameters, differentiable=False)[-1].end
        with torch.no_grad():
            last = self._samples[-1]
            new = self._policy(adapted, last.observations)
            return torch.stack(
                [surrogate_objective(new, self._old, last).sum(), mean_divergence(new, self._old, last).sum()]
            )


class MamlTrpo:
    """MAML-TRPO as a `metarl.agent.MetaAgent`; its state is an `AdaptedPolicy`.

    Args:
        config: The settings.
        spaces: Sizes and action bounds of the environments.
        device: Where the meta-update and the policy run.
        rng: Source of the initial parameters.
    """

    Config: ClassVar[type] = MamlTrpoConfig
    summary: ClassVar[str] = "adapts by policy gradient from meta-learned parameters (Finn et al. 2017)"

    def __init__(
        self, config: MamlTrpoConfig, spaces: Spaces, *, device: torch.device, rng: np.random.Generator
    ) -> None:
        self.config, self.spaces, self._device = config, spaces, device
        self._policy = StackedPolicy(
            spaces,
            hidden=config.hidden,
            activation=config.activation,
            init_std=config.init_std,
            min_std=config.min_std,
            action_scale=config.action_scale,
        )
        self._parameters = self._policy.initial(rng).to(device)  # [P]
        self._observation_moments = RunningMoments(spaces.observation_size)
        self._return_moments = RunningMoments(1)

    @property
    def adaptation_steps(self) -> int:
        """`K`, the steps of the inner loop."""
        return self.config.inner_steps

    def episodes_per_adaptation(self, episodes: int) -> int:
        """One step pools all episodes of a task."""
        return episodes

    def begin(self, tasks: Sequence[Task], episodes: int) -> AdaptedPolicy:
        """Every task starts from the meta-learned parameters."""
        return AdaptedPolicy(self._parameters.expand(len(tasks), -1).contiguous())

    def act(self, state: AdaptedPolicy, step: Step, rng: np.random.Generator) -> tuple[Action, AdaptedPolicy]:
        """Samples each row's action from its task's policy."""
        output = self._policy.sample(state.parameters, self._seen(step.observation), rng)
        return Action(self._policy.to_environment(output), extras={"policy_output": output}), state

    def adapt(self, state: AdaptedPolicy, trajectories: Trajectories) -> AdaptedPolicy:
        """One inner gradient step per task."""
        samples = self._samples(trajectories)
        (step,) = inner_loop(
            [lambda p: inner_loss(self._policy, samples, p)],
            state.parameters,
            self.config.inner_lr,
            differentiable=False,
        )
        return AdaptedPolicy(step.end)

    def meta_update(self, batch: MetaBatch) -> dict[str, float]:
        """One trust-region step on the mean surrogate of the adapted policies."""
        config, num_tasks = self.config, len(batch.tasks)
        samples = [self._samples(t) for t in batch.trajectories]
        chunks = [
            ChunkLinearisation(self._policy, self._parameters, [s.tasks(part) for s in samples], config.inner_lr)
            for part in task_chunks(num_tasks, samples[0].weights.shape[1], self._policy.widths, self._device)
        ]

        def product(v: Tensor) -> Tensor:
            return torch.stack([c.curvature_product(v) for c in chunks]).sum(dim=0) / num_tasks + config.damping * v

        def evaluate(parameters: Tensor) -> tuple[float, float]:
            surrogate, kl = (torch.stack([c.evaluate(parameters) for c in chunks]).sum(dim=0) / num_tasks).tolist()
            return surrogate, kl

        # Evaluated by the same code as the candidates, so that rounding cannot pass for an improvement.
        old_surrogate, _ = evaluate(self._parameters)
        gradient = torch.stack([c.gradient for c in chunks]).sum(dim=0) / num_tasks
        result = trust_region_step(
            self._parameters,
            gradient,
            product,
            evaluate,
            old_surrogate=old_surrogate,
            max_kl=config.max_kl,
            iterations=config.cg_iterations,
            backtracks=config.line_search_steps,
            decay=config.line_search_decay,
        )
        self._parameters = result.parameters
        self._update_statistics(batch.trajectories)
        return {
            "update/accepted": float(result.accepted),
            "update/kl": result.kl,
            "update/surrogate_gain": result.surrogate - old_surrogate,
            "update/backtracks": float(result.backtracks),
            "update/gradient_norm": float(gradient.norm()),
            "policy/std": self._policy.std(self._parameters),
        }

    # Samples and statistics -----------------------------------------------------------------------------

    def _seen(self, observations: np.ndarray) -> np.ndarray:
        """Observations as the policy sees them."""
        return self._observation_moments.normalise(observations) if self.config.normalise_observations else observations

    def _samples(self, trajectories: Trajectories) -> Samples:
        """Observations, policy outputs, normalised advantages and weights of one collect, on the device."""
        config, mask = self.config, trajectories.mask
        seen = self._seen(trajectories.observations)
        scale = self._return_moments.std[0] if config.normalise_rewards else 1.0
        advantages = policy_advantages(
            seen,
            trajectories.rewards / scale,
            trajectories,
            gamma=config.gamma,
            lam=config.gae_lambda,
            ridge=config.baseline_ridge if config.baseline == "linear" else None,
        )
        arrays = {
            "observations": seen,
            "actions": trajectories.extras["policy_output"],
            "advantages": advantages,
            "weights": mask / mask.sum(axis=(1, 2), keepdims=True),
        }
        return Samples.of(arrays, self._device)

    def _update_statistics(self, trajectories: Sequence[Trajectories]) -> None:
        """After the update, so that they stay as they are within an iteration."""
        for t in trajectories:
            if self.config.normalise_observations:
                self._observation_moments.update(t.observations, t.mask)
            if self.config.normalise_rewards:
                continues = (~(t.terminated | t.truncated)).astype(np.float64)
                returns = discounted_sums(t.rewards.astype(np.float64), continues, self.config.gamma)
                self._return_moments.update(returns[..., None], t.mask)

    # Saving ---------------------------------------------------------------------------------------------

    def tensors(self) -> dict[str, Tensor]:
        """Parameters and running statistics."""
        return {
            "parameters": self._parameters.detach().cpu(),
            **self._observation_moments.tensors("observation_moments"),
            **self._return_moments.tensors("return_moments"),
        }

    def counters(self) -> dict[str, Any]:
        """Nothing: the parameters and statistics are all there is."""
        return {}

    def restore(self, tensors: Mapping[str, Tensor], counters: Mapping[str, Any]) -> None:
        """Takes back what `tensors` gave.

        Raises:
            ValueError: Names or shapes do not fit this agent.
        """
        expected = {name: tuple(t.shape) for name, t in self.tensors().items()}
        got = {name: tuple(t.shape) for name, t in tensors.items()}
        if got != expected:
            raise ValueError(f"checkpoint of maml-trpo: got tensors {got}, expected {expected}")
        self._parameters = tensors["parameters"].to(self._device)
        self._observation_moments.restore("observation_moments", tensors)
        self._return_moments.restore("return_moments", tensors)

    def save_policy(self, state: AdaptedPolicy, path: str | Path, task: int = 0) -> None:
        """Writes one task's adapted policy: weights, deviation, action bounds, observation statistics."""
        tensors, description = self._policy.export(state.parameters[task])
        if self.config.normalise_observations:
            tensors |= self._observation_moments.tensors("observation")
        description["normalise_observations"] = self.config.normalise_observations
        write_tensors(Path(path), tensors, description)
