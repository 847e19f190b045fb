"""Amortised MAML: gradient steps on a distribution of a network's weights, from a meta-learned prior.

Ravi and Beatson 2019, "Amortized Bayesian Meta-Learning" (ICLR), section 3 and algorithm 1. The page
`docs/amortised-maml.md` has the equations, the deviations, and every detail that changes a result.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from metarl.config import NonNegative, Positive, Rounds, UnitInterval
from metarl.few_shot.shots import Shots, ShotSpaces
from metarl.learning.device.gpu import send, standard_normal
from metarl.learning.few_shot.base import Examples, Learner, LearnerConfig
from metarl.learning.few_shot.losses import losses
from metarl.learning.few_shot.networks import Network
from metarl.learning.few_shot.supports import shuffled_inputs, some_shots
from metarl.learning.rules.base import evidence_of
from metarl.memory import FLOAT, LEARNED, Need, RunSize

PRECISION_RATE = 0.01
"""Rate of the exponential prior of the precisions `1/s^2`, Gamma(1, 0.01)."""


@dataclass(frozen=True, kw_only=True)
class AmortisedMamlConfig(LearnerConfig):
    """Settings of amortised MAML."""

    inner_steps: Rounds = 5
    """Gradient steps of adaptation (K)."""
    inner_lr: NonNegative = 0.05
    """Step size of the inner loop, for means and logarithms of standard deviations."""
    inner_clip: Positive = 10.0
    """Largest norm of a task's gradient in the inner loop, so that few examples with large errors do not diverge."""
    samples: Rounds = 2
    """Samples of the weights per task and step in training (S)."""
    prediction_samples: Rounds = 20
    """Samples of the weights per task in adaptation and predictions after the training; they are fixed."""
    kl_weight: NonNegative = 1e-4
    """Weight of the KL divergence beside the mean loss of an example (w); 1 / number of examples is the exact bound."""
    hyperprior_weight: NonNegative = 1e-8
    """Weight of the log-density of the prior's own parameters, per task."""
    initial_std: Positive = 0.02
    """Initial standard deviation of the weights (s)."""
    shuffled: UnitInterval = 0.0
    """Probability that one input of a training task is shuffled among its examples; for few training tasks."""
    vary_shots: bool = True
    """Train with random numbers of shots, so that adaptation to few shots is stable."""


@dataclass(frozen=True)
class Posterior:
    """Gaussian distributions of each task's weights, with diagonal covariances.

    Args:
        mean: `[M, P]`.
        log_std: Logarithms of the standard deviations, `[M, P]`.
    """

    mean: Tensor
    log_std: Tensor

    @property
    def flat(self) -> Tensor:
        """Both, `[M, 2 P]`."""
        return torch.cat([self.mean, self.log_std], dim=-1)

    @classmethod
    def of(cls, flat: Tensor) -> Posterior:
        """The distributions of `flat` `[M, 2 P]`."""
        return cls(*flat.chunk(2, dim=-1))

    def sampled(self, noise: Tensor) -> Tensor:
        """Weights `[S, M, P]` from standard normal noise, `[S, M, P]` or `[S, 1, P]`."""
        return self.mean + self.log_std.exp() * noise

    def tasks(self, part: slice) -> Posterior:
        """The state of some of the tasks."""
        return Posterior(self.mean[part].clone(), self.log_std[part].clone())

    @classmethod
    def join(cls, parts: Sequence[Posterior]) -> Posterior:
        """The state of all tasks of the parts, in order."""
        return cls(torch.cat([part.mean for part in parts]), torch.cat([part.log_std for part in parts]))


def divergence(q: Posterior, prior: Posterior) -> Tensor:
    """KL divergence `KL(q || prior)` of Gaussians with diagonal covariances, in nats, `[M]`."""
    ratio = 2 * (q.log_std - prior.log_std)
    distance = ((q.mean - prior.mean) / prior.log_std.exp()).square()
    return ((ratio.exp() + distance - 1 - ratio) / 2).sum(dim=-1)


def clipped(gradient: Tensor, largest: float) -> Tensor:
    """Gradients `[M, P]`, those with a larger norm than `largest` shortened to it."""
    norm = torch.linalg.vector_norm(gradient, dim=-1, keepdim=True)
    return gradient * (largest / norm.clamp(min=largest))


def hyperprior_loss(prior: Posterior) -> Tensor:
    """`-log p(mu, s)` up to a constant, `[]`: `mu ~ N(0, 1)` and `1/s^2 ~ Gamma(1, 0.01)` for each weight."""
    return prior.mean.square().sum() / 2 + PRECISION_RATE * (-2 * prior.log_std).exp().sum()


