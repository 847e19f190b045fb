"""Beliefs over a latent task variable, inferred step by step, and a policy that acts on them.

Zintgraf et al. 2020 (arXiv:1910.08348), section 3. `vae` has the decoders and the training of the encoder.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from metarl.learning.device.gpu import send
from metarl.learning.networks.acting import affine, through_layers
from metarl.learning.networks.cells import fresh_cell_memory, memory_after, one_step, recurrent_cell, through
from metarl.learning.networks.distributions import Distribution
from metarl.learning.networks.modules import ActorCritic, hidden_layers, linear
from metarl.learning.networks.sequence import SequenceNetwork
from metarl.types import Floats


class Posterior(NamedTuple):
    """Independent normal distributions over the components of the latent.

    Attributes:
        mean: `[..., Z]`.
        log_variance: `[..., Z]`.
    """

    mean: Tensor
    log_variance: Tensor

    def drawn(self, noise: Tensor) -> Tensor:
        """`mean + deviation * noise`, differentiable in the belief; `noise` is `[..., Z]`."""
        return self.mean + torch.exp(0.5 * self.log_variance) * noise


class BeliefEncoder(nn.Module):
    """Layers and a GRU, whose output gives mean and log-variance of a belief.

    Args:
        inputs: Size of the input, `I`.
        latent: `Z`.
        hidden: Units of each layer (ReLU) before the GRU; may be empty.
        units: `H`, size of the memory.
        rng: Source of the initial weights.
    """

    def __init__(
        self, inputs: int, latent: int, *, hidden: tuple[int, ...], units: int, rng: np.random.Generator
    ) -> None:
        super().__init__()
        sizes = (inputs, *hidden)
        self.units = units
        self.encoder = hidden_layers(sizes, "relu", rng)
        self.cell = recurrent_cell("gru", sizes[-1], units, rng)
        self.mean = linear(units, latent, 1.0, rng)
        self.log_variance = linear(units, latent, 1.0, rng)

    def fresh_memory(self, rows: int) -> Tensor:
        """The memory at the start of a trial: zeros `[rows, H]`."""
        memory = fresh_cell_memory("gru", rows, self.units, self.mean.weight.device)
        assert isinstance(memory, Tensor)
        return memory

    def forward(self, x: Tensor, memory: Tensor) -> tuple[Posterior, Tensor]:
        """Continues from a memory over `L` steps.

        Args:
            x: `[B, L, I]`.
            memory: `[B, H]`.

        Returns:
            The belief after each step `[B, L, Z]`, and the memory after the last.
        """
        features, after = through(self.cell, self.encoder(x), memory)
        assert isinstance(after, Tensor)
        return self.belief(features), after

    def step(self, x: Floats, memory: Tensor) -> tuple[Floats, Tensor]:
        """`forward` for a step on a CPU, by NumPy: the belief `[B, 2 Z]` after `[B, I]`, and the memory `[B, H]`."""
        features, after = one_step(self.cell, through_layers(self.encoder, x), memory)
        assert isinstance(after, Tensor)
        return np.concatenate([affine(self.mean, features), affine(self.log_variance, features)], axis=-1), after

    def belief(self, features: Tensor) -> Posterior:
        """The belief `[..., Z]` that outputs of the GRU `[..., H]` encode."""
        return Posterior(self.mean(features), self.log_variance(features))

    def memory_after(self, x: Tensor, memory: Tensor, steps: Tensor) -> Tensor:
        """The memory `[B, H]` after the first `steps` `[B]` of each row of `[B, L, I]`."""
        after = memory_after(self.cell, self.encoder(x), memory, steps)
        assert isinstance(after, Tensor)
        return after


class BeliefMemory(NamedTuple):
    """The memory of a policy that acts on beliefs.

    Attributes:
        cell: State of the encoder's GRU, `[rows, H]`.
        belief: Mean and log-variance after the last step, `[rows, 2 Z]`; zeros, which is N(0, 1), at the start.
    """

    cell: Tensor
    belief: Tensor


class BeliefPolicy(SequenceNetwork[BeliefMemory]):
    """A policy and a value function of observation and belief; only the encoder has a memory.

    Args:
        encoder: Infers the belief from the whole input.
        actor_critic: Policy and value function on `O + 2 Z` numbers.
        observation_size: `O`, the leading components of the input.
        shown: Maps beliefs `[..., 2 Z]` to inputs of policy and value function (normalisation).
    """

    def __init__(
        self,
        encoder: BeliefEncoder,
        actor_critic: ActorCritic,
        observation_size: int,
        shown: Callable[[Floats], Floats] | None,
    ) -> None:
        super().__init__()
        self.encoder, self.actor_critic = encoder, actor_critic
        self.policy = actor_critic.policy
        self._observation_size, self._shown = observation_size, shown

    def fresh_memory(self, rows: int) -> BeliefMemory:
        """The memory at the start of a trial: a belief of N(0, 1), and zeros for the encoder."""
        cell = self.encoder.fresh_memory(rows)
        return BeliefMemory(cell, cell.new_zeros(rows, 2 * self.encoder.mean.out_features))

    def forward(self, x: Tensor, memory: BeliefMemory) -> tuple[Distribution, Tensor, BeliefMemory]:
        """Policy and values `[B, L]` on the belief after each input `[B, L, I]`, and the memory after the last."""
        posterior, cell = self.encoder(x, memory.cell)
        beliefs = torch.cat(posterior, dim=-1)
        distribution, values = self.actor_critic(self.joined(x[..., : self._observation_size], beliefs))
        return distribution, values, BeliefMemory(cell, beliefs[:, -1])

    def step(self, x: Tensor, memory: BeliefMemory) -> tuple[Distribution, Tensor, BeliefMemory]:
        """`forward` for a single step: policy and values `[B]` for inputs `[B, I]`, and the memory after it."""
        if x.is_cuda:
            return super().step(x, memory)
        inputs = x.numpy()
        belief, cell = self.encoder.step(inputs, memory.cell)
        shown = belief if self._shown is None else self._shown(belief)
        distribution, values = self.actor_critic.step(np.concatenate([inputs[:, : self._observation_size], shown], -1))
        return distribution, values, BeliefMemory(cell, torch.tensor(belief))

    def joined(self, observations: Tensor, beliefs: Tensor) -> Tensor:
        """Inputs of policy and value function, `[..., O + 2 Z]`; `observations` are normalised as for the encoder."""
        if self._shown is not None:
            beliefs = send(self._shown(beliefs.cpu().numpy()), beliefs.device)
        return torch.cat([observations, beliefs], dim=-1)

    def memory_after(self, x: Tensor, memory: BeliefMemory, steps: Tensor) -> BeliefMemory:
        """The memory after the first `steps` `[B]` of each row, by one pass over packed sequences."""
        cell = self.encoder.memory_after(x, memory.cell, steps)
        return BeliefMemory(cell, torch.cat(self.encoder.belief(cell), dim=-1))

    def value_after(self, x: Tensor, steps: Tensor) -> Tensor:
        """The value `[B]` at one step of each row; the value function is evaluated there alone."""
        posterior, _ = self.encoder(x, self.encoder.fresh_memory(len(x)))
        at = (torch.arange(len(x)), steps)
        inputs = self.joined(x[..., : self._observation_size][at], torch.cat(posterior, dim=-1)[at])
        values: Tensor = self.actor_critic(inputs)[1]
        return values

    def exported_parameters(self) -> dict[str, Tensor]:
        """Policy and value function as `network.NAME`, the encoder as `encoder.NAME`."""
        parts = {"network": self.actor_critic, "encoder": self.encoder}
        return {f"{part}.{name}": p.detach() for part, module in parts.items() for name, p in module.named_parameters()}

    def exported_memory(self, memory: BeliefMemory) -> dict[str, Tensor]:
        """The state of the encoder's GRU, `[1, rows, H]`; the belief follows from it."""
        return {"memory": memory.cell.unsqueeze(0).clone()}
