"""VERSA: a network that maps the support to a distribution of the last layer's weights, in one pass.

Gordon et al. 2019, "Meta-Learning Probabilistic Inference For Prediction" (arXiv:1805.09921), sections 2 and 3. The
page `docs/versa.md` has the equations, the deviations, and every detail that changes a result.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from metarl.config import Layers, Positive, Rounds, UnitInterval, Units
from metarl.few_shot.shots import ShotSpaces
from metarl.learning.device.gpu import send, standard_normal
from metarl.learning.few_shot.base import Examples, Learner, LearnerConfig
from metarl.learning.few_shot.networks import Network
from metarl.learning.few_shot.supports import (
    Summary,
    networks_memory,
    shuffled_inputs,
    some_shots,
    zero_at_first,
)
from metarl.memory import Need, RunSize

PREDICTION_SAMPLES = 200
"""Samples of the logits behind a predicted probability; they are the same at every prediction."""

BASE_LOG_VARIANCE = -6.0
"""Initial logarithm of the variances of the base weights of a regression with residuals."""


@dataclass(frozen=True, kw_only=True)
class VersaConfig(LearnerConfig):
    """Settings of VERSA."""

    features: Units = 64
    """Inputs of the last layer."""
    amortisation: Layers = (64, 64)
    """Units of the hidden layers of the network that gives the distribution of the weights."""
    samples: Rounds = 10
    """Samples of the weights per task in training (L), for a classification."""
    shuffled: UnitInterval = 0.0
    """Probability that one input of a training task is shuffled among its examples; for few training tasks."""
    residuals: bool = False
    """For a regression, correct a learned last layer, each output by its own residuals; for few training tasks."""
    initial_noise: Positive = 1.0
    """Initial standard deviation of the noise of a regression, in units of the outputs; it is learned."""


def moments(weights: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of the outputs `psi^T [h, 1]` under a Gaussian with a diagonal covariance.

    Args:
        weights: Means and logarithms of the variances of the weights, the bias last, `[M, O, 2 (F + 1)]`.
        features: `h`, `[M, B, F]`.

    Returns:
        Mean and variance, `[M, B, O]` each.
    """
    mean, log_variance = weights.chunk(2, dim=-1)
    h = functional.pad(features, (0, 1), value=1.0)
    return h @ mean.mT, h.square() @ log_variance.exp().mT


def sampled_log_probabilities(mean: Tensor, variance: Tensor, noise: Tensor) -> Tensor:
    """Logarithms of the mean of `softmax(logits)` over L samples of the logits, `[M, B, O]`.

    Args:
        mean: Means of the logits, `[M, B, O]`.
        variance: Variances of the logits, `[M, B, O]`.
        noise: Standard normal numbers, `[L, M, B, O]`, or with axes of length 1.
    """
    logits = mean + variance.sqrt() * noise
    return torch.logsumexp(torch.log_softmax(logits, dim=-1), dim=0) - math.log(len(noise))


def predictive_losses(mean: Tensor, variance: Tensor, y: Tensor) -> Tensor:
    """Negative log-density of outputs, `[M]`, in nats: mean over examples and components.

    Args:
        mean: Means of the outputs, `[M, B, O]`.
        variance: Their variances: those of `psi^T [h, 1]` plus those of the noise, `[M, B, O]`.
        y: `[M, B, O]`.
    """
    nats = ((y - mean).square() / variance + variance.log() + math.log(2 * math.pi)) / 2
    return nats.mean(dim=(-2, -1))


def networks_of(config: VersaConfig, spaces: ShotSpaces) -> tuple[Network, ...]:
    """Features, the network that gives the distribution of the weights, and the encoder of a plain regression."""
    features, hidden = config.features, tuple(config.amortisation)
    network = Network(spaces.x_shape, tuple(config.hidden), features, config.channels)
    weights = 2 * (features + 1)
    if config.residuals and not spaces.classification:
        return network, Network((features + 1,), hidden, weights)
    weights *= 1 if spaces.classification else spaces.y_size
    amortisation = Network((features,), hidden, weights)
    if spaces.classification:
        return network, amortisation
    return network, amortisation, Network((features + spaces.y_size,), hidden, features)


