"""The policy of the gradient-based references: one linear layer after another, as PyTorch's users write it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import linear

from metarl.learning.gradient.policy import StackedPolicy


class PlainPolicy(StackedPolicy):
    """The same distributions from the same parameters, task after task, differentiated by autograd alone."""

    def _output(self, parameters: Tensor, observations: Tensor) -> Tensor:
        layers, activation = self._perceptrons.layers(parameters), getattr(torch, self._perceptrons.activation)
        outputs, last = [], len(layers.weights) - 1
        for task, x in enumerate(observations.unbind()):
            for i, (weights, biases) in enumerate(zip(*layers, strict=True)):
                x = linear(x, weights[task].T.contiguous(), biases[task])  # [out, in], as in torch.nn.Linear
                if i < last:
                    x = activation(x)
            outputs.append(x)
        return torch.stack(outputs)


def floors(policy: StackedPolicy, like: Tensor) -> Tensor:
    """Lower bound of each parameter, `[P]`; minus infinity for those without one. `like` gives dtype and device."""
    lowest = torch.full((policy.layout.size,), -torch.inf, dtype=like.dtype, device=like.device)
    lowest[policy.bound.where] = policy.bound.value
    return lowest


def projected(policy: StackedPolicy, parameters: Tensor) -> Tensor:
    """The nearest parameters that keep the policy's bound, `[..., P]`, differentiable."""
    lowest = floors(policy, parameters)
    return torch.where(parameters < lowest, lowest, parameters)
