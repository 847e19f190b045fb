"""The policy of the gradient-based references: one linear layer after another, in plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import linear

from metarl.learning.gradient.policy import StackedPolicy
from metarl.learning.networks.distributions import Categorical, Distribution, Gaussian
from metarl.learning.networks.flat import mlp_layers


class PlainPolicy:
    """The distributions of a `StackedPolicy`, computed task after task and differentiated by autograd alone.

    Args:
        policy: The policy.
    """

    def __init__(self, policy: StackedPolicy) -> None:
        self.layout, self.bound = policy.layout, policy.bound
        self._activation = getattr(torch, policy.activation)

    def __call__(self, parameters: Tensor, observations: Tensor) -> Distribution:
        """Distributions for parameters `[M, P]` and observations `[M, B, O]`."""
        arrays = self.layout.split(parameters)
        layers = mlp_layers(arrays)
        outputs, last = [], len(layers.weights) - 1
        for task, x in enumerate(observations.unbind()):
            for i, (weights, biases) in enumerate(zip(*layers, strict=True)):
                x = linear(x, weights[task].T.contiguous(), biases[task])  # [out, in], as in torch.nn.Linear
                if i < last:
                    x = self._activation(x)
            outputs.append(x)
        output = torch.stack(outputs)
        return Gaussian(output, arrays["log_std"].unsqueeze(1)) if "log_std" in arrays else Categorical(output)

    def floors(self, like: Tensor) -> Tensor:
        """Lower bound of each parameter, `[P]`; minus infinity for none. `like` gives dtype and device."""
        lowest = torch.full((self.layout.size,), -torch.inf, dtype=like.dtype, device=like.device)
        lowest[self.bound.where] = self.bound.value
        return lowest

    def projected(self, parameters: Tensor) -> Tensor:
        """The nearest feasible parameters, `[..., P]`, differentiable."""
        lowest = self.floors(parameters)
        return torch.where(parameters < lowest, lowest, parameters)
