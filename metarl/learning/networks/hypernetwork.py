"""Recurrent hypernetworks (RNN+HN): a memory that generates the weights of policy and value function.

Beck, Jackson, Vuorio and Whiteson 2022, "Hypernetworks in Meta-Reinforcement Learning" (arXiv:2210.11348), and Beck,
Vuorio, Xiong and Whiteson 2023, "Recurrent Hypernetworks are Surprisingly Strong in Meta-RL" (arXiv:2309.14970).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import linear as product

from metarl.learning.networks.acting import affine, through_layers
from metarl.learning.networks.cells.base import MemoryT
from metarl.learning.networks.cells.settings import CellSettings
from metarl.learning.networks.distributions import Distribution
from metarl.learning.networks.modules import HIDDEN_GAIN, PolicyHead, PolicySettings, hidden_layers, linear
from metarl.learning.networks.perceptron import Activation
from metarl.learning.networks.recurrent import CellNetwork
from metarl.memory import dense_parameters
from metarl.types import Floats, Spaces

LATENT = 25
"""Numbers that the weights are generated from, `Z`; as in Beck et al. 2022."""


class GeneratedLinear(nn.Linear):
    """A linear layer of inputs x whose weights and bias are linear functions of a vector z.

    With the head's weights V and biases v, one of each for every weight of the layer, and `z_0 = 1`,

        W = v + sum_k V_k z_k,  y = W x + b = sum_k z_k (W_k x + b_k),  k = 0..Z

    with `W_0 = v` and `W_k = V_k`, and b likewise. The right-hand side needs no weights per row: one product gives
    `W_k x + b_k` for all k, and a second one their sum. Bias-HyperInit (Beck et al. 2022): `W_0` and `b_0` are those of
    an ordinary layer, the others 0, so that every z gives that layer at the start.

    `weight` is `[(Z + 1) * O, I]` and `bias` is `[(Z + 1) * O]`, ordered by k.

    Args:
        base: The ordinary layer.
        latent: `Z`.
    """

    def __init__(self, base: nn.Linear, latent: int) -> None:
        super().__init__(base.in_features, base.out_features, device="meta")
        more = latent * base.out_features
        self.weight = nn.Parameter(torch.cat([base.weight.detach(), base.weight.new_zeros(more, base.in_features)]))
        self.bias = nn.Parameter(torch.cat([base.bias.detach(), base.bias.new_zeros(more)]))

    @classmethod
    def in_place_of(cls, layers: nn.Sequential, latent: int) -> nn.Sequential:
        """The layers of `hidden_layers`, the linear ones generated."""
        return nn.Sequential(*(cls(layer, latent) if isinstance(layer, nn.Linear) else layer for layer in layers))

    def forward(self, x: Tensor, z: Tensor) -> Tensor:  # type: ignore[override]
        """The output `[..., O]` for inputs `[..., I]` and `(1, z)` `[..., Z + 1]`."""
        parts = product(x, self.weight, self.bias).view(*x.shape[:-1], -1, self.out_features)
        return (z.unsqueeze(-2) @ parts).squeeze(-2)

    def step(self, x: Floats, z: Floats) -> Floats:
        """`forward` for inputs `[B, I]` and `(1, z)` `[B, Z + 1]` on a CPU, by NumPy."""
        parts = affine(self, x).reshape(len(x), -1, self.out_features)
        output: Floats = np.matmul(z[:, None, :], parts)[:, 0]
        return output


class HypernetworkActorCritic(CellNetwork[MemoryT], Generic[MemoryT]):
    """An encoder and a cell, whose output generates all weights of a policy and a value function.

    The cell's output gives z by a linear layer of `LATENT` units with ReLU. Policy and value function are two MLPs on
    an embedding of the current observation, with `hidden` layers and an output layer of `GeneratedLinear` each. A
    deviation per state is an output of the policy, generated too; a shared one is an ordinary parameter.

    Args:
        inputs: Size of the input, `I`; the observation comes first.
        spaces: Sizes of observations and actions.
        encoder: Units of each layer before the cell, and of each layer of the embedding; may be empty.
        activation: Activation after each layer.
        cell: Settings of the cell.
        steps: Steps of a trial.
        hidden: Units of each hidden layer, of policy and value each; may be empty.
        policy: Settings of the policy's deviation and mean.
        rng: Source of the initial weights.
    """

    def __init__(
        self,
        inputs: int,
        spaces: Spaces,
        *,
        encoder: tuple[int, ...],
        activation: Activation,
        cell: CellSettings,
        steps: int,
        hidden: tuple[int, ...],
        policy: PolicySettings,
        rng: np.random.Generator,
    ) -> None:
        super().__init__(inputs, encoder=encoder, activation=activation, cell=cell, steps=steps, rng=rng)
        self._observation_size = spaces.observation_size
        embedding = (spaces.observation_size, *encoder)
        self.embedding = hidden_layers(embedding, activation, rng)
        self.latent = linear(self.cell.outputs, LATENT, HIDDEN_GAIN, rng)
        sizes = (embedding[-1], *hidden)
        actor, critic = (hidden_layers(sizes, activation, rng) for _ in range(2))
        self.actor, self.critic = (GeneratedLinear.in_place_of(layers, LATENT) for layers in (actor, critic))
        self.policy = PolicyHead(sizes[-1], spaces, policy, rng=rng)
        self.policy.output = GeneratedLinear(self.policy.output, LATENT)
        if self.policy.deviation is not None:
            self.policy.deviation = GeneratedLinear(self.policy.deviation, LATENT)
        self.value = GeneratedLinear(linear(sizes[-1], 1, 1.0, rng), LATENT)

    def forward(self, x: Tensor, memory: MemoryT) -> tuple[Distribution, Tensor, MemoryT]:
        """Policy and values `[B, L]` for inputs `[B, L, I]`, and the memory after the last step."""
        features, memory = self.cell(self.encoder(x), memory)
        latent = torch.relu(self.latent(features))
        z = torch.cat([torch.ones_like(latent[..., :1]), latent], dim=-1)
        observed = self.embedding(x[..., : self._observation_size])
        h, policy = _through(self.actor, observed, z), self.policy
        deviation = None if policy.deviation is None else policy.deviation(h, z)
        values = self.value(_through(self.critic, observed, z), z).squeeze(-1)
        return policy.distribution(policy.output(h, z), deviation), values, memory

    def step(self, x: Tensor, memory: MemoryT) -> tuple[Distribution, Tensor, MemoryT]:
        """`forward` for a single step: policy and values `[B]` for inputs `[B, I]`, and the memory after it."""
        if x.is_cuda:
            return super().step(x, memory)
        inputs, policy = x.numpy(), self.policy
        features, memory = self.cell.step(through_layers(self.encoder, inputs), memory)
        latent = affine(self.latent, features)
        z = np.concatenate([np.ones_like(latent[:, :1]), np.maximum(latent, 0.0)], axis=-1)
        observed = through_layers(self.embedding, inputs[:, : self._observation_size])
        h, deviation = _step_through(self.actor, observed, z), None
        if policy.deviation is not None:
            deviation = torch.from_numpy(_step_through([policy.deviation], h, z))
        output = torch.from_numpy(_step_through([policy.output], h, z))
        values = self.value.step(_step_through(self.critic, observed, z), z)[:, 0]
        distribution = policy.distribution(output, deviation, shared=policy.log_std)
        return distribution, torch.from_numpy(values), memory


def head_size(units: int, spaces: Spaces, encoder: tuple[int, ...], hidden: tuple[int, ...]) -> tuple[int, int]:
    """Size of everything after the cell of a `HypernetworkActorCritic`.

    Args:
        units: Size of the cell's output.
        spaces: Sizes of observations and actions.
        encoder: As in `HypernetworkActorCritic`.
        hidden: As there.

    Returns:
        Parameters, without those of a deviation; and numbers per step that back-propagation keeps.
    """
    embedding = (spaces.observation_size, *encoder)
    parameters = dense_parameters(embedding) + dense_parameters((units, LATENT))
    for outputs in (spaces.policy_outputs, 1):
        parameters += (LATENT + 1) * dense_parameters((embedding[-1], *hidden, outputs))
    return parameters, 2 * (LATENT + 1) * sum(hidden)


def _through(layers: nn.Sequential, x: Tensor, z: Tensor) -> Tensor:
    """The output `[..., O]` of generated layers for inputs `[..., I]` and `(1, z)` `[..., Z + 1]`."""
    for layer in layers:
        x = layer(x, z) if isinstance(layer, GeneratedLinear) else layer(x)
    return x


def _step_through(layers: Iterable[nn.Module], x: Floats, z: Floats) -> Floats:
    """`_through` for inputs `[B, I]` on a CPU, by NumPy."""
    for layer in layers:
        x = layer.step(x, z) if isinstance(layer, GeneratedLinear) else through_layers([layer], x)
    return x
