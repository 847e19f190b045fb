"""Networks with everything replaced that cannot be traced, and steps of policies with a memory around them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from metarl.learning.networks.cells.base import Cell
from metarl.learning.networks.distributions import Categorical, Distribution, Gaussian, at_step
from metarl.learning.networks.exported.cells import CellStep, Remembered, cell_step
from metarl.learning.networks.exported.step import Actions, DistributionStep, Given, Normalise
from metarl.learning.networks.modules import Tanh


def traceable(module: nn.Module) -> nn.Module:
    """A copy on the CPU with constant parameters, whose cells are `CellStep`s and whose activations are torch's."""
    copied = copy.deepcopy(module).cpu().requires_grad_(False)
    return _replaced(_replaced(copied, Tanh, lambda _: nn.Tanh()), Cell, cell_step)


def _replaced(module: nn.Module, kind: type, by: Callable[[Any], nn.Module]) -> nn.Module:
    """The module with its outermost parts of one kind replaced, in place."""
    if isinstance(module, kind):
        return by(module)
    for name, child in list(module.named_children()):
        setattr(module, name, _replaced(child, kind, by))
    return module


def cells_of(module: nn.Module) -> list[CellStep]:
    """The outermost cells of a traceable module."""
    if isinstance(module, CellStep):
        return [module]
    return [cell for child in module.children() for cell in cells_of(child)]


def exported_mlp(tensors: Mapping[str, Tensor], activation: str, prefix: str = "") -> nn.Sequential:
    """The layers of an exported policy as torch modules.

    Args:
        tensors: `weight_i` `[in, out]` and `bias_i` `[out]`, after the prefix.
        activation: `tanh` or `relu`, between the layers.
        prefix: Text before the names.
    """
    modules: list[nn.Module] = []
    while f"{prefix}weight_{len(modules) // 2}" in tensors:
        weight, bias = (tensors[f"{prefix}{kind}_{len(modules) // 2}"] for kind in ("weight", "bias"))
        layer = nn.Linear(len(weight), len(bias), device="meta")
        layer.weight = nn.Parameter(weight.T.contiguous(), requires_grad=False)
        layer.bias = nn.Parameter(bias.clone(), requires_grad=False)
        modules += [layer, nn.Tanh() if activation == "tanh" else nn.ReLU()]
    return nn.Sequential(*modules[:-1])


class Passing(nn.Module):
    """Inputs as they are."""

    def forward(self, x: Tensor) -> Tensor:
        """The inputs."""
        return x


class NormalisedPolicy(nn.Module):
    """A policy of normalised inputs.

    Args:
        seen: `Normalise`, or `Passing`.
        network: Maps inputs `[1, I]` to a distribution, alone or with values.
    """

    def __init__(self, seen: nn.Module, network: nn.Module) -> None:
        super().__init__()
        self.seen, self.network = seen, network

    def forward(self, x: Tensor) -> Distribution:
        """The distribution of inputs `[1, I]`."""
        output: Any = self.network(self.seen(x))
        return output if isinstance(output, Gaussian | Categorical) else output[0]


class Head(nn.Module):
    """Distributions of the outputs of an MLP: means with a shared deviation, or logits.

    Args:
        network: The MLP.
        log_std: Logarithm of the deviation, `[A]`; None for logits.
    """

    def __init__(self, network: nn.Module, log_std: Tensor | None) -> None:
        super().__init__()
        self.network, self.log_std = network, log_std

    def forward(self, x: Tensor) -> Distribution:
        """The distribution of inputs `[1, I]`."""
        output: Tensor = self.network(x)
        return Categorical(output) if self.log_std is None else Gaussian(output, self.log_std)


class TwoOutputs(nn.Module):
    """Normal distributions whose deviation is an output of the MLP too.

    Args:
        network: The MLP, with `2 A` outputs: means, and logarithms of deviations before they are clamped.
        bounds: Bounds of the logarithms.
    """

    def __init__(self, network: nn.Module, bounds: tuple[float, float]) -> None:
        super().__init__()
        self.network, self._bounds = network, bounds

    def forward(self, x: Tensor) -> Distribution:
        """The distribution of inputs `[..., I]`."""
        mean, log_std = self.network(x).chunk(2, dim=-1)
        return Gaussian(mean, log_std.clamp(*self._bounds))


