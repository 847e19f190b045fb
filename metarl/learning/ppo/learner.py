"""Proximal policy optimisation (Schulman et al. 2017, arXiv:1707.06347): losses, minibatches, and the learner.

A row of samples is one step for a policy without memory, a whole trial for one with memory. Padded steps are masked
and have no weight in any mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from metarl.config import NonNegative, Positive, Rounds, Rows, UnitInterval
from metarl.learning.device.chunks import chunks_that_fit, graph_bytes
from metarl.learning.device.gpu import ReplayedStep, send
from metarl.learning.experience.normalisation import DEVIATION_FLOOR
from metarl.learning.networks.distributions import Distribution
from metarl.learning.networks.modules import PolicyHead, PolicySettings
from metarl.learning.networks.optimisers import Adam, flat_gradient, step_size
from metarl.learning.saving import restore_generator
from metarl.types import Bools, Floats


@dataclass(frozen=True, kw_only=True)
class PpoSettings(PolicySettings):
    """Settings of all agents that are trained by PPO."""

    learning_rate: Positive = 7e-4
    """Step size of Adam; usually 3e-4 to 1e-3."""
    anneal: bool = False
    """Decrease the step size linearly to zero over the run.
    As the policy's deviation shrinks, the same step changes the policy more."""
    epochs: Rounds = 5
    """Passes over the experience of an iteration; usually 3 to 10."""
    minibatches: Rows = 4
    """Minibatches per pass, one step of Adam each; usually 1 to 32."""
    clip: Positive = 0.2
    """Clip range of the probability ratio around 1; usually 0.1 to 0.3."""
    value_clip: NonNegative = 0.0
    """Clip range of a value around its old estimate, in units of the value; 0 for no clipping."""
    value_weight: NonNegative = 0.5
    """Weight of the value loss; usually 0.5 to 1."""
    entropy_weight: NonNegative = 0.0
    """Weight of the entropy bonus, per nat; usually 0 to 0.01.
    Relative to the advantages: deviation 1 with normalise_advantages, else in units of the (normalised) reward."""
    gamma: UnitInterval = 0.99
    """Discount per step; usually 0.97 to 0.99."""
    gae_lambda: UnitInterval = 0.95
    """Lambda of generalised advantage estimation; usually 0.9 to 1."""
    max_gradient_norm: NonNegative = 0.5
    """Largest Euclidean norm of the gradient; larger ones are scaled down to it. 0 for no limit."""
    normalise_advantages: bool = True
    """Normalise the advantages of an iteration to mean 0 and standard deviation 1."""
    normalise_rewards: bool = True
    """Divide rewards by the running standard deviation of the return."""
    normalise_observations: bool = False
    """Normalise observations by running statistics."""
    deviation_floor: NonNegative = DEVIATION_FLOOR
    """Lower bound of the deviations that normalisation divides by; 0 for none.
    Relative to the largest deviation of the same unit (observations) or to the root mean square (returns)."""


class PpoSamples(NamedTuple):
    """Samples of one iteration; minibatches are drawn along the first axis.

    Attributes:
        actions: Policy outputs, `[B, ..., A]`.
        log_probs: Log-probabilities of the actions when they were drawn, `[B, ...]`.
        values: Values estimated while acting, `[B, ...]`.
        advantages: `[B, ...]`.
        targets: Targets of the values, `[B, ...]`.
        mask: `[B, ...]`, 1 on steps that happened, else 0.
    """

    actions: Tensor
    log_probs: Tensor
    values: Tensor
    advantages: Tensor
    targets: Tensor
    mask: Tensor

    def rows(self, index: Tensor) -> PpoSamples:
        """The samples of some of the rows."""
        return PpoSamples(*(t[index] for t in self))

    @classmethod
    def of(cls, arrays: Mapping[str, Floats], device: torch.device) -> PpoSamples:
        """Samples on the device, from NumPy arrays of the same names."""
        return cls(*(send(arrays[name], device, torch.float32) for name in cls._fields))


