"""Policies and value functions with a single set of parameters, as modules filled from a NumPy generator."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from metarl.learning.distributions import Categorical, Distribution, Gaussian
from metarl.learning.perceptron import Activation
from metarl.types import Spaces

HIDDEN_GAIN = math.sqrt(2.0)
POLICY_GAIN = 0.01
"""Small, so that the first policies act alike whatever they see (Andrychowicz et al. 2021, arXiv:2006.05990)."""


def orthogonal(rows: int, columns: int, gain: float, rng: np.random.Generator) -> Tensor:
    """A random matrix `[rows, columns]` with orthonormal rows or columns, whichever are fewer, times `gain`.

    Saxe, McClelland and Ganguli 2014 (arXiv:1312.6120): the Q of a QR decomposition of Gaussian noise, with the
    signs that make it uniform over the orthogonal matrices.
    """
    q, r = np.linalg.qr(rng.standard_normal((max(rows, columns), min(rows, columns))))
    q = q * np.sign(np.diag(r))
    return torch.tensor(gain * (q if rows >= columns else q.T), dtype=torch.float32).contiguous()


def linear(inputs: int, outputs: int, gain: float, rng: np.random.Generator) -> nn.Linear:
    """A layer with orthogonal weights and zero bias; torch's own generator is left alone."""
    layer = nn.Linear(inputs, outputs, device="meta")
    layer.weight = nn.Parameter(orthogonal(outputs, inputs, gain, rng))
    layer.bias = nn.Parameter(torch.zeros(outputs))
    return layer


def hidden_layers(sizes: Sequence[int], activation: Activation, rng: np.random.Generator) -> nn.Sequential:
    """Layers with the given sizes, input first, each followed by the activation; none for a single size."""
    kind = {"tanh": nn.Tanh, "relu": nn.ReLU}[activation]
    layers = [(linear(i, o, HIDDEN_GAIN, rng), kind()) for i, o in pairwise(sizes)]
    return nn.Sequential(*(module for pair in layers for module in pair))


class PolicyHead(nn.Module):
    """From features to a distribution over policy outputs.

    The mean is linear in the features and the deviation a free parameter per component; or there is one logit
    per choice.

    Args:
        features: Size of the input.
        spaces: Sizes of the actions.
        init_std: Standard deviation at the start (Gaussian only).
        min_std: Its lower bound.
        rng: Source of the initial weights.
    """

    def __init__(
        self, features: int, spaces: Spaces, *, init_std: float, min_std: float, rng: np.random.Generator
    ) -> None:
        super().__init__()
        self.output = linear(features, spaces.policy_outputs, POLICY_GAIN, rng)
        self._floor = math.log(min_std)
        self.log_std = None if spaces.choices else nn.Parameter(torch.full((spaces.action_size,), math.log(init_std)))

    def forward(self, features: Tensor) -> Distribution:
        """The distribution for features `[..., H]`."""
        output = self.output(features)
        return Categorical(output) if self.log_std is None else Gaussian(output, self.log_std.clamp_min(self._floor))

    def std(self) -> float:
        """Mean standard deviation of the output; 0 where actions are discrete."""
        return 0.0 if self.log_std is None else float(self.log_std.detach().clamp_min(self._floor).exp().mean())


class ActorCritic(nn.Module):
    """A policy and a value function without memory, each a perceptron of its own.

    Args:
        inputs: Size of the input.
        spaces: Sizes of the actions.
        hidden: Units of each hidden layer, of both.
        activation: After each of them.
        init_std: Standard deviation of the policy's output at the start.
        min_std: Its lower bound.
        rng: Source of the initial weights.
    """

    def __init__(
        self,
        inputs: int,
        spaces: Spaces,
        *,
        hidden: tuple[int, ...],
        activation: Activation,
        init_std: float,
        min_std: float,
        rng: np.random.Generator,
    ) -> None:
        super().__init__()
        sizes = (inputs, *hidden)
        self.actor = hidden_layers(sizes, activation, rng)
        self.policy = PolicyHead(sizes[-1], spaces, init_std=init_std, min_std=min_std, rng=rng)
        self.critic = hidden_layers(sizes, activation, rng)
        self.value = linear(sizes[-1], 1, 1.0, rng)

    def forward(self, x: Tensor) -> tuple[Distribution, Tensor]:
        """Policy and values `[...]` for inputs `[..., I]`."""
        return self.policy(self.actor(x)), self.value(self.critic(x)).squeeze(-1)
