"""Meta Networks: fast weights that the gradients of adaptation episodes write into a memory, read by attention.

Munkhdalai and Yu 2017, "Meta Networks" (arXiv:1703.00837), for policies, with a trust-region outer step. The page
`docs/meta-networks.md` has the equations and every detail that changes a result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from metarl.config import Layers, Positive, Units
from metarl.finite import check_finite
from metarl.learning.device.gpu import send
from metarl.learning.gradient.agent import AdaptedPolicy, GradientAgent
from metarl.learning.gradient.autograd_objective import AutogradObjective
from metarl.learning.gradient.losses import inner_loss
from metarl.learning.gradient.meta_trust_region import in_chunks, meta_trust_region_step
from metarl.learning.gradient.policy import Samples
from metarl.learning.gradient.trust_region_agent import TrustRegionAgentConfig
from metarl.learning.networks import fast_weights
from metarl.learning.networks.distributions import Distribution, sample
from metarl.learning.networks.exported.inferring import FastWeightPolicy, layers_of
from metarl.learning.networks.exported.traceable import exported_mlp
from metarl.learning.networks.fast_weights import FastMemory
from metarl.learning.networks.flat import Perceptrons, mlp_init, mlp_layers
from metarl.learning.networks.gradient_writer import GradientWriter
from metarl.learning.rules.base import evidence_of
from metarl.memory import FLOAT, Need, RunSize, dense_parameters
from metarl.types import Floats, MetaBatch, Spaces, Task, Trajectories


@dataclass(frozen=True, kw_only=True)
class MetaNetworksConfig(TrustRegionAgentConfig):
    """Settings of Meta Networks."""

    inner_lr: Positive = 0.1
    """Scale of the fast weights, which start as gradient steps of this size; usually 0.03 to 0.3."""
    hidden: Layers = (32, 32)
    """Units of each hidden layer of the policy; every adaptation episode stores fast weights for all of them."""
    representation: Layers = (32,)
    """Units of each hidden layer of the network that represents observations; its activation is tanh."""
    key_size: Units = 16
    """Numbers of a representation."""
    writer: Layers = (20,)
    """Units of each hidden layer of the network that maps a gradient to a fast weight; its activation is tanh."""
    first_order: bool = False
    """Treat the gradients of the adaptation episodes as constants in the meta-gradient."""


@dataclass(frozen=True)
class FastWeightState(AdaptedPolicy):
    """Slow weights and representation network of each task `[M, P + R]`, and the memory of its fast weights."""

    memory: FastMemory

    def __post_init__(self) -> None:
        super().__post_init__()
        check_finite(self.memory._asdict(), "adaptation: the memory of fast weights")

    def tasks(self, part: slice) -> FastWeightState:
        """The state of some of the tasks."""
        return FastWeightState(self.parameters[part].clone(), FastMemory(*(t[part].clone() for t in self.memory)))

    @classmethod
    def join(cls, parts: Sequence[AdaptedPolicy]) -> FastWeightState:
        """The state of all tasks of the parts, in order."""
        memories = [part.memory for part in parts if isinstance(part, FastWeightState)]
        memory = FastMemory(*(torch.cat(tensors) for tensors in zip(*memories, strict=True)))
        return cls(torch.cat([part.parameters for part in parts]), memory)


class MetaNetworks(GradientAgent[MetaNetworksConfig]):
    """Meta Networks as a `metarl.agent.MetaAgent`; its state is a `FastWeightState`. Built like a `GradientAgent`.

    Attributes:
        parameters: Slow weights, log-std (for continuous actions) and representation network, `[P + R]`.
        writer: Parameters of the network that writes fast weights, `[W]`.
    """

    Config: ClassVar[type] = MetaNetworksConfig
    summary: ClassVar[str] = "writes fast weights by gradients, reads them by attention (Munkhdalai and Yu 2017)"
    acts_with: ClassVar[tuple[str, ...]] = (*GradientAgent.acts_with, "_slow", "_representation")

    def __init__(self, config: MetaNetworksConfig, spaces: Spaces, *, device: torch.device, rng: np.random.Generator):
        super().__init__(config, spaces, device=device, rng=rng)
        self._slow = Perceptrons(self.policy.widths, config.activation)
        self._representation = Perceptrons((spaces.observation_size, *config.representation, config.key_size), "tanh")
        self._write = GradientWriter(config.writer, config.inner_lr)
        self.parameters = torch.cat([self.parameters, mlp_init(self._representation.sizes, rng).to(device)])
        self.writer = self._write.initial(rng).to(device)

    @classmethod
    def memory_needed(cls, config: MetaNetworksConfig, spaces: Spaces, size: RunSize) -> list[Need]:
        """Memory of a `GradientAgent`, and of the fast weights and their reading; see `GradientAgent.memory_needed`."""
        widths = (spaces.observation_size, *config.hidden, spaces.policy_outputs)
        entries = config.inner_steps * size.episodes
        stored = size.tasks * entries * (dense_parameters(widths) + config.key_size)
        read = size.episodes * spaces.horizon * max(reading_widths(widths, entries))
        remedy = "fewer --episodes or smaller layers (--agent.hidden)"
        needs = [Need(f"the memory of {entries:,} entries for each of {size.tasks:,} tasks", FLOAT * stored, remedy)]
        needs.append(Need(f"reading a memory of {entries:,} entries", FLOAT * read, remedy))
        return [*super().memory_needed(config, spaces, size), *([] if size.gpu else needs)]

    # Acting and adapting --------------------------------------------------------------------------------

    def begin(self, tasks: Sequence[Task], episodes: int) -> FastWeightState:
        """The meta-learned slow weights for every task, and an empty memory."""
        parameters = self.parameters.expand(len(tasks), -1).contiguous()
        return FastWeightState(parameters, self._empty_memory(parameters))

    def _empty_memory(self, parameters: Tensor) -> FastMemory:
        return FastMemory.empty(len(parameters), self.config.key_size, self._slow.layout.size, parameters)

    def distribution(self, parameters: Tensor, memory: FastMemory, observations: Tensor) -> Distribution:
        """Action distributions of slow and fast weights, differentiable any number of times.

        Args:
            parameters: `[M, P + R]`.
            memory: The memory of each task.
            observations: Inputs of the policy, `[M, B, O]`.
        """
        arrays = self.policy.layout.split(parameters[:, : self.policy.layout.size])
        slow, activation = mlp_layers(arrays), self._slow.activation
        if memory.keys.shape[1] == 0:
            return self.policy.distribution(fast_weights.evaluate(slow, observations, activation), arrays)
        read = fast_weights.attention(self._represented(parameters, observations), memory.keys)
        fast = fast_weights.split_entries(memory.values, self._slow.layers)
        output = fast_weights.evaluate_with_memory(slow, fast, read, observations, activation)
        return self.policy.distribution(output, arrays)

    def _represented(self, parameters: Tensor, observations: Tensor) -> Tensor:
        """Representations `r(x)` `[M, B, D]` of observations `[M, B, O]`."""
        layers = self._representation.layers(parameters[:, self.policy.layout.size :])
        return fast_weights.evaluate(layers, observations, "tanh")

    def _sample(self, state: AdaptedPolicy, observations: Floats, rng: np.random.Generator, mode: bool) -> Floats:
        """See `GradientAgent`."""
        assert isinstance(state, FastWeightState)
        with torch.inference_mode():
            seen = send(observations, state.parameters.device)
            return sample(self.distribution(state.parameters, state.memory, seen), rng, mode)

    def adapt(self, state: AdaptedPolicy, trajectories: Trajectories) -> FastWeightState:
        """Writes one entry per episode into the memory of its task."""
        assert isinstance(state, FastWeightState)
        samples, memory = self._samples_for(state, trajectories), state.memory
        episodes = trajectories.shape[1]
        memory = self.written(self.writer, state.parameters, memory, samples, episodes, first_order=True)
        return FastWeightState(state.parameters, memory)

    def written(
        self,
        writer: Tensor,
        parameters: Tensor,
        memory: FastMemory,
        samples: Samples,
        episodes: int,
        *,
        first_order: bool,
    ) -> FastMemory:
        """The memory with one more entry for each episode.

        The gradient is that of the episode's `inner_loss` in the slow weights, at the policy that acted. The key is the
        mean representation of the episode's observations.

        Args:
            writer: `[W]`.
            parameters: `[M, P + R]`.
            memory: The memory that the policy acted with.
            samples: Samples of a collect.
            episodes: `E`.
            first_order: Treat the gradients as constants.
        """

        def by_episode(x: Tensor) -> Tensor:
            return x.reshape(len(x) * episodes, -1, *x.shape[2:])  # [M * E, T, ...]

        each = Samples(*(by_episode(x) for x in samples))
        each = each._replace(weights=each.weights / each.weights.sum(dim=1, keepdim=True))
        repeated = memory.repeated(episodes)
        evidence = evidence_of(
            lambda at: inner_loss(self.distribution(at, repeated, each.observations), each),
            parameters.repeat_interleave(episodes, dim=0),
            first_order=first_order,
        )
        values = self._write(writer, evidence.gradient[:, : self._slow.layout.size])
        keys = by_episode(self._represented(parameters, samples.observations)) * each.weights.unsqueeze(-1)
        return memory.with_entries(*(t.view(-1, episodes, t.shape[-1]) for t in (keys.sum(dim=1), values)))

    # Learning -------------------------------------------------------------------------------------------

    def objective(self, samples: Sequence[Samples], episodes: Sequence[int]) -> AutogradObjective:
        """The outer objective of some tasks, as a function of the meta-parameters `[P + R + W]`.

        Args:
            samples: Samples of these tasks, one per collect.
            episodes: `E` of each collect.
        """
        *before, last = samples

        def distribution(meta_parameters: Tensor) -> Distribution:
            shared, writer = torch.split(meta_parameters, [len(self.parameters), len(self.writer)])
            parameters = shared.expand(len(last.weights), -1)
            memory, first_order = self._empty_memory(parameters), self.config.first_order or not writer.requires_grad
            for one, number in zip(before, episodes[:-1], strict=True):
                memory = self.written(writer, parameters, memory, one, number, first_order=first_order)
            return self.distribution(parameters, memory, last.observations)

        return AutogradObjective(distribution, self.meta_parameters, last)

    @property
    def meta_parameters(self) -> Tensor:
        """Parameters of the outer loop, `[P + R + W]`."""
        return torch.cat([self.parameters, self.writer])

    def meta_update(self, batch: MetaBatch[Trajectories]) -> dict[str, float]:
        """One trust-region step over slow weights, representation and writer, on the surrogate after adaptation."""
        samples, episodes = [self.samples(t) for t in batch.collects], [t.shape[1] for t in batch.collects]
        widths = reading_widths(self._slow.sizes, sum(episodes[:-1]))
        chunks = in_chunks(lambda some: self.objective(some, episodes), samples, widths)
        found, metrics = meta_trust_region_step(
            self.meta_parameters, chunks, len(batch.tasks), self.config, self.policy.bound
        )
        self.parameters, self.writer = (t.clone() for t in torch.split(found, [len(self.parameters), len(self.writer)]))
        self.update_statistics(batch.collects)
        std = self.policy.std(self.parameters[: self.policy.layout.size])
        return {**metrics, "policy/std": std, "writer/norm": float(self.writer.norm())}

    # Saving ---------------------------------------------------------------------------------------------

    def tensors(self) -> dict[str, Tensor]:
        """Parameters, writer and running statistics."""
        return {**super().tensors(), "writer": self.writer.detach().cpu()}

    def restore(self, tensors: Mapping[str, Tensor], counters: Mapping[str, Any]) -> None:
        """Restores the arrays of `tensors`.

        Raises:
            ValueError: Names or shapes differ from this agent's.
        """
        super().restore(tensors, counters)
        self.writer = tensors["writer"].to(self.device, copy=True)

    def _export(self, state: AdaptedPolicy, task: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """See `GradientAgent`; also the representation network and the memory."""
        assert isinstance(state, FastWeightState)
        split = self.policy.layout.size
        tensors, description = self.policy.export(state.parameters[task, :split])
        represent = self._representation.layout.split(state.parameters[task, split:].cpu()[None])
        tensors |= {f"representation_{name}": t[0].clone() for name, t in represent.items()}
        fast = self._slow.layout.split(state.memory.values[task].cpu())
        tensors |= {"keys": state.memory.keys[task].cpu(), **{f"fast_{name}": t.clone() for name, t in fast.items()}}
        return tensors, description | {"representation_layers": self._representation.depth}

    def _network(self, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> nn.Module:
        """See `GradientAgent`; with an empty memory only the slow weights."""
        if not len(tensors["keys"]):
            return super()._network(tensors, about)
        represent = exported_mlp(tensors, "tanh", "representation_")
        slow, fast = layers_of(tensors), layers_of(tensors, "fast_")
        return FastWeightPolicy(slow, fast, represent, tensors["keys"], about["activation"])


def reading_widths(widths: tuple[int, ...], entries: int) -> tuple[int, ...]:
    """Numbers per sample that reading a memory computes in each layer; see `fast_weights.read_affine`.

    Args:
        widths: Units of every layer of the policy, input first.
        entries: Entries of the memory.
    """
    return tuple(entries * min(pair) for pair in pairwise(widths))
