"""A small network that maps each coordinate of a gradient to a fast weight (Munkhdalai and Yu 2017, arXiv:1703.00837).

The network is the same for all coordinates. It reads the gradient in the preprocessed form of Andrychowicz et al. 2016,
"Learning to learn by gradient descent by gradient descent" (arXiv:1606.04474), appendix A: a number for its magnitude
and one for its sign, since gradients span many orders of magnitude.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from metarl.learning.networks.flat import Perceptrons, mlp_init
from metarl.learning.networks.preprocessing import preprocessed


@dataclass(frozen=True)
class GradientWriter:
    """The network `m(g) = s (v . (g, z) + MLP(z))` of a gradient `g` and its preprocessed form `z`, per coordinate.

    At the start `v = (-1, 0, 0)`, and the MLP's last layer is zero: the fast weight is a gradient step of size s.

    Args:
        hidden: Units of each hidden layer, with a hyperbolic tangent.
        scale: `s`, the step size at the start.
    """

    hidden: tuple[int, ...]
    scale: float

    @property
    def _network(self) -> Perceptrons:
        return Perceptrons((2, *self.hidden, 1), "tanh")

    @property
    def size(self) -> int:
        """`W`, the number of parameters."""
        return 3 + self._network.layout.size

    def initial(self, rng: np.random.Generator) -> Tensor:
        """The parameters at the start, `[W]`."""
        network = mlp_init(self._network.sizes, rng)
        network[-(self.hidden[-1] if self.hidden else 2) - 1 :] = 0.0
        return torch.cat([torch.tensor([-1.0, 0.0, 0.0], dtype=torch.float32), network])

    def __call__(self, parameters: Tensor, gradient: Tensor) -> Tensor:
        """Fast weights `[...]` for gradients `[...]`, differentiable any number of times; `parameters` is `[W]`."""
        z = preprocessed(gradient, dim=-1)
        layers = self._network.layers(parameters[None, 3:])
        h = z
        for weight, bias in zip(layers.weights[:-1], layers.biases[:-1], strict=True):
            h = torch.tanh(h @ weight[0] + bias[0])
        output = h @ layers.weights[-1][0, :, 0] + layers.biases[-1][0]
        return self.scale * (gradient * parameters[0] + z @ parameters[1:3] + output)
