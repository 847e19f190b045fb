"""Policies and value functions as torch modules, initialised from a NumPy generator."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import softplus, softsign

from metarl.config import NonNegative, Positive
from metarl.learning.networks.acting import affine, through_layers
from metarl.learning.networks.distributions import HALF_LOG_TWO_PI, Categorical, Distribution, Gaussian
from metarl.learning.networks.perceptron import Activation
from metarl.types import Floats, Spaces

HIDDEN_GAIN = math.sqrt(2.0)
POLICY_GAIN = 0.01
"""Gain of the policy's output layer; with a small one, the initial policy hardly depends on the observation.

Andrychowicz et al. 2021, arXiv:2006.05990.
"""
INPUT_BIAS = 0.1
"""Deviation of initial biases before a layer norm, where inputs are about 1."""


def orthogonal(rows: int, columns: int, gain: float, rng: np.random.Generator) -> Tensor:
    """A random matrix `[rows, columns]` with orthonormal rows (or columns, if these are fewer), times `gain`.

    Saxe, McClelland and Ganguli 2014 (arXiv:1312.6120): the Q of a QR decomposition of Gaussian noise, with the
    signs that make it uniform over the orthogonal matrices.
    """
    q, r = np.linalg.qr(rng.standard_normal((max(rows, columns), min(rows, columns))))
    q = q * np.sign(np.diag(r))
    return torch.tensor(gain * (q if rows >= columns else q.T), dtype=torch.float32).contiguous()


def biases_before_norm(units: int, rng: np.random.Generator) -> Tensor:
    """Initial biases `[H]` of an input layer before a layer norm, normal with deviation `INPUT_BIAS`.

    Without them the first input of a trial, often all zeros, would be divided by a deviation of zero, and each layer
    norm would multiply its gradient by hundreds.
    """
    return torch.tensor(INPUT_BIAS * rng.standard_normal(units), dtype=torch.float32)


def linear(inputs: int, outputs: int, gain: float, rng: np.random.Generator) -> nn.Linear:
    """A layer with orthogonal weights and zero bias; torch's global generator is not used."""
    layer = nn.Linear(inputs, outputs, device="meta")
    layer.weight = nn.Parameter(orthogonal(outputs, inputs, gain, rng))
    layer.bias = nn.Parameter(torch.zeros(outputs, dtype=torch.float32))
    return layer


class Tanh(nn.Tanh):
    """The hyperbolic tangent; on a CPU NumPy's, which takes a twelfth of the time of torch 2.13's."""

    def forward(self, x: Tensor) -> Tensor:
        """Values `[...]` for inputs `[...]`."""
        if x.is_cuda:
            return super().forward(x)
        values: Tensor = TanhByNumpy.apply(x)  # type: ignore[no-untyped-call]
        return values


class TanhByNumpy(torch.autograd.Function):
    """The hyperbolic tangent by NumPy, with its first derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """Values `[...]` for inputs `[...]` on a CPU."""
        values = torch.empty_like(x)
        np.tanh(x.numpy(), out=values.numpy())
        ctx.save_for_backward(values)
        return values

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """The gradient of the inputs: `(1 - y^2)` times that of the values y."""
        (values,) = ctx.saved_tensors
        return torch.ops.aten.tanh_backward(gradient, values)


def hidden_layers(sizes: Sequence[int], activation: Activation, rng: np.random.Generator) -> nn.Sequential:
    """Layers with the given sizes, input first, each followed by the activation; none for a single size."""
    kind = {"tanh": Tanh, "relu": nn.ReLU}[activation]
    layers = [(linear(i, o, HIDDEN_GAIN, rng), kind()) for i, o in pairwise(sizes)]
    return nn.Sequential(*(module for pair in layers for module in pair))


@dataclass(frozen=True, kw_only=True)
class PolicySettings:
    """Settings of a `PolicyHead`, for continuous actions."""

    init_std: Positive = 1.0
    """Standard deviation of the policy's output at the start."""
    min_std: Positive = 1e-6
    """Lower bound of the policy's standard deviation."""
    max_std: NonNegative = 0.0
    """Upper bound of the policy's standard deviation; 0 for none."""
    std: Literal["shared", "state"] = "shared"
    """One standard deviation per action component for all states, or an output of the network for each state."""
    mean: Literal["linear", "tanh"] = "linear"
    """Mean of the policy's output: linear, or `action_scale * tanh`, which keeps it within the action bounds."""
    action_scale: Positive = 1.0
    """Policy output that corresponds to the action bound."""


