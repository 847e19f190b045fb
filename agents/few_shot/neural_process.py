"""Conditional neural process: a decoder that reads the mean encoding of the support.

Garnelo et al. 2018, "Conditional Neural Processes" (arXiv:1807.01613), sections 2.2, 2.3 and 4.3. The page
`docs/neural-process.md` has the equations, the deviations, and every detail that changes a result.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from metarl.config import Layers, Positive, UnitInterval, Units
from metarl.few_shot.shots import ShotSpaces
from metarl.learning.few_shot.base import Examples, Learner, LearnerConfig
from metarl.learning.few_shot.losses import losses
from metarl.learning.few_shot.networks import Network
from metarl.learning.few_shot.supports import (
    Summary,
    networks_memory,
    shuffled_inputs,
    some_shots,
    zero_at_first,
)
from metarl.memory import Need, RunSize


@dataclass(frozen=True, kw_only=True)
class NeuralProcessConfig(LearnerConfig):
    """Settings of a neural process."""

    hidden: Layers = (128, 128)
    """Units of the hidden layers of encoder and decoder."""
    encoding: Units = 128
    """Size of the encoding of an example."""
    features: Units = 64
    """Size of the features of an image; vectors are taken as they are."""
    shuffled: UnitInterval = 0.0
    """Probability that one input of a training task is shuffled among its examples; for few training tasks."""
    residuals: bool = False
    """For a regression, correct a learned prediction, each output by its own residuals; for few training tasks."""
    least_std: Positive = 0.1
    """Smallest predicted standard deviation of a regression, in units of the outputs."""


def gaussian_losses(mean: Tensor, std: Tensor, y: Tensor) -> Tensor:
    """Mean negative log-density over examples and components, in nats, `[M]`.

    Args:
        mean: `[M, B, O]`.
        std: `[M, B, O]`.
        y: `[M, B, O]`.
    """
    nats = ((y - mean) / std).square() / 2 + std.log() + math.log(2 * math.pi) / 2
    return nats.mean(dim=(-2, -1))


def groups_of(spaces: ShotSpaces) -> int:
    """Number of mean encodings: one, or one of each class."""
    return spaces.y_size if spaces.classification else 1


def networks_of(config: NeuralProcessConfig, spaces: ShotSpaces) -> tuple[Network, ...]:
    """Encoder, decoder, coefficients of a regression with residuals, and features of images."""
    features, encoding = config.features if spaces.image else spaces.x_shape[0], config.encoding
    hidden, outputs = tuple(config.hidden), spaces.y_size * (1 if spaces.classification else 2)
    if config.residuals and not spaces.classification:
        networks = [
            Network((features,), hidden, encoding),
            Network((features,), hidden, outputs + encoding),
            Network((encoding + 1,), hidden, encoding + 2),
        ]
    else:
        networks = [
            Network((features + spaces.y_size,), hidden, encoding),
            Network((features + groups_of(spaces) * encoding,), hidden, outputs),
        ]
    images = [Network(spaces.x_shape, (), config.features, config.channels)] if spaces.image else []
    return (*networks, *images)


class NeuralProcess(Learner[NeuralProcessConfig, Summary]):
    """The process as a `metarl.few_shot.learner.FewShotLearner`; the state has sums of encodings.

    A regression has one mean encoding, of all examples; a classification has one of each class (section 4.3). With
    `residuals`, each output of a regression has a mean of residual times encoding.

    Attributes:
        images: Features of images; None for vectors.
        encoder: Encoding of an example from features and output; for residuals, from features.
        decoder: Mean and standard deviation, or logits, from features and mean encodings. For residuals, predictions
            without a support and what corrects them, from features.
        coefficients: Coefficients of the correction from the mean of an output; None without residuals.
    """

    Config: ClassVar[type] = NeuralProcessConfig
    summary: ClassVar[str] = "a decoder that reads the mean encoding of the support (Garnelo et al. 2018)"

    def __init__(
        self, config: NeuralProcessConfig, spaces: ShotSpaces, *, device: torch.device, rng: np.random.Generator
    ) -> None:
        networks = networks_of(config, spaces)
        self.encoder, self.decoder = networks[:2]
        self.coefficients = networks[2] if config.residuals and not spaces.classification else None
        self.images = networks[-1] if spaces.image else None
        self._sizes = [network.size for network in networks]
        super().__init__(config, spaces, device=device, rng=rng)

    @classmethod
    def memory_needed(cls, config: Any, spaces: Any, size: RunSize) -> list[Need]:
        """Memory of the networks and of their outputs."""
        return networks_memory(networks_of(config, spaces), spaces, size)

    def _initial(self, rng: np.random.Generator) -> Tensor:
        networks = networks_of(self.config, self.spaces)
        zero = None if self.coefficients is None else 2
        return torch.cat([(zero_at_first if i == zero else Network.initial)(n, rng) for i, n in enumerate(networks)])

    def _split(self, parameters: Tensor) -> tuple[Tensor, ...]:
        """Parameters of encoder, decoder, coefficients, and the features of images."""
        return torch.split(parameters, self._sizes)

    def _features(self, parameters: Tensor, x: Tensor) -> Tensor:
        """Features of images `[M, B, features]`; vectors as they are."""
        return self.images.shared(self._split(parameters)[-1], x) if self.images else x

    def _fresh(self, parameters: Tensor, tasks: int) -> Summary:
        if self.coefficients is not None:
            return Summary.fresh(parameters, tasks, self.spaces.y_size, self.config.encoding + 1)
        return Summary.fresh(parameters, tasks, groups_of(self.spaces), self.config.encoding)

    def _adapted(self, parameters: Tensor, state: Summary, support: Examples, *, exact: bool) -> Summary:
        if self.coefficients is not None:
            features = self._features(parameters, support.x)
            encoder, decoder = self._split(parameters)[:2]
            predicted = self.decoder.shared(decoder, features)[..., : self.spaces.y_size]
            return state.plus_residuals(self.encoder.shared(encoder, features), support.y - predicted)
        pairs = torch.cat([self._features(parameters, support.x), support.y], dim=-1)
        encodings = self.encoder.shared(self._split(parameters)[0], pairs)
        return state.plus(encodings, support.y if self.spaces.classification else None)

    def _decoded(self, parameters: Tensor, state: Summary, x: Tensor) -> Tensor:
        """Outputs of the decoder, `[M, B, O]`, or `[M, B, 2 O]` for a regression."""
        features = self._features(parameters, x)
        if self.coefficients is not None:
            return self._corrected(parameters, state, features)
        encodings = state.means.flatten(1).unsqueeze(1).expand(-1, x.shape[1], -1)
        return self.decoder.shared(self._split(parameters)[1], torch.cat([features, encodings], dim=-1))

    def _corrected(self, parameters: Tensor, state: Summary, features: Tensor) -> Tensor:
        """Predictions without a support plus corrections by the residuals, `[M, B, 2 O]`."""
        assert self.coefficients is not None
        _, decoder, coefficients = self._split(parameters)[:3]
        decoded = self.decoder.shared(decoder, features)
        sizes = [self.spaces.y_size, self.spaces.y_size, self.config.encoding]
        mean, raw, basis = torch.split(decoded, sizes, dim=-1)
        found = self.coefficients.shared(coefficients, state.shrunk_means)  # [M, O, encoding + 2]
        change, deviation = functional.pad(basis, (0, 1), value=1.0) @ found[..., :-1].mT, found[..., -1].unsqueeze(1)
        return torch.cat([mean + change, raw + deviation], dim=-1)

    def _outputs(self, parameters: Tensor, state: Summary, x: Tensor) -> Tensor:
        decoded = self._decoded(parameters, state, x)
        return state.possible(decoded) if self.spaces.classification else decoded[..., : self.spaces.y_size]

    def _loss(self, parameters: Tensor, support: Examples, queries: Examples) -> Tensor:
        fewest = 1 if self.spaces.classification else 0
        if self.config.shuffled and not self.spaces.image:
            support, queries = shuffled_inputs(support, queries, self.rng, self.config.shuffled)
        support = some_shots(support, self.spaces, self.rng, fewest=fewest)
        state = self._adapted(parameters, self._fresh(parameters, len(support.x)), support, exact=True)
        decoded = self._decoded(parameters, state, queries.x)
        if self.spaces.classification:
            return losses(self.spaces, decoded, queries.y).mean()
        mean, raw = decoded.chunk(2, dim=-1)
        return gaussian_losses(mean, self.config.least_std + functional.softplus(raw), queries.y).mean()
