"""Lower bounds on parameters: the projection onto the feasible set, and its derivative.

A step that violates a bound is projected back onto it, so that no parameter ends where its gradient is zero; see
Bertsekas 1982, "Projected Newton Methods for Optimization Problems with Simple Constraints", section 2.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class LowerBound:
    """A lower bound on some entries of flat parameters `[..., P]`.

    Methods with a trailing underscore change their argument in place and return it.

    Args:
        where: Bounded entries, counted from the first; may be empty.
        value: The bound.
    """

    where: slice
    value: float

    def project_(self, parameters: Tensor) -> Tensor:
        """The nearest feasible parameters, `[..., P]`."""
        parameters[..., self.where].clamp_(min=self.value)
        return parameters

    def projected(self, parameters: Tensor) -> Tensor:
        """`project_` of a copy, differentiable."""
        held = torch.zeros_like(parameters, dtype=torch.bool)
        held[..., self.where] = self.broken(parameters)
        return torch.where(held, self.value, parameters)

    def broken(self, parameters: Tensor) -> Tensor:
        """Mask of the bounded entries below the bound, `[..., n]`.

        `project_` moves these entries, so its derivative is 0 there and 1 elsewhere.
        """
        return parameters[..., self.where] < self.value

    def held(self, parameters: Tensor, ascent: Tensor) -> Tensor:
        """Mask of the active set, `[..., n]`: entries at the bound that a step along `ascent` would take below it.

        Args:
            parameters: Feasible parameters, `[..., P]`.
            ascent: Gradient of the objective that is maximised, `[..., P]`.
        """
        return (parameters[..., self.where] <= self.value) & (ascent[..., self.where] < 0.0)

    def clear_(self, vector: Tensor, entries: Tensor) -> Tensor:
        """The vector `[..., P]` with zeros at the bounded entries that the mask `[..., n]` selects."""
        vector[..., self.where].masked_fill_(entries, 0.0)
        return vector