def clipped_surrogate_loss(
    log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, weights: Tensor, clip: float
) -> Tensor:
    """Minus the clipped surrogate objective (equation 7): a weighted sum of `min(r A, clip(r, 1 - c, 1 + c) A)`.

    Args:
        log_probs: Log-probabilities of the actions under the policy that learns, `[...]`.
        old_log_probs: The same under the policy that acted, `[...]`.
        advantages: `[...]`.
        weights: Weight of each step, `[...]`; the sum is 1.
        clip: `c`.
    """
    ratio = torch.exp(log_probs - old_log_probs)
    clipped = ratio.clamp(1.0 - clip, 1.0 + clip)
    return -(weights * torch.minimum(ratio * advantages, clipped * advantages)).sum()


def value_loss(values: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Weighted sum of squared errors (the middle term of equation 9). All arguments are `[...]`."""
    return (weights * (values - targets).square()).sum()


def clipped_value_loss(values: Tensor, old_values: Tensor, targets: Tensor, weights: Tensor, clip: float) -> Tensor:
    """The larger of two squared errors: of the value, and of the value clipped to `clip` around its old estimate."""
    held = old_values + (values - old_values).clamp(-clip, clip)
    return (weights * torch.maximum((values - targets).square(), (held - targets).square())).sum()


def minibatches(rows: int, parts: int, epochs: int, rng: np.random.Generator) -> Iterator[NDIndex]:
    """Random minibatches of nearly equal size that cover all rows once per epoch.

    Args:
        rows: Number of rows.
        parts: Number of minibatches, at most one per row.
        epochs: Passes over the rows.
        rng: Source of the order.
    """
    for _ in range(epochs):
        yield from np.array_split(rng.permutation(rows), min(parts, rows))


def normalise_over_steps(advantages: Floats, mask: Bools, epsilon: float = 1e-8) -> Floats:
    """Advantages with mean 0 and standard deviation 1 over all steps that happened, zero elsewhere."""
    chosen = advantages[mask]
    return np.where(mask, (advantages - chosen.mean()) / (chosen.std() + epsilon), 0.0)


Forward = Callable[..., tuple[Distribution, Tensor]]
"""Maps inputs of some rows, one or several tensors `[rows, ...]`, to the policy at their steps and the values."""
NDIndex = np.ndarray[Any, np.dtype[np.int64]]


REPORTED = ("policy_loss", "value_loss", "entropy", "clipped", "kl")
"""Metrics of a minibatch."""


class PpoLearner:
    """A network, its Adam state, and the generator that draws the minibatches.

    On a GPU the gradients of a minibatch are one launch, once its shapes have repeated (`ReplayedStep`).

    Args:
        network: The network to train. Its policy heads are projected onto their bounds after each step.
        settings: The settings.
        rng: Source of the minibatches. Its state is part of the checkpoint.
        forward: Passes inputs through the network; the network itself by default.
    """

    def __init__(
        self, network: nn.Module, settings: PpoSettings, rng: np.random.Generator, forward: Forward | None = None
    ) -> None:
        self._parameters = dict(network.named_parameters())
        self._heads = [module for module in network.modules() if isinstance(module, PolicyHead)]
        self._settings, self._rng, self._forward = settings, rng, forward or network
        self._adam = Adam(self._parameters.values(), settings.learning_rate, eps=1e-5, fused=True)
        self._differentiated = ReplayedStep(self._differentiate)

    def update(self, samples: PpoSamples, inputs: tuple[Tensor, ...], progress: float = 0.0) -> dict[str, float]:
        """Makes all epochs of one iteration.

        Args:
            samples: The experience.
            inputs: Inputs of the network in the same rows.
            progress: Fraction of the run's meta-updates that are done, in [0, 1); read with `anneal`.

        Returns:
            Means over the minibatches (of the last epoch, for `kl`), and the step size.

        Raises:
            ValueError: `progress` is outside its range.
        """
        settings, device = self._settings, samples.mask.device
        reports = []
        self._adam.step_size = step_size(settings.learning_rate, settings.anneal, progress)
        parts = min(settings.minibatches, len(samples.mask))
        at_once = self._rows_at_once(-(-len(samples.mask) // parts), samples.mask)
        for index in minibatches(len(samples.mask), settings.minibatches, settings.epochs, self._rng):
            rows = send(index, device)
            steps = samples.mask[rows].sum().clamp_min(1.0)
            sums = [
                self._differentiated(steps, *samples.rows(some), *(t[some] for t in inputs))
                for some in torch.split(rows, at_once)
            ]
            total = torch.stack(sums).sum(dim=0) if len(sums) > 1 else sums[0]
            gradient, report = total[: -len(REPORTED)], total[-len(REPORTED) :]
            norm = gradient.norm()
            if settings.max_gradient_norm:
                gradient *= (settings.max_gradient_norm / (norm + 1e-6)).clamp(max=1.0)
            self._adam.step_along(gradient)
            self._project()
            reports.append(torch.cat([report, norm.unsqueeze(0)]))
        means, last = torch.stack(reports).mean(dim=0).tolist(), torch.stack(reports[-parts:]).mean(dim=0).tolist()
        names = (*REPORTED, "gradient_norm")
        metrics = {f"update/{name}": value for name, value in zip(names, means, strict=True)}
        mask = samples.mask.bool()
        targets, errors = samples.targets[mask], (samples.targets - samples.values)[mask]
        unexplained = errors.var(unbiased=False) / targets.var(unbiased=False).clamp_min(1e-12)
        return metrics | {
            "update/kl": last[names.index("kl")],
            "update/explained_variance": 1.0 - float(unexplained),
            "update/learning_rate": self._adam.step_size,
        }

    def _rows_at_once(self, rows: int, mask: Tensor) -> int:
        """Number of rows of a minibatch that fit into the device's memory at once; `mask` gives their length."""
        units = sum(p.numel() for p in self._parameters.values() if p.ndim == 1)  # one bias each
        return chunks_that_fit(rows, graph_bytes(mask[0].numel(), (max(units, 1),)), mask.device)[0].stop

    def _differentiate(self, steps: Tensor, *tensors: Tensor) -> Tensor:
        """Gradient of the loss of some rows of a minibatch, and their share in its metrics, `[P + 5]`.

        Args:
            steps: Number of steps of the minibatch.
            tensors: The fields of the rows' `PpoSamples`, and the inputs of the network.
        """
        fields = len(PpoSamples._fields)
        settings, part = self._settings, PpoSamples(*tensors[:fields])
        weights = part.mask / steps
        distribution, values = self._forward(*tensors[fields:])
        # On padding the ratio is 1: zero weight times an overflow would be NaN.
        log_probs = torch.where(part.mask > 0, distribution.log_prob(part.actions), part.log_probs)
        policy_loss = clipped_surrogate_loss(log_probs, part.log_probs, part.advantages, weights, settings.clip)
        if settings.value_clip:
            error = clipped_value_loss(values, part.values, part.targets, weights, settings.value_clip)
        else:
            error = value_loss(values, part.targets, weights)
        entropy = (weights * distribution.entropy()).sum()
        loss = policy_loss + settings.value_weight * error - settings.entropy_weight * entropy
        gradient = flat_gradient(loss, list(self._parameters.values()))
        with torch.no_grad():
            log_ratio = log_probs - part.log_probs
            kl = (weights * (log_ratio.exp() - 1.0 - log_ratio)).sum()
            clipped = (weights * ((log_ratio.exp() - 1.0).abs() > settings.clip)).sum()
            return torch.cat([gradient, torch.stack([policy_loss, error, entropy, clipped, kl])])

    def _project(self) -> None:
        """Keeps the policy's deviations within their bounds."""
        for head in self._heads:
            head.project()

    def tensors(self) -> dict[str, Tensor]:
        """Parameters, and Adam's state of each."""
        parameters = {f"parameters.{name}": p.detach().cpu().clone() for name, p in self._parameters.items()}
        return parameters | self._adam.tensors("adam")

    def counters(self) -> dict[str, Any]:
        """The state of the generator."""
        return {"generator": self._rng.bit_generator.state}

    def restore(self, tensors: Mapping[str, Tensor], counters: Mapping[str, Any]) -> None:
        """Restores what `tensors` and `counters` returned; names and shapes have been checked.

        The `iteration` in checkpoints of version 0.1 is ignored.

        Raises:
            ValueError: The counters are not those of this learner; nothing is changed then.
        """
        restore_generator("an agent trained by PPO", self._rng, counters.get("generator"))
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                parameter.copy_(tensors[f"parameters.{name}"])
        self._project()
        self._adam.restore("adam", tensors)