class PolicyHead(nn.Module):
    """Distribution over policy outputs as a function of features: Gaussian, or categorical for discrete actions.

    With features h, the mean is `W h + b`, or `action_scale * tanh(W h + b)`. The log standard deviation is a free
    parameter per component, which `project` keeps within its bounds after each step; or a function of the state,

    - `log(min_std) + softplus(x)` with `x = W' h + b'` if there is no upper bound,
    - `c + r * x / (1 + |x|)` with centre c and half width r of [log(min_std), log(max_std)] if there is one.

    Their derivatives do not vanish. (That of a clamp does outside its bounds, that of a tanh in float32 beyond 9.)
    For discrete actions there is one logit per choice, and no other parameter.

    Args:
        features: Size of the input, `H`.
        spaces: Sizes of the actions.
        settings: Deviation and mean.
        rng: Source of the initial weights.

    Raises:
        ValueError: The lower bound is above the upper one, or the initial deviation per state is not between them.
    """

    def __init__(self, features: int, spaces: Spaces, settings: PolicySettings, *, rng: np.random.Generator) -> None:
        super().__init__()
        self._settings = settings
        self.output = linear(features, spaces.policy_outputs, POLICY_GAIN, rng)
        self.deviation: nn.Linear | None = None
        self.log_std: nn.Parameter | None = None
        if spaces.choices:
            return
        start, low, high = settings.init_std, settings.min_std, settings.max_std or math.inf
        if low > high:
            raise ValueError(f"min_std: got {low}, expected at most max_std = {high}")
        self._low, self._high = math.log(low), math.log(high)
        if settings.std == "shared":
            self.log_std = nn.Parameter(torch.full((spaces.action_size,), math.log(start), dtype=torch.float32))
            self.project()
            return
        if not low < start < high:
            raise ValueError(
                f"init_std: got {start}, expected a number between min_std = {low} and max_std = {high}, "
                "neither included, where std is 'state'"
            )
        self.deviation = linear(features, spaces.action_size, POLICY_GAIN, rng)
        nn.init.constant_(self.deviation.bias, self._unbounded(math.log(start)))

    def forward(self, features: Tensor) -> Distribution:
        """The distribution for features `[..., H]`; its log-std is `[A]`, or `[..., A]` if it depends on the state."""
        return self.distribution(self.output(features), None if self.deviation is None else self.deviation(features))

    def step(self, features: Floats) -> Distribution:
        """`forward` for features `[B, H]` on a CPU, by NumPy."""
        deviation = None if self.deviation is None else torch.from_numpy(affine(self.deviation, features))
        return self.distribution(torch.from_numpy(affine(self.output, features)), deviation, shared=self.log_std)

    def distribution(self, output: Tensor, deviation: Tensor | None, *, shared: Tensor | None = None) -> Distribution:
        """The distribution for the outputs of the layers `output` and `deviation`.

        Args:
            output: Means `[..., A]` before a tanh, or logits `[..., n]`.
            deviation: Deviations that depend on the state `[..., A]`, before they are bounded; None for other policies.
            shared: The shared log-std, by default a copy of it.
        """
        if self._settings.mean == "tanh" and self._continuous:
            output = self._settings.action_scale * torch.tanh(output)
        if self.log_std is not None:  # a step of Adam changes it in place
            return Gaussian(output, self.log_std.clone() if shared is None else shared)
        if deviation is not None:
            return Gaussian(output, self._bounded(deviation))
        return Categorical(output)

    @property
    def _continuous(self) -> bool:
        return self.log_std is not None or self.deviation is not None

    def _bounded(self, x: Tensor) -> Tensor:
        """The log standard deviation `[..., A]` for outputs of the network `[..., A]`."""
        if math.isinf(self._high):
            return self._low + softplus(x)
        return 0.5 * (self._high + self._low) + 0.5 * (self._high - self._low) * softsign(x)

    def _unbounded(self, log_std: float) -> float:
        """The inverse of `_bounded`, for a log standard deviation within the bounds."""
        if math.isinf(self._high):
            above = log_std - self._low
            return above + math.log(-math.expm1(-above))
        share = (2.0 * log_std - self._high - self._low) / (self._high - self._low)
        return share / (1.0 - abs(share))

    @torch.no_grad()
    def project(self) -> None:
        """Clamps shared standard deviations to their bounds."""
        if self.log_std is not None:
            self.log_std.clamp_(self._low, self._high)

    def std(self, entropy: float) -> float:
        """Standard deviation of the output for the log; 0 for discrete actions.

        Args:
            entropy: Mean entropy of the distributions, nats. A deviation that depends on the state is reported as its
                geometric mean over states and components, which follows from the entropy; a shared one as its mean
                over components.
        """
        if self.log_std is not None:
            return float(self.log_std.detach().exp().mean())
        if self.deviation is None:
            return 0.0
        return math.exp(entropy / self.deviation.out_features - HALF_LOG_TWO_PI - 0.5)

    def description(self) -> dict[str, Any]:
        """The settings that the reader of an exported policy needs to compute the distribution; see the class."""
        s = self._settings
        return {"std": s.std, "min_std": s.min_std, "max_std": s.max_std, "mean": s.mean}


class ActorCritic(nn.Module):
    """A policy and a value function without memory, two separate MLPs.

    Args:
        inputs: Size of the input.
        spaces: Sizes of the actions.
        hidden: Units of each hidden layer of both MLPs.
        activation: Activation after each hidden layer.
        policy: Settings of the policy's deviation and mean.
        rng: Source of the initial weights.
    """

    def __init__(
        self,
        inputs: int,
        spaces: Spaces,
        *,
        hidden: tuple[int, ...],
        activation: Activation,
        policy: PolicySettings,
        rng: np.random.Generator,
    ) -> None:
        super().__init__()
        sizes = (inputs, *hidden)
        self.actor = hidden_layers(sizes, activation, rng)
        self.policy = PolicyHead(sizes[-1], spaces, policy, rng=rng)
        self.critic = hidden_layers(sizes, activation, rng)
        self.value = linear(sizes[-1], 1, 1.0, rng)

    def forward(self, x: Tensor) -> tuple[Distribution, Tensor]:
        """Policy and values `[...]` for inputs `[..., I]`."""
        return self.policy(self.actor(x)), self.value(self.critic(x)).squeeze(-1)

    def step(self, x: Floats) -> tuple[Distribution, Tensor]:
        """`forward` for inputs `[B, I]` on a CPU, by NumPy."""
        values = affine(self.value, through_layers(self.critic, x))[:, 0]
        return self.policy.step(through_layers(self.actor, x)), torch.from_numpy(values)
