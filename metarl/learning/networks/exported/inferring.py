"""Steps of policies that infer a posterior from transitions, and of policies that read fast weights by attention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from metarl.learning.networks.context_encoder import MIN_VARIANCE, posterior
from metarl.learning.networks.distributions import Distribution
from metarl.learning.networks.exported.step import Actions, DistributionStep, Given, Part
from metarl.learning.networks.fast_weights import FUNCTIONS, unit_vectors
from metarl.learning.networks.perceptron import Activation, Layers


class PosteriorStep(DistributionStep):
    """PEARL: a policy of observation and z, which is taken from the posterior at the first step of each episode.

    Each transition multiplies its factor into the posterior, which z follows at the next episode. Without noise z is
    the posterior's mean. If factors depend on the next observation, the last transition of an episode is left out: the
    observation after it is not an input, since the next one belongs to the next episode.

    Args:
        observation_size: `O`.
        actions: The map of the actions.
        policy: Maps observation and z `[1, O + Z]` to a distribution before the tanh.
        encoder: Maps a transition to mean and variance before the softplus, `[1, 2 Z]`.
        latent: `Z`.
        sees_next: Whether the encoder reads the next observation.
        sampled: As in `DistributionStep`; z is sampled too, by the first `Z` random numbers.
    """

    def __init__(
        self,
        observation_size: int,
        actions: Actions,
        policy: nn.Module,
        encoder: nn.Module,
        latent: int,
        *,
        sees_next: bool,
        sampled: bool,
    ) -> None:
        parts = (
            Part("precision", latent, "sum of the factors' 1 / variance"),
            Part("weighted mean", latent, "sum of the factors' mean / variance"),
            Part("latent", latent, "z of the current episode"),
            Part("observation", observation_size, "observation of the last step"),
        )
        super().__init__(observation_size, actions, parts, adapts=True, sampled=sampled, squashed=True)
        self.policy, self.encoder, self._sees_next = policy, encoder, sees_next
        self._latent = latent
        if sampled:
            self.noise += latent

    def _choose(self, given: Given) -> tuple[Distribution, Tensor]:
        sizes = [part.size for part in self.parts[1:]]
        precision, weighted_mean, latent, before = torch.split(given.memory, sizes, dim=1)
        seen = [before, given.action, given.reward, *([given.observation] if self._sees_next else [])]
        mean, raw = self.encoder(torch.cat(seen, dim=1)).chunk(2, dim=1)
        counts = (given.steps > 0) & (given.done <= 0) if self._sees_next else given.steps > 0
        factor = counts.to(mean.dtype) / softplus(raw).clamp_min(MIN_VARIANCE)
        precision, weighted_mean = precision + factor, weighted_mean + factor * mean
        drawn, variance = posterior(precision, weighted_mean)
        if self._sampled:
            drawn = drawn + variance.sqrt() * given.noise[:, : self._latent]
        latent = torch.where(given.first, drawn, latent)
        memory = torch.cat([precision, weighted_mean, latent, given.observation], dim=1)
        return self.policy(torch.cat([given.observation, latent], dim=1)), memory


class FastWeightPolicy(nn.Module):
    """An MLP of slow weights, and of fast weights that each input reads by attention; see `fast_weights`.

    Args:
        slow: Weights `[in, out]` and biases `[out]` of each layer.
        fast: Those of `K` entries, `[K, in, out]` and `[K, out]`, K at least 1.
        represent: Maps inputs to representations, `[1, D]`.
        keys: `[K, D]`.
        activation: Activation between the layers.
    """

    def __init__(self, slow: Layers, fast: Layers, represent: nn.Module, keys: Tensor, activation: Activation) -> None:
        super().__init__()
        self.represent, self._keys, self._activation = represent, unit_vectors(keys), activation
        self._slow, self._fast = (_constants(layers) for layers in (slow, fast))

    def forward(self, x: Tensor) -> Tensor:
        """Outputs `[1, A]` of inputs `[1, I]`."""
        read = torch.softmax(unit_vectors(self.represent(x)) @ self._keys.T, dim=-1)  # [1, K]
        f, last = FUNCTIONS[self._activation], len(self._slow) - 1
        for i, ((weight, bias), (weights, biases)) in enumerate(zip(self._slow, self._fast, strict=True)):
            slow = x @ weight + bias
            fast = x @ (read @ weights.flatten(1)).view(weight.shape) + read @ biases
            x = slow + fast if i == last else f(slow) + f(fast)
        return x


def _constants(layers: Layers) -> list[tuple[Tensor, Tensor]]:
    return [(w.clone(), b.clone()) for w, b in zip(layers.weights, layers.biases, strict=True)]


def layers_of(tensors: Mapping[str, Tensor], prefix: str = "") -> Layers:
    """The layers of an exported policy: `weight_i` and `bias_i` after the prefix."""
    number = sum(name.startswith(f"{prefix}weight_") for name in tensors)
    kinds: Sequence[str] = ("weight", "bias")
    return Layers(*([tensors[f"{prefix}{kind}_{i}"] for i in range(number)] for kind in kinds))
