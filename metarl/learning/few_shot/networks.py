"""Networks of few-shot learners: functions of flat parameters, one network per row, any number of times differentiable.

An MLP for inputs that are vectors. For images, four convolutional blocks (Vinyals et al. 2016, arXiv:1606.04080) and a
linear layer. Deviation: a block normalises each image over channels and pixels (layer normalisation, Ba et al. 2016,
arXiv:1607.06450) instead of the batch, so that a prediction does not depend on the other queries.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from metarl.learning.networks.flat import Layout, mlp_init, mlp_layout

BLOCKS = 4
"""Convolutional blocks; each halves the image, rounded down, as long as a side has two pixels."""
KERNEL = 3
FLOOR = 1e-5
"""Added to the variance of an image before the root."""


@dataclass(frozen=True)
class Network:
    """Networks of the same shape.

    Args:
        x_shape: Shape of an input: `(I,)`, or `(channels, height, width)`.
        hidden: Units of each hidden layer, for vectors.
        outputs: `O`.
        channels: Channels of each convolutional block, for images.
    """

    x_shape: tuple[int, ...]
    hidden: tuple[int, ...]
    outputs: int
    channels: int = 32

    @property
    def _image(self) -> bool:
        return len(self.x_shape) == 3

    @cached_property
    def features(self) -> int:
        """Inputs of the last layer."""
        if not self._image:
            return (*self.x_shape, *self.hidden)[-1]
        _, height, width = self.x_shape
        for _ in range(BLOCKS):
            if min(height, width) > 1:
                height, width = height // 2, width // 2
        return self.channels * height * width

    @cached_property
    def _sizes(self) -> tuple[int, ...]:
        """Sizes of the fully connected layers."""
        return (self.features, self.outputs) if self._image else (*self.x_shape, *self.hidden, self.outputs)

    @cached_property
    def layout(self) -> Layout:
        """Layout of the parameters of one network; the last two arrays are weight and bias of the last layer."""
        arrays: list[tuple[str, tuple[int, ...]]] = []
        for i in range(BLOCKS if self._image else 0):
            before = self.x_shape[0] if i == 0 else self.channels
            arrays += [(f"kernel_{i}", (self.channels, before, KERNEL, KERNEL))]
            arrays += [(f"scale_{i}", (self.channels,)), (f"shift_{i}", (self.channels,))]
        return Layout((*arrays, *mlp_layout(self._sizes)))

    @property
    def size(self) -> int:
        """`P`, parameters of one network."""
        return self.layout.size

    def initial(self, rng: np.random.Generator) -> Tensor:
        """Initial parameters, `[P]`: Xavier-uniform weights (Glorot and Bengio 2010), no biases, scales of 1."""
        parts = []
        for name, shape in self.layout.shapes:
            if name.startswith("kernel"):
                bound = math.sqrt(6.0 / (KERNEL**2 * (shape[0] + shape[1])))
                parts.append(torch.tensor(rng.uniform(-bound, bound, math.prod(shape)), dtype=torch.float32))
            elif name.startswith(("scale", "shift")):
                parts.append(torch.full(shape, 1.0 if name.startswith("scale") else 0.0, dtype=torch.float32))
        return torch.cat([*parts, mlp_init(self._sizes, rng)])

    def __call__(self, parameters: Tensor, x: Tensor) -> Tensor:
        """Outputs of the networks.

        Args:
            parameters: `[n, P]`.
            x: Inputs of each network, `[n, B, *x_shape]`.

        Returns:
            `[n, B, O]`.
        """
        arrays = self.layout.split(parameters)
        x = self._convolved(arrays, x) if self._image else x
        layers = len(self._sizes) - 1
        for i in range(layers):
            x = torch.baddbmm(arrays[f"bias_{i}"].unsqueeze(1), x, arrays[f"weight_{i}"])
            x = torch.relu(x) if i + 1 < layers else x
        return x

    def embedded(self, parameters: Tensor, x: Tensor) -> Tensor:
        """Inputs of the last layer, `[n, B, features]`: of a vector those after the last hidden layer.

        Args:
            parameters: `[n, P]`.
            x: As for a call.
        """
        arrays = self.layout.split(parameters)
        x = self._convolved(arrays, x) if self._image else x
        for i in range(len(self._sizes) - 2):
            x = torch.relu(torch.baddbmm(arrays[f"bias_{i}"].unsqueeze(1), x, arrays[f"weight_{i}"]))
        return x

    def shared(self, parameters: Tensor, x: Tensor) -> Tensor:
        """Outputs of one network for all tasks, `[M, B, O]`.

        Args:
            parameters: `[P]`.
            x: `[M, B, *x_shape]`.
        """
        return self(parameters.unsqueeze(0), x.flatten(0, 1).unsqueeze(0)).view(*x.shape[:2], self.outputs)

    def _convolved(self, arrays: Mapping[str, Tensor], x: Tensor) -> Tensor:
        """The convolutional blocks: images `[n, B, C, height, width]` to features `[n, B, F]`.

        The networks are the groups of one convolution.
        """
        n, batch = x.shape[:2]
        x = x.transpose(0, 1)  # [B, n, C, height, width]
        for i in range(BLOCKS):
            kernels = arrays[f"kernel_{i}"].flatten(0, 1)  # [n * channels, C, 3, 3]
            x = functional.conv2d(x.flatten(1, 2), kernels, padding=KERNEL // 2, groups=n)
            x = x.view(batch, n, self.channels, *x.shape[2:])
            mean = x.mean(dim=(2, 3, 4), keepdim=True)
            x = (x - mean) / (x.var(dim=(2, 3, 4), correction=0, keepdim=True) + FLOOR).sqrt()
            scale, shift = (arrays[f"{name}_{i}"][None, :, :, None, None] for name in ("scale", "shift"))
            x = torch.relu(x * scale + shift)
            if min(x.shape[3:]) > 1:
                x = functional.max_pool2d(x.flatten(0, 1), 2).view(batch, n, self.channels, *_halved(x.shape[3:]))
        return x.transpose(0, 1).flatten(2)


def _halved(sides: torch.Size) -> tuple[int, ...]:
    return tuple(side // 2 for side in sides)
