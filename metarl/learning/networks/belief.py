"""Beliefs over a latent task variable, inferred step by step, and a policy that acts on them.

Zintgraf et al. 2020 (arXiv:1910.08348), section 3. `vae` has the decoders and the training of the encoder.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from metarl.learning.device.gpu import send
from metarl.learning.networks.acting import affine, through_layers
from metarl.learning.networks.cells.settings import CellSettings
from metarl.learning.networks.cells.table import make_cell
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
    """Layers and a cell, whose output gives mean and log-variance of a belief.

    Args:
        inputs: Size of the input, `I`.
        latent: `Z`.
        hidden: Units of each layer (ReLU) before the cell; may be empty.
        cell: Settings of the cell.
        steps: Steps of a trial.
        rng: Source of the initial weights.
    """

    def __init__(
        self,
        inputs: int,
        latent: int,
        *,
        hidden: tuple[int, ...],
        cell: CellSettings,
        steps: int,
        rng: np.random.Generator,
    ) -> None:
        super().__init__()
        sizes = (inputs, *hidden)
        self.encoder = hidden_layers(sizes, "relu", rng)
        self.cell = make_cell(cell, sizes[-1], steps, rng)
        self.mean, self.log_variance = (linear(self.cell.outputs, latent, 1.0, rng) for _ in range(2))

    def fresh_memory(self, rows: int) -> Any:
        """The cell's memory at the start of a trial."""
        return self.cell.fresh_memory(rows)

    def forward(self, x: Tensor, memory: Any) -> tuple[Posterior, Any]:
        """Continues from a memory over `L` steps.

        Args:
            x: `[B, L, I]`.
            memory: The cell's memory of `B` rows.

        Returns:
            The belief after each step `[B, L, Z]`, and the memory after the last.
        """
        features, after = self.cell(self.encoder(x), memory)
        return self.belief(features), after

    def step(self, x: Floats, memory: Any) -> tuple[Floats, Any]:
        """`forward` for a step on a CPU, by NumPy: the belief `[B, 2 Z]` after `[B, I]`, and the memory."""
        features, after = self.cell.step(through_layers(self.encoder, x), memory)
        return np.concatenate([affine(self.mean, features), affine(self.log_variance, features)], axis=-1), after

    def belief(self, features: Tensor) -> Posterior:
        """The belief `[..., Z]` that outputs of the cell `[..., H]` encode."""
        return Posterior(self.mean(features), self.log_variance(features))

    def features_after(self, x: Tensor, memory: Any, steps: Tensor) -> tuple[Tensor, Any]:
        """The outputs `[B, H]` of the cell after the first `steps` `[B]` of each row of `[B, L, I]`, and its memory."""
        return self.cell.features_after(self.encoder(x), memory, steps)


class BeliefMemory(NamedTuple):
    """The memory of a policy that acts on beliefs.

    Attributes:
        cell: Memory of the encoder's cell.
        belief: Mean and log-variance after the last step, `[rows, 2 Z]`; zeros, which is N(0, 1), at the start.
    """

    cell: Any
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
        bias = self.encoder.mean.bias
        return BeliefMemory(cell, bias.new_zeros(rows, 2 * len(bias)))

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

    def keep(self, live: Tensor, new: BeliefMemory, old: BeliefMemory) -> BeliefMemory:
        """The new memory in rows where `live` `[B]` is True, and the old one in the others."""
        cell = self.encoder.cell.keep(live, new.cell, old.cell)
        return BeliefMemory(cell, torch.where(live.unsqueeze(1), new.belief, old.belief))

    def joined(self, observations: Tensor, beliefs: Tensor) -> Tensor:
        """Inputs of policy and value function, `[..., O + 2 Z]`; `observations` are normalised as for the encoder."""
        if self._shown is not None:
            beliefs = send(self._shown(beliefs.cpu().numpy()), beliefs.device)
        return torch.cat([observations, beliefs], dim=-1)

    def memory_after(self, x: Tensor, memory: BeliefMemory, steps: Tensor) -> BeliefMemory:
        """The memory after the first `steps` `[B]` of each row."""
        features, cell = self.encoder.features_after(x, memory.cell, steps)
        return BeliefMemory(cell, torch.cat(self.encoder.belief(features), dim=-1))

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
        """The memory of the encoder's cell; the belief follows from it."""
        return self.encoder.cell.exported_memory(memory.cell)
