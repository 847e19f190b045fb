"""The policy of the gradient-based agents, one set of parameters per task, and the samples they learn from."""

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
"""Activations of one layer that a chunk of tasks may hold on the CPU."""


class StackedPolicy:
    """A perceptron policy whose parameters are stacked over tasks; Gaussian, or categorical for discrete actions.

    The network puts out the mean, with a free parameter per action component for the logarithm of the deviation;
    or one logit per choice.

    Args:
        spaces: Sizes and action bounds.
        hidden: Units of each hidden layer.
        activation: Between the layers.
        init_std: Standard deviation at the start, in units of the policy's output (Gaussian only).
        min_std: Lower bound, in the same unit.
        action_scale: Policy output that stands for the largest action; see `to_environment`.

    Attributes:
        layout: Of one task's parameters.
        bound: Of the log-std among them. All parameters are to keep it: the distributions are computed without a look
            at it, so that no gradient ends there.
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

    def initial(self, rng: np.random.Generator) -> Tensor:
        """Initial parameters, `[P]`."""
        network = mlp_init(self._perceptrons.sizes, rng)
        if self._spaces.choices:
            return network
        log_std = torch.full((self._spaces.action_size,), self._log_std_start, dtype=torch.float32)
        return self.bound.project_(torch.cat([network, log_std]))

    def __call__(self, parameters: Tensor, observations: Tensor) -> Distribution:
        """Action distributions of each task's policy.

        Args:
            parameters: `[M, P]`.
            observations: `[M, B, O]`.

        Returns:
            Mean `[M, B, A]` and log-std `[M, 1, A]`, or logits `[M, B, choices]`.
        """
        output = self._output(parameters[:, : self._perceptrons.layout.size], observations)
        return self._distribution(output, self.layout.split(parameters))

    def _output(self, parameters: Tensor, observations: Tensor) -> Tensor:
        """Mean or logits `[M, B, outputs]` of the networks `[M, ...]`."""
        return self._perceptrons(parameters, [observations])

    def _distribution(self, output: Tensor, arrays: Mapping[str, Tensor]) -> Distribution:
        if self._spaces.choices:
            return Categorical(output)
        return Gaussian(output, arrays["log_std"].unsqueeze(1))

    def linearise(self, parameters: Tensor, observations: Tensor) -> LinearisedPolicy:
        """The policy around given parameters; arguments as for calling it."""
        return LinearisedPolicy(self.layout, parameters, observations, self._perceptrons.activation, self._distribution)

    def to_environment(self, output: Floats) -> Floats:
        """The environment's action for a policy output, `[..., A]`; see `ActionMap.to_environment`."""
        return self._actions.to_environment(output)

    def sample(self, parameters: Tensor, observations: Floats, rng: np.random.Generator, mode: bool = False) -> Floats:
        """Random outputs of each task's policy, `[M, E, A]` float32.

        Args:
            parameters: `[M, P]`.
            observations: `[M, E, O]`, as the policy is to see them.
            rng: Source of the noise.
            mode: Take the modes in place of random outputs.
        """
        with torch.inference_mode():
            return sample(self(parameters, send(observations, parameters.device)), rng, mode)

    def std(self, parameters: Tensor) -> float:
        """Mean standard deviation of the policy's output; 0 where actions are discrete. `parameters` is `[P]`."""
        if self._spaces.choices:
            return 0.0
        return float(parameters[-self._spaces.action_size :].exp().mean())

    def export(self, parameters: Tensor) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Arrays and description of one task's policy, for use without metarl.

        Args:
            parameters: `[P]`.
        """
        tensors = {name: t[0].clone() for name, t in self.layout.split(parameters.detach().cpu()[None]).items()}
        return tensors | self._actions.tensors(), {
            "activation": self._perceptrons.activation,
            "layers": self._perceptrons.depth,
            "mean": "linear",
            **self._actions.description(),
        }


class Samples(NamedTuple):
    """What one collect teaches, flat over episodes and steps: `B = E * T`.

    Attributes:
        observations: `[M, B, O]`, as the policy saw them.
        actions: Policy outputs, `[M, B, A]`.
        advantages: `[M, B]`.
        weights: `[M, B]`: 1 / (number of steps of the task) on steps that happened, else 0.
    """

    observations: Tensor
    actions: Tensor
    advantages: Tensor
    weights: Tensor

    def tasks(self, chunk: slice) -> Samples:
        """The same of some of the tasks."""
        return Samples(*(t[chunk] for t in self))

    @classmethod
    def of(cls, arrays: Mapping[str, Floats | Tensor], device: torch.device) -> Samples:
        """Samples on the device, from arrays `[M, E, T, ...]` of the same names: NumPy's, or float32 there already."""

        def flat(a: Floats | Tensor) -> Tensor:
            sent = a if isinstance(a, Tensor) else send(a, device, torch.float32)
            return sent.flatten(1, 2)

        return cls(*(flat(arrays[name]) for name in cls._fields))


def task_chunks(num_tasks: int, samples: int, widths: tuple[int, ...], device: torch.device) -> list[slice]:
    """Chunks of tasks that are updated at once, sized by the device.

    On the CPU a chunk's activations should stay in the cache, and a batched matrix product spreads its tasks
    over the threads, so a chunk is a multiple of their number. On a GPU, all tasks go at once as long as the
    graph of the update fits into half of the free memory.

    Args:
        num_tasks: `M`.
        samples: `B`, samples per task.
        widths: Layer sizes of the network.
        device: Where the update runs.
    """
    if device.type == "cuda":
        return chunks_that_fit(num_tasks, graph_bytes(samples, widths), device)
    threads = torch.get_num_threads()
    return chunks(num_tasks, max(CPU_CACHE_BYTES // (4 * samples * max(widths)) // threads, 1) * threads)
