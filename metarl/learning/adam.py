"""Adam on one flat parameter vector, whose whole state goes into a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


class Adam:
    """Adam (Kingma and Ba 2015, arXiv:1412.6980, algorithm 1), as a minimiser.

    Args:
        like: Parameters of the shape, type and device to work on.
        lr: Step size.
        decay: Decay rates of the two moments (beta_1, beta_2).
        epsilon: Added to the root of the second moment.
    """

    def __init__(
        self, like: Tensor, lr: float, decay: tuple[float, float] = (0.9, 0.999), epsilon: float = 1e-8
    ) -> None:
        self._lr, self._decay, self._epsilon = lr, decay, epsilon
        self._steps = 0
        self._first, self._second = torch.zeros_like(like), torch.zeros_like(like)

    def step(self, parameters: Tensor, gradient: Tensor) -> Tensor:
        """The parameters after one step against the gradient."""
        self._steps += 1
        (fast, slow), t = self._decay, self._steps
        self._first = fast * self._first + (1 - fast) * gradient
        self._second = slow * self._second + (1 - slow) * gradient.square()
        mean, square = self._first / (1 - fast**t), self._second / (1 - slow**t)
        return parameters - self._lr * mean / (square.sqrt() + self._epsilon)

    def tensors(self, prefix: str) -> dict[str, Tensor]:
        """Steps made and both moments, for a checkpoint."""
        return {
            f"{prefix}.steps": torch.tensor([self._steps]),
            f"{prefix}.first": self._first.cpu(),
            f"{prefix}.second": self._second.cpu(),
        }

    def restore(self, prefix: str, tensors: Mapping[str, Tensor]) -> None:
        """Takes back what `tensors` gave."""
        self._steps = int(tensors[f"{prefix}.steps"])
        self._first = tensors[f"{prefix}.first"].to(self._first)
        self._second = tensors[f"{prefix}.second"].to(self._second)
