"""Models of the dynamics: MLPs that predict the next observation, many of them at once.

    s' = s + mean_d + dev_d * f(normalised s, scaled a)

as in Nagabandi et al. 2019 (arXiv:1803.11347). The differences s' - s are normalised by their own statistics, since
they are much smaller than the observations. A probabilistic model predicts the log-variance of each normalised
difference too and is trained by its negative log-likelihood (Chua et al. 2018, arXiv:1805.12114); planning uses its
mean.

Row n of the parameters `[n, P]` is a model of its own. Training needs second derivatives, which `Perceptrons` refuses,
so the loss goes through plain layers; predictions go through `Perceptrons`. Both are the same function.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from metarl.deviations import CLIP
from metarl.learning.networks.flat import Layout, Perceptrons, mlp_init
from metarl.learning.networks.perceptron import Activation

LOG_VARIANCE = (-10.0, 0.5)
"""Range of the log-variances, as in PETS at the start; a sigmoid maps outputs into it."""


class Scales(NamedTuple):
    """Statistics of all data so far, `[O]` each, in the environment's units.

    Attributes:
        mean: Mean of the observations.
        deviation: Deviation of the observations.
        difference_mean: Mean of the differences between successive observations.
        difference_deviation: Their deviation.
    """

    mean: Tensor
    deviation: Tensor
    difference_mean: Tensor
    difference_deviation: Tensor

    def inputs(self, observations: Tensor) -> Tensor:
        """Normalised and clipped observations `[..., O]`."""
        return ((observations - self.mean) / self.deviation).clamp(-CLIP, CLIP)

    def targets(self, observations: Tensor, following: Tensor) -> Tensor:
        """Normalised differences `[..., O]`."""
        return (following - observations - self.difference_mean) / self.difference_deviation


class Windows(NamedTuple):
    """Transitions for the loss of each of `n` models.

    Attributes:
        inputs: Normalised observations and scaled actions, `[n, B, I]`.
        targets: Normalised differences, `[n, B, O]`.
        mask: 1 on transitions that count, else 0, `[n, B]`.
    """

    inputs: Tensor
    targets: Tensor
    mask: Tensor


@dataclass(frozen=True)
class Dynamics:
    """The model as a function of its parameters.

    Args:
        observation_size: `O`.
        action_size: `A`.
        hidden: Units of each hidden layer.
        activation: Activation of the hidden layers.
        probabilistic: Whether it predicts variances too.
    """

    observation_size: int
    action_size: int
    hidden: tuple[int, ...]
    activation: Activation = "relu"
    probabilistic: bool = False

    @cached_property
    def networks(self) -> Perceptrons:
        """The networks, as functions of their flat parameters."""
        outputs = self.observation_size * (2 if self.probabilistic else 1)
        return Perceptrons((self.observation_size + self.action_size, *self.hidden, outputs), self.activation)

    def initial(self, members: int, rng: np.random.Generator) -> Tensor:
        """Initial parameters of an ensemble, `[members, P]`."""
        return torch.stack([mlp_init(self.networks.sizes, rng) for _ in range(members)])

    def losses(self, parameters: Tensor, windows: Windows) -> Tensor:
        """Mean loss of each model on its transitions, `[n]`; any number of times differentiable.

        Args:
            parameters: `[n, P]`.
            windows: Transitions of each model; the loss of one without any is 0.
        """
        weights, biases = self.networks.layers(parameters)
        x = windows.inputs
        for i, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            x = torch.baddbmm(bias.unsqueeze(1), x, weight)
            if i + 1 < len(weights):
                x = self._activated(x)
        return self._output_losses(x, windows)

    def _activated(self, z: Tensor) -> Tensor:
        return torch.relu(z) if self.activation == "relu" else torch.tanh(z)

    def _output_losses(self, x: Tensor, windows: Windows) -> Tensor:
        """Mean loss of each model `[n]` from its outputs `[n, B, O]`, or `[n, B, 2 O]` with variances."""
        errors = (x[..., : self.observation_size] - windows.targets).square()
        if self.probabilistic:
            low, high = LOG_VARIANCE
            log_variance = low + (high - low) * torch.sigmoid(x[..., self.observation_size :])
            errors = 0.5 * (errors * torch.exp(-log_variance) + log_variance + math.log(2 * math.pi))
        rows = errors.mean(dim=-1) * windows.mask
        return rows.sum(dim=1) / windows.mask.sum(dim=1).clamp(min=1.0)

    @cached_property
    def rates(self) -> Layout:
        """Layout of learned step sizes: of the inputs, of the outputs, and of the bias of each layer.

        With the step size a, the weight from unit i to unit j moves by `a into_i out_j` times its gradient, and the
        bias of unit j by `a bias out_j` times its own.
        """
        arrays: list[tuple[str, tuple[int, ...]]] = []
        for i, (fan_in, fan_out) in enumerate(pairwise(self.networks.sizes)):
            arrays += [(f"into_{i}", (fan_in,)), (f"out_{i}", (fan_out,)), (f"bias_{i}", (1,))]
        return Layout(tuple(arrays))

    def step_sizes(self, rates: Tensor) -> Tensor:
        """The factor on the step of every parameter, `[n, P]`.

        Args:
            rates: `[n, R]`, in the order of `rates`.
        """
        arrays, pieces = self.rates.split(rates), []
        for i in range(self.networks.depth):
            into, out, bias = (arrays[f"{name}_{i}"] for name in ("into", "out", "bias"))
            pieces += [(into.unsqueeze(2) * out.unsqueeze(1)).flatten(1), bias * out]
        return torch.cat(pieces, dim=1)

    def adapted(
        self, parameters: Tensor, windows: Windows, step_size: float, rates: Tensor | None = None, *, exact: bool
    ) -> Tensor:
        """Parameters after a gradient step of each model on its transitions, `[n, P]` (Nagabandi et al., equation 5).

        Args:
            parameters: `[n, P]`.
            windows: Transitions of each model. The step is that of their mean loss times the share that counts: each
                transition moves a model as much as in a window where all do, and a model without any stays the same.
            step_size: Step size.
            rates: Learned factors on it, `[n, R]` or `[1, R]`; see `rates`. None for 1.
            exact: Keep the graph, so that the result can be differentiated exactly; else return a constant.
        """
        with torch.enable_grad():
            at = parameters if exact else parameters.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(self.losses(at, windows).sum(), at, create_graph=exact)
        step = step_size * windows.mask.mean(dim=1, keepdim=True) * gradient
        if rates is not None:
            step = step * self.step_sizes(rates if exact else rates.detach())
        return at - step if exact else parameters.detach() - step

    def losses_after_step(
        self, parameters: Tensor, past: Windows, future: Windows, step_size: float, rates: Tensor | None = None
    ) -> Tensor:
        """Losses on the future after a gradient step on the past, `[n]`; their gradients are exact.

        The same as `losses(adapted(...), future)` for copies of the parameters, without a copy of the weights for each
        window. The step changes the weights of a layer by `-a h^T d`, with its inputs h and cotangents d on the past.
        So the layer computes, for inputs x on the future,

            x (W - a h^T d) + b - a 1^T d = x W + b - a (x h^T + 1) d,

        whose first two terms are one product for all windows. Learned step sizes stand beside the factors of the last
        term: `- a (x u h^T + c) d v`, with u, v and c for inputs, outputs and bias. An ordinary backward pass through
        this and through the backward pass on the past, written out, gives second derivatives.

        Args:
            parameters: `[members, P]`.
            past: `[n, M, ...]`, n a multiple of the members, the windows of a member in one block.
            future: `[n, K, ...]`.
            step_size: `a`.
            rates: Learned factors on it, `[members, R]`; see `rates`. None for 1.
        """
        members, (weights, biases) = len(parameters), self.networks.layers(parameters)
        windows = len(past.mask) // members
        factors = {} if rates is None else self.rates.split(rates.repeat_interleave(windows, dim=0))
        layers = range(len(weights))

        def affine(i: int, x: Tensor) -> Tensor:
            rows = x.reshape(members, -1, x.shape[-1])
            return torch.baddbmm(biases[i].unsqueeze(1), rows, weights[i]).view(*x.shape[:-1], -1)

        inputs = [past.inputs]
        for i in layers[:-1]:
            inputs.append(self._activated(affine(i, inputs[-1])))
        output = affine(layers[-1], inputs[-1])
        shares = past.mask.mean(dim=1)
        (delta,) = torch.autograd.grad((shares * self._output_losses(output, past)).sum(), output, create_graph=True)
        deltas = [delta]
        for i in reversed(layers[1:]):
            rows, h = deltas[0].reshape(members, -1, deltas[0].shape[-1]), inputs[i]
            slope = (h > 0).to(h.dtype) if self.activation == "relu" else 1.0 - h.square()
            deltas.insert(0, torch.bmm(rows, weights[i].mT).view_as(h) * slope)
        x = future.inputs
        for i, h, d in zip(layers, inputs, deltas, strict=True):
            seen, bias, along = x, x.new_ones(1, 1, 1), d
            if factors:
                into, out, bias = (factors[f"{name}_{i}"].unsqueeze(1) for name in ("into", "out", "bias"))
                seen, along = x * into, d * out
            z = torch.baddbmm(affine(i, x), torch.bmm(seen, h.mT) + bias, along, alpha=-step_size)
            x = self._activated(z) if i + 1 < len(layers) else z
        return self._output_losses(x, future)

    def predicted(self, parameters: Tensor, observations: Tensor, actions: Tensor, scales: Scales) -> Tensor:
        """Next observations `[n, B, O]` in the environment's units, without a graph.

        Args:
            parameters: `[n, P]`.
            observations: `[n, B, O]`, in the environment's units.
            actions: Scaled actions, `[n, B, A]`.
            scales: The statistics.
        """
        with torch.no_grad():
            output = self.networks(parameters, [scales.inputs(observations), actions])[..., : self.observation_size]
            return observations + scales.difference_mean + scales.difference_deviation * output