class AmortisedMaml(Learner[AmortisedMamlConfig, Posterior]):
    """Amortised MAML as a `metarl.few_shot.learner.FewShotLearner`; its state is a `Posterior`.

    The meta-parameters are those of the prior: means and logarithms of standard deviations, `[2 P]`.

    Attributes:
        network: The network.
    """

    Config: ClassVar[type] = AmortisedMamlConfig
    summary: ClassVar[str] = "gradient steps on a distribution of weights, from a learned prior (Ravi and Beatson 2019)"
    adapts_in_steps = True

    def __init__(
        self, config: AmortisedMamlConfig, spaces: ShotSpaces, *, device: torch.device, rng: np.random.Generator
    ) -> None:
        self.network = Network(spaces.x_shape, tuple(config.hidden), spaces.y_size, config.channels)
        super().__init__(config, spaces, device=device, rng=rng)
        fixed = np.random.default_rng(0).standard_normal((config.prediction_samples, 1, self.network.size))
        self._fixed = send(fixed, device, torch.float32)

    @classmethod
    def memory_needed(cls, config: Any, spaces: Any, size: RunSize) -> list[Need]:
        """Memory of the prior, the fixed samples, and the graph of the adaptation."""
        network = Network(spaces.x_shape, tuple(config.hidden), spaces.y_size, config.channels)
        adapted = network.size * size.tasks * config.samples * (2 * config.inner_steps + 2)
        need = Need(
            f"adapting {size.tasks:,} x {config.samples:,} networks of {network.size:,} parameters in "
            f"{config.inner_steps} steps",
            FLOAT * ((2 * LEARNED + config.prediction_samples) * network.size + (0 if size.gpu else adapted)),
            "smaller layers (--agent.hidden, --agent.channels), fewer --agent.samples or fewer --tasks",
        )
        return [need]

    def _initial(self, rng: np.random.Generator) -> Tensor:
        mean = self.network.initial(rng)
        return torch.cat([mean, torch.full_like(mean, math.log(self.config.initial_std))])

    def _fresh(self, parameters: Tensor, tasks: int) -> Posterior:
        return Posterior.of(parameters.expand(tasks, -1))

    def _sampled_outputs(self, q: Posterior, x: Tensor, noise: Tensor) -> Tensor:
        """Outputs of sampled networks, `[S, M, B, O]`."""
        weights = q.sampled(noise)
        inputs = x.expand(len(noise), *x.shape).flatten(0, 1)
        return self.network(weights.flatten(0, 1), inputs).view(*weights.shape[:2], x.shape[1], -1)

    def _expected_losses(self, q: Posterior, examples: Examples, noise: Tensor) -> Tensor:
        """Monte Carlo mean of each task's loss, `[M]`."""
        outputs = self._sampled_outputs(q, examples.x, noise)
        y = examples.y.expand(*outputs.shape)
        return losses(self.spaces, outputs.flatten(0, 1), y.flatten(0, 1)).view(len(noise), -1).mean(dim=0)

    def _adapted(
        self, parameters: Tensor, state: Posterior, support: Examples, *, exact: bool, steps: int | None = None
    ) -> Posterior:
        prior, flat = Posterior.of(parameters.unsqueeze(0)), state.flat
        for _ in range(self.config.inner_steps if steps is None else steps):
            noise = self._noise(len(support.x)) if exact else self._fixed

            def objective(at: Tensor, noise: Tensor = noise) -> Tensor:
                q = Posterior.of(at)
                return self._expected_losses(q, support, noise) + self.config.kl_weight * divergence(q, prior)

            gradient = evidence_of(objective, flat, first_order=not exact).gradient
            flat = flat - self.config.inner_lr * clipped(gradient, self.config.inner_clip)
        return Posterior.of(flat)

    def _noise(self, tasks: int) -> Tensor:
        """New samples, `[S, M, P]`."""
        return standard_normal(self.rng, (self.config.samples, tasks, self.network.size), self.device)

    @torch.no_grad()
    def adapt_in_steps(self, state: Posterior, shots: Shots, steps: int) -> Posterior:
        """As `adapt`, with a given number of steps."""
        return self._adapted(self.parameters.detach(), state, self.examples(shots), exact=False, steps=steps)

    def _outputs(self, parameters: Tensor, state: Posterior, x: Tensor) -> Tensor:
        outputs = self._sampled_outputs(state, x, self._fixed)
        if not self.spaces.classification:
            return outputs.mean(dim=0)
        return torch.logsumexp(torch.log_softmax(outputs, dim=-1), dim=0)

    def _loss(self, parameters: Tensor, support: Examples, queries: Examples) -> Tensor:
        prior, tasks = Posterior.of(parameters.unsqueeze(0)), len(support.x)
        if self.config.shuffled and not self.spaces.image:
            support, queries = shuffled_inputs(support, queries, self.rng, self.config.shuffled)
        support = some_shots(support, self.spaces, self.rng, fewest=1) if self.config.vary_shots else support
        q = self._adapted(parameters, self._fresh(parameters, tasks), support, exact=True)
        bound = self._expected_losses(q, queries, self._noise(tasks)) + self.config.kl_weight * divergence(q, prior)
        return bound.mean() + self.config.hyperprior_weight * hyperprior_loss(prior)