class Versa(Learner[VersaConfig, Summary]):
    """VERSA as a `metarl.few_shot.learner.FewShotLearner`; the state has sums of features.

    For a classification, the features of each class give the weights of that class. For a regression, encodings of all
    examples give the weights of all outputs; with `residuals` each output has its own sums, of residual times feature,
    and they correct learned weights.

    Attributes:
        network: Features `h(x)`.
        encoder: Encoding of an example of a regression from `h(x)` and y; None for a classification and for residuals.
        amortisation: Distribution of the weights, of one class or of all outputs; for residuals, of one output.
        residuals: Whether a regression corrects a learned last layer.
    """

    Config: ClassVar[type] = VersaConfig
    summary: ClassVar[str] = (
        "a distribution of the last layer's weights from the support, in one pass (Gordon et al. 2019)"
    )

    def __init__(
        self, config: VersaConfig, spaces: ShotSpaces, *, device: torch.device, rng: np.random.Generator
    ) -> None:
        self.network, self.amortisation, *encoder = networks_of(config, spaces)
        self.encoder = encoder[0] if encoder else None
        self.residuals = config.residuals and not spaces.classification
        super().__init__(config, spaces, device=device, rng=rng)
        fixed = np.random.default_rng(0).standard_normal((PREDICTION_SAMPLES, 1, 1, spaces.y_size))
        self._fixed = send(fixed, device, torch.float32)

    @classmethod
    def memory_needed(cls, config: Any, spaces: Any, size: RunSize) -> list[Need]:
        """Memory of the networks and of their outputs."""
        return networks_memory(networks_of(config, spaces), spaces, size)

    @property
    def _sizes(self) -> list[int]:
        """Sizes of the parts of the parameters."""
        if self.spaces.classification:
            return [self.network.size, self.amortisation.size]
        if self.encoder is None:
            base = 2 * self.spaces.y_size * (self.config.features + 1)
            return [self.network.size, self.amortisation.size, base, self.spaces.y_size]
        return [self.network.size, self.amortisation.size, self.encoder.size, self.spaces.y_size]

    def _initial(self, rng: np.random.Generator) -> Tensor:
        noise = torch.full((self.spaces.y_size,), 2 * math.log(self.config.initial_noise))
        if self.residuals:
            parts = [self.network.initial(rng), zero_at_first(self.amortisation, rng)]
            return torch.cat([*parts, self._initial_base(rng), noise])
        parts = [self.network.initial(rng), self.amortisation.initial(rng)]
        return torch.cat(parts if self.encoder is None else [*parts, self.encoder.initial(rng), noise])

    def _initial_base(self, rng: np.random.Generator) -> Tensor:
        """Initial means and logarithms of the variances of the base weights, `[O * 2 (F + 1)]`."""
        outputs, features = self.spaces.y_size, self.config.features
        bound = math.sqrt(6.0 / (outputs + features))  # Xavier
        means = torch.tensor(rng.uniform(-bound, bound, (outputs, features)), dtype=torch.float32)
        variances = torch.full((outputs, features + 1), BASE_LOG_VARIANCE)
        return torch.cat([functional.pad(means, (0, 1)), variances], dim=-1).flatten()

    def _base(self, parameters: Tensor) -> Tensor:
        """Means and logarithms of the variances of the base weights, `[1, O, 2 (F + 1)]`."""
        return torch.split(parameters, self._sizes)[2].view(1, self.spaces.y_size, -1)

    def _fresh(self, parameters: Tensor, tasks: int) -> Summary:
        if self.residuals:
            return Summary.fresh(parameters, tasks, self.spaces.y_size, self.config.features + 1)
        groups = self.spaces.y_size if self.spaces.classification else 1
        return Summary.fresh(parameters, tasks, groups, self.config.features)

    def _adapted(self, parameters: Tensor, state: Summary, support: Examples, *, exact: bool) -> Summary:
        parts = torch.split(parameters, self._sizes)
        features = self.network.shared(parts[0], support.x)
        if self.residuals:
            predicted, _ = moments(self._base(parameters), features)
            return state.plus_residuals(features, support.y - predicted)
        if self.encoder is None:
            return state.plus(features, support.y)
        return state.plus(self.encoder.shared(parts[2], torch.cat([features, support.y], dim=-1)))

    def _moments(self, parameters: Tensor, state: Summary, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of the outputs of the last layer, `[M, B, O]`."""
        parts = torch.split(parameters, self._sizes)
        if self.residuals:
            weights = self._base(parameters) + self.amortisation.shared(parts[1], state.shrunk_means)
        else:
            weights = self.amortisation.shared(parts[1], state.means)
            weights = weights.view(len(x), self.spaces.y_size, 2 * (self.config.features + 1))
        return moments(weights, self.network.shared(parts[0], x))

    def _outputs(self, parameters: Tensor, state: Summary, x: Tensor) -> Tensor:
        mean, variance = self._moments(parameters, state, x)
        if not self.spaces.classification:
            return mean
        return state.possible(sampled_log_probabilities(mean, variance, self._fixed))

    def _loss(self, parameters: Tensor, support: Examples, queries: Examples) -> Tensor:
        if self.config.shuffled and not self.spaces.image:
            support, queries = shuffled_inputs(support, queries, self.rng, self.config.shuffled)
        support = some_shots(support, self.spaces, self.rng, fewest=1 if self.spaces.classification else 0)
        state = self._adapted(parameters, self._fresh(parameters, len(support.x)), support, exact=True)
        mean, variance = self._moments(parameters, state, queries.x)
        if not self.spaces.classification:
            noise = torch.split(parameters, self._sizes)[3].exp()
            return predictive_losses(mean, variance + noise, queries.y).mean()
        drawn = standard_normal(self.rng, (self.config.samples, *mean.shape), self.device)
        return -(sampled_log_probabilities(mean, variance, drawn) * queries.y).sum(dim=-1).mean()
