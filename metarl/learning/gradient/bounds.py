"""Parameters with a lower bound: the projection on it, and what the projection does to derivatives.

A step that would leave the bound is projected back, so that a parameter never lies where its gradient is zero. See
Bertsekas 1982, "Projected Newton Methods for Optimization Problems with Simple Constraints", section 2.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class LowerBound:
    """A lower bound on some entries of flat parameters `[..., P]`.

    The methods with a trailing underscore change their argument in place and return it.

    Args:
        where: The bounded entries, counted from the first; there may be none.
        value: The bound.
    """

    where: slice
    value: float

    def project_(self, parameters: Tensor) -> Tensor:
        """The nearest parameters that keep the bound, `[..., P]`."""
        parameters[..., self.where].clamp_(min=self.value)
        return parameters

    def broken(self, parameters: Tensor) -> Tensor:
        """Bounded entries below the bound, `[..., n]`: `project_` moves them, so its derivative is 0 there, else 1."""
        return parameters[..., self.where] < self.value

    def held(self, parameters: Tensor, ascent: Tensor) -> Tensor:
        """Bounded entries at the bound that a step along `ascent` would take below it, `[..., n]`: the active set.

        Args:
            parameters: `[..., P]`, within the bound.
            ascent: Gradient of what is maximised, `[..., P]`.
        """
        return (parameters[..., self.where] <= self.value) & (ascent[..., self.where] < 0.0)

    def clear_(self, vector: Tensor, entries: Tensor) -> Tensor:
        """The vector `[..., P]` with zeros at some of the bounded entries, `[..., n]`."""
        vector[..., self.where].masked_fill_(entries, 0.0)
        return vector
