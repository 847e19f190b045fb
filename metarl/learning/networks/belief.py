"""Beliefs over a latent task variable that are inferred step by step: the encoder, decoders, and terms of the ELBO.

Zintgraf et al. 2020 (arXiv:1910.08348), section 3. The evidence lower bound is a sum over the prefixes of a trial:
the belief after each prefix has to account for every step of the trial, those to come included. Such a double sum
is long, so its terms can be drawn at random with weights that leave its expectation as it is.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from metarl.learning.device.gpu import send
from metarl.learning.networks.cells import memory_after, recurrent_cell, through
from metarl.learning.networks.modules import HIDDEN_GAIN, hidden_layers, linear
from metarl.learning.networks.perceptron import Activation
from metarl.types import Bools


class Posterior(NamedTuple):
    """Independent normal distributions over the components of the latent.

    Attributes:
        mean: `[..., Z]`.
        log_variance: `[..., Z]`.
    """

    mean: Tensor
    log_variance: Tensor

    def drawn(self, noise: Tensor) -> Tensor:
        """`mean + deviation * noise`, through which gradients flow; `noise` is `[..., Z]`."""
        return self.mean + torch.exp(0.5 * self.log_variance) * noise


class BeliefEncoder(nn.Module):
    """Layers, a GRU, and on its output the mean and the log-variance of a belief.

    Args:
        inputs: Size of the input, `I`.
        latent: `Z`.
        hidden: Units of each layer before the GRU; there may be none.
        activation: After each of them.
        units: `H`, size of the memory.
        rng: Source of the initial weights.
    """

    def __init__(
        self,
        inputs: int,
        latent: int,
        *,
        hidden: tuple[int, ...],
        activation: Activation,
        units: int,
        rng: np.random.Generator,
    ) -> None:
        super().__init__()
        sizes = (inputs, *hidden)
        self.units = units
        self.encoder = hidden_layers(sizes, activation, rng)
        self.cell = recurrent_cell("gru", sizes[-1], units, rng)
        self.mean = linear(units, latent, 1.0, rng)
        self.log_variance = linear(units, latent, 1.0, rng)

    def fresh_memory(self, rows: int) -> Tensor:
        """The memory at the start of a trial: zeros `[1, rows, H]`."""
        return torch.zeros(1, rows, self.units, dtype=torch.float32, device=self.mean.weight.device)

    def forward(self, x: Tensor, memory: Tensor) -> tuple[Posterior, Tensor]:
        """Goes on from a memory over `L` steps.

        Args:
            x: `[B, L, I]`.
            memory: `[1, B, H]`.

        Returns:
            The belief after each step `[B, L, Z]`, and the memory after the last.
        """
        features, memory = through(self.cell, self.encoder(x), memory)
        return Posterior(self.mean(features), self.log_variance(features)), memory

    def memory_after(self, x: Tensor, memory: Tensor, steps: Tensor) -> Tensor:
        """The memory `[1, B, H]` after the first `steps` `[B]` of each row of `[B, L, I]`."""
        return memory_after(self.cell, self.encoder(x), memory, steps)


class Decoder(nn.Module):
    """A perceptron (ReLU) on every pair of a latent and a step.

    The first layer is applied to latents and steps apart and then summed, as a matrix product of the joined pair
    is; only what follows is computed pair by pair.

    Args:
        latent: `Z`.
        inputs: Numbers that describe a step, `S`.
        hidden: Units of each hidden layer.
        outputs: Numbers to put out.
        rng: Source of the initial weights.
    """

    def __init__(
        self, latent: int, inputs: int, hidden: tuple[int, ...], outputs: int, rng: np.random.Generator
    ) -> None:
        super().__init__()
        self._columns = [latent, inputs]
        sizes = (latent + inputs, *hidden, outputs)
        gains = [HIDDEN_GAIN] * len(hidden) + [1.0]
        self.layers = nn.ModuleList(
            linear(i, o, gain, rng) for (i, o), gain in zip(pairwise(sizes), gains, strict=True)
        )

    def forward(self, latents: Tensor, steps: Tensor) -> Tensor:
        """Outputs `[B, P, D, outputs]` for latents `[B, P, Z]` and steps `[B, D, S]`."""
        first, others = self.layers[0], self.layers[1:]
        assert isinstance(first, nn.Linear)
        of_latents, of_steps = torch.split(first.weight, self._columns, dim=1)
        by_latent = functional.linear(latents, of_latents).unsqueeze(2)  # [B, P, 1, hidden]
        x = by_latent + functional.linear(steps, of_steps, first.bias).unsqueeze(1)
        for layer in others:
            x = layer(functional.relu(x))
        return x


def kl_from_previous(beliefs: Posterior) -> Tensor:
    """KL(q_t || q_{t-1}) in nats along a trial, `[B, L]`; before the first step the belief is N(0, 1).

    Of two normal distributions it is `(log v' - log v + (v + (m - m')^2) / v' - 1) / 2`, summed over the latent.

    Args:
        beliefs: `[B, L, Z]`.
    """
    before = Posterior(*(torch.cat([torch.zeros_like(t[:, :1]), t[:, :-1]], dim=1) for t in beliefs))
    ratio = torch.exp(beliefs.log_variance - before.log_variance)
    distance = (beliefs.mean - before.mean).square() * torch.exp(-before.log_variance)
    return 0.5 * (before.log_variance - beliefs.log_variance + ratio + distance - 1.0).sum(dim=-1)


class Chosen(NamedTuple):
    """Some steps of each trial, and how much each counts.

    Attributes:
        steps: Their numbers, `[B, n]`.
        weight: `[B, n]`: 0 on padding; else such that a weighted sum over the chosen steps has the sum over all of
            the trial's steps as its expectation.
    """

    steps: Tensor
    weight: Tensor

    def of(self, values: Tensor) -> Tensor:
        """The chosen steps of `[B, L, ...]`: `[B, n, ...]`."""
        index = self.steps.reshape(*self.steps.shape, *[1] * (values.ndim - 2))
        return values.gather(1, index.expand(*self.steps.shape, *values.shape[2:]))


def choose_steps(mask: Bools, count: int, device: torch.device, rng: np.random.Generator) -> Chosen:
    """Draws steps of each trial without replacement, all alike.

    Args:
        mask: `[B, L]`, True on the steps that happened.
        count: How many of each trial; 0 takes all of them, each with weight 1, and draws nothing.
        device: Where to.
        rng: Source of the choice.
    """
    if count == 0 or count >= mask.shape[1]:
        index, weight = np.broadcast_to(np.arange(mask.shape[1]), mask.shape), mask.astype(np.float32)
    else:
        index = np.argsort(rng.random(mask.shape) + ~mask, axis=1)[:, :count]  # padding comes last
        happened = mask.sum(axis=1, keepdims=True)
        weight = np.take_along_axis(mask, index, axis=1) * (happened / np.clip(happened, 1, count))
    return Chosen(send(index, device), send(weight, device, torch.float32))


def summed_error(outputs: Tensor, targets: Tensor, prefixes: Chosen, decoded: Chosen) -> Tensor:
    """Sum over prefixes and steps of the squared errors, `[B]`.

    Args:
        outputs: `[B, P, D, X]`, what the latent drawn after each prefix says of each step.
        targets: `[B, D, X]`.
        prefixes: The `P` prefixes.
        decoded: The `D` steps.
    """
    errors = (outputs - targets.unsqueeze(1)).square().sum(dim=-1)  # [B, P, D]
    return torch.einsum("bp,bpd,bd->b", prefixes.weight, errors, decoded.weight)