def normalisation(statistics: Mapping[str, Tensor]) -> nn.Module:
    """The normalisation of these statistics; nothing if there are none."""
    return Normalise(statistics) if statistics else Passing()


class InferringPolicy(nn.Module):
    """A policy of observation and an inferred latent, such as a belief; see `BeliefPolicy`.

    Args:
        encoder: Gives the latent, or mean and log-variance of a belief, from the leading inputs; it has a memory.
        actor_critic: Policy and value function of the first inputs and what was inferred.
        seen: Number of leading inputs that policy and value function see.
        read: Number of leading inputs that the encoder reads; all by default.
        statistics: Mean and deviation of what was inferred; empty if it is not normalised.
    """

    def __init__(
        self,
        encoder: nn.Module,
        actor_critic: nn.Module,
        *,
        seen: int,
        read: int | None = None,
        statistics: Mapping[str, Tensor] = MappingProxyType({}),
    ) -> None:
        super().__init__()
        self.encoder, self.actor_critic = traceable(encoder), traceable(actor_critic)
        self._seen, self._read, self.shown = seen, read, normalisation(statistics)

    def forward(self, x: Tensor, memory: Remembered) -> tuple[Distribution, Tensor, Remembered]:
        """Policy, values and memory after inputs `[1, 1, I]`."""
        inferred, memory = self.encoder(x[..., : self._read], memory)
        latent = inferred if isinstance(inferred, Tensor) else torch.cat(inferred, dim=-1)
        return *self.actor_critic(torch.cat([x[..., : self._seen], self.shown(latent)], dim=-1)), memory


class EncodedPolicy(nn.Module):
    """A policy of the features of an encoder with a memory, and of the observation.

    Args:
        encoder: The encoder.
        head: Maps features and observation to a distribution.
        observation_size: `O`, the leading components of the input.
    """

    def __init__(self, encoder: nn.Module, head: nn.Module, observation_size: int) -> None:
        super().__init__()
        self.encoder, self.head, self._observation_size = traceable(encoder), head, observation_size

    def forward(self, x: Tensor, memory: Remembered) -> tuple[Distribution, None, Remembered]:
        """Policy, no values, and memory after inputs `[1, 1, I]`."""
        features, memory = self.encoder(x, memory)
        return self.head(torch.cat([features, x[..., : self._observation_size]], dim=-1)), None, memory


class TrialStep(DistributionStep):
    """A policy with a memory that spans a trial.

    Args:
        observation_size: `O`.
        actions: The map of the actions.
        network: Maps inputs `[1, 1, I]` and a memory to a distribution, values and a memory; it has one cell.
        statistics: Mean and deviation of the observations; empty if they are not normalised.
        reward_scale: Factor on the previous reward.
        sampled: As in `DistributionStep`.
        squashed: As in `DistributionStep`.
    """

    def __init__(
        self,
        observation_size: int,
        actions: Actions,
        network: nn.Module,
        statistics: Mapping[str, Tensor],
        reward_scale: float,
        *,
        sampled: bool,
        squashed: bool = False,
    ) -> None:
        cells = cells_of(network)
        if len(cells) != 1:
            raise ValueError(
                f"export: got a {type(network).__name__} with {len(cells)} cells of metarl.learning.networks.cells, "
                "expected one; give the agent a policy_step of its own"
            )
        (cell,) = cells
        super().__init__(observation_size, actions, cell.parts, adapts=True, sampled=sampled, squashed=squashed)
        self.network, self.seen, self._reward_scale = network, normalisation(statistics), reward_scale

    def _choose(self, given: Given) -> tuple[Distribution, Tensor]:
        parts: Sequence[Tensor] = (self.seen(given.observation), given.action)
        x = torch.cat([*parts, self._reward_scale * given.reward, given.done], dim=1).unsqueeze(1)
        distribution, _, memory = self.network(x, Remembered(given.memory, given.steps))
        return at_step(distribution, 0), memory.numbers
