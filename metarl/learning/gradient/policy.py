"""The policy of gradient-based agents, with parameters per task, and the samples that they learn from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from metarl.learning.device.chunks import chunks, chunks_that_fit, graph_bytes
from metarl.learning.device.gpu import send
from metarl.learning.experience.actions import ActionMap
from metarl.learning.gradient.bounds import LowerBound
from metarl.learning.networks.distributions import Categorical, Distribution, Gaussian, sample
from metarl.learning.networks.flat import Layout, Perceptrons, mlp_init
from metarl.learning.networks.linearised import LinearisedPolicy
from metarl.learning.networks.perceptron import Activation
from metarl.types import Floats, Spaces

CPU_CACHE_BYTES = 2 * 2**20
"""Largest size of one layer's activations for a chunk of tasks on a CPU."""


class StackedPolicy:
    """An MLP policy with parameters stacked over tasks: Gaussian, or categorical for discrete actions.

    The network outputs the mean of the Gaussian, with one free log-std parameter per action component; or one logit per
    choice.

    Args:
        spaces: Sizes and action bounds.
        hidden: Units of each hidden layer.
        activation: Activation between the layers.
        init_std: Initial standard deviation, in units of the policy's output (Gaussian only).
        min_std: Lower bound of the standard deviation, in the same unit.
        action_scale: Policy output that corresponds to the action bound; see `to_environment`.

    Attributes:
        layout: Layout of one task's parameters.
        bound: Lower bound of the log-std among them. Parameters are projected onto it after each step; distributions do
            not clamp, so that no gradient vanishes at the bound.
    """

    def __init__(
        self,
        spaces: Spaces,
        *,
        hidden: tuple[int, ...],
        activation: Activation,
        init_std: float,
        min_std: float,
        action_scale: float,
    ) -> None:
        self._spaces = spaces
        self._perceptrons = Perceptrons((spaces.observation_size, *hidden, spaces.policy_outputs), activation)
        self._log_std_start = math.log(init_std)
        log_std = () if spaces.choices else (("log_std", (spaces.action_size,)),)
        self.layout = Layout((*self._perceptrons.layout.shapes, *log_std))
        self.bound = LowerBound(slice(self._perceptrons.layout.size, self.layout.size), math.log(min_std))
        self._actions = ActionMap(spaces, action_scale)

    @property
    def widths(self) -> tuple[int, ...]:
        """Units of every layer, input and output included."""
        return self._perceptrons.sizes

    @property
    def activation(self) -> Activation:
        """Activation between the layers."""
        return self._perceptrons.activation

    def initial(self, rng: np.random.Generator) -> Tensor:
        """Initial parameters, `[P]`."""
        network = mlp_init(self._perceptrons.sizes, rng)
        if self._spaces.choices:
            return network
        log_std = torch.full((self._spaces.action_size,), self._log_std_start, dtype=torch.float32)
        return self.bound.project_(torch.cat([network, log_std]))

    def __call__(self, parameters: Tensor, observations: Tensor) -> Distribution:
        """Action distributions of each task.

        Args:
            parameters: `[M, P]`.
            observations: `[M, B, O]`.

        Returns:
            Mean `[M, B, A]` and log-std `[M, 1, A]`, or logits `[M, B, choices]`.
        """
        output = self._perceptrons(parameters[:, : self._perceptrons.layout.size], [observations])
        return self.distribution(output, self.layout.split(parameters))

    def distribution(self, output: Tensor, arrays: Mapping[str, Tensor]) -> Distribution:
        """The distributions for outputs of the network, and the arrays of the parameters."""
        if self._spaces.choices:
            return Categorical(output)
        return Gaussian(output, arrays["log_std"].unsqueeze(1))

    def linearise(self, parameters: Tensor, observations: Tensor) -> LinearisedPolicy:
        """The policy linearised at given parameters; same arguments as a call."""
        return LinearisedPolicy(self.layout, parameters, observations, self.activation, self.distribution)

    def to_environment(self, output: Floats) -> Floats:
        """Environment actions for policy outputs, `[..., A]`; see `ActionMap.to_environment`."""
        return self._actions.to_environment(output)

    def sample(self, parameters: Tensor, observations: Floats, rng: np.random.Generator, mode: bool = False) -> Floats:
        """Outputs of each task's policy, `[M, E, A]` float32.

        Args:
            parameters: `[M, P]`.
            observations: Inputs of the policy, `[M, E, O]`.
            rng: Source of the noise.
            mode: Take the mode of each distribution instead of a sample.
        """
        with torch.inference_mode():
            return sample(self(parameters, send(observations, parameters.device)), rng, mode)

    def std(self, parameters: Tensor) -> float:
        """Mean standard deviation of the policy's output; 0 for discrete actions. `parameters` is `[P]`."""
        if self._spaces.choices:
            return 0.0
        return float(parameters[-self._spaces.action_size :].exp().mean())

    def export(self, parameters: Tensor) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Arrays and description of one task's policy, for use without metarl.

        Args:
            parameters: Parameters of the task, `[P]`.
        """
        tensors = {name: t[0].clone() for name, t in self.layout.split(parameters.detach().cpu()[None]).items()}
        return tensors | self._actions.tensors(), {
            "activation": self.activation,
            "layers": self._perceptrons.depth,
            "mean": "linear",
            **self._actions.description(),
        }


class Samples(NamedTuple):
    """Samples of one collect, flat over episodes and steps: `B = E * T`.

    Attributes:
        observations: Inputs of the policy, `[M, B, O]`.
        actions: Policy outputs, `[M, B, A]`.
        advantages: Advantages, `[M, B]`.
        weights: `[M, B]`: 1 / (number of steps of the task), or 0 where masked.
    """

    observations: Tensor
    actions: Tensor
    advantages: Tensor
    weights: Tensor

    def tasks(self, chunk: slice) -> Samples:
        """The samples of some of the tasks."""
        return Samples(*(t[chunk] for t in self))

    @classmethod
    def of(cls, arrays: Mapping[str, Floats | Tensor], device: torch.device) -> Samples:
        """Samples on the device from arrays `[M, E, T, ...]` of the same names.

        Args:
            arrays: NumPy arrays, or float32 tensors that are already on the device.
            device: Device of the samples.
        """

        def flat(a: Floats | Tensor) -> Tensor:
            sent = a if isinstance(a, Tensor) else send(a, device, torch.float32)
            return sent.flatten(1, 2)

        return cls(*(flat(arrays[name]) for name in cls._fields))


def task_chunks(
    num_tasks: int, samples: int, widths: tuple[int, ...], device: torch.device, more_bytes: int = 0
) -> list[slice]:
    """Chunks of tasks to update at once, sized for the device.

    On a CPU the activations of a chunk should fit into the cache. A batched matrix product spreads its tasks over the
    threads, so the size of a chunk is a multiple of their number. A GPU takes all tasks at once if half of the free
    memory holds the graph of the update.

    Args:
        num_tasks: `M`.
        samples: `B`, samples per task.
        widths: Units of every layer of the network.
        device: Device of the update.
        more_bytes: Bytes of each task's graph besides the policy's.
    """
    if device.type == "cuda":
        return chunks_that_fit(num_tasks, graph_bytes(samples, widths) + more_bytes, device)
    threads = torch.get_num_threads()
    return chunks(num_tasks, max(CPU_CACHE_BYTES // (4 * samples * max(widths)) // threads, 1) * threads)
