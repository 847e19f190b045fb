"""The differentiable adaptation step, batched over tasks.

One step takes each task's parameters from theta to `project(theta - alpha * grad L(theta))`, where the projection
raises entries below their lower bound to it. Its Jacobian is `D (I - diag(alpha) H)` with `H` the Hessian of `L` and
`D` diagonal: 0 where the projection moved an entry, else 1. The outer loop needs products with the Jacobian of a whole
adaptation: forwards for curvature, transposed for gradients. Both are exact.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from metarl.learning.gradient.bounds import LowerBound


class InnerStep:
    """A gradient step that was taken (Finn et al. 2017, section 2.2), and the products with its Jacobian.

    Args:
        start: Parameters before the step, `[M, P]`.
        gradient: Of each task's loss at `start`, `[M, P]`.
        rate: Step size: a number, or one per parameter, `[P]`.
        bound: Of the parameters.
        hessian_product: `v -> H v`, each task's own, `[M, P]`; None takes `H` to be zero: the first-order
            approximation (section 5.2).

    Attributes:
        end: Parameters after the step, `[M, P]`.
        gradient: As given.
    """

    def __init__(
        self,
        start: Tensor,
        gradient: Tensor,
        rate: float | Tensor,
        bound: LowerBound,
        hessian_product: Callable[[Tensor], Tensor] | None,
    ) -> None:
        self.gradient, self._rate, self._bound, self._hessian_product = gradient, rate, bound, hessian_product
        end = start - rate * gradient
        self._moved = bound.broken(end)  # by the projection, [M, n]
        self.end = bound.project_(end)

    def push(self, v: Tensor, rate: Tensor | None = None) -> Tensor:
        """Jacobian times tangents of the start `[M, P]` and, if given, of the step sizes `[P]`.

        That is `D (v - alpha * (H v) - rate * gradient)`, `[M, P]`.
        """
        v = v.clone() if self._hessian_product is None else v - self._rate * self._hessian_product(v)
        return self._bound.clear_(v if rate is None else v - rate * self.gradient, self._moved)

    def pull(self, w: Tensor) -> Tensor:
        """Transposed Jacobian times a cotangent: `u - H (alpha * u)` with `u = D w`, `[M, P]`."""
        u = self.through_projection(w)
        return u if self._hessian_product is None else u - self._hessian_product(self._rate * u)

    def through_projection(self, w: Tensor) -> Tensor:
        """`D w`: the cotangent of the step before its projection, `[M, P]`."""
        return self._bound.clear_(w.clone(), self._moved)


def push_forward(steps: Sequence[InnerStep], v: Tensor) -> Tensor:
    """The Jacobian of a whole adaptation times a tangent, `[M, P]`."""
    for step in steps:
        v = step.push(v)
    return v


def pull_back(steps: Sequence[InnerStep], w: Tensor) -> Tensor:
    """The transposed Jacobian of a whole adaptation times a cotangent, `[M, P]`: the meta-gradient's chain rule."""
    for step in reversed(steps):
        w = step.pull(w)
    return w
