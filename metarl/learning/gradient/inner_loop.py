"""The differentiable gradient step of the inner loop, batched over tasks.

A step takes each task's parameters from theta to `project(theta - alpha * grad L(theta))`, where the projection raises
entries to their lower bound. The Jacobian is `D (I - diag(alpha) H)`, with the Hessian `H` of `L` and a diagonal `D`: 0
at the entries that the projection moved, 1 elsewhere. The outer loop needs Jacobian-vector products (for the
curvature) and vector-Jacobian products (for the gradient) of several steps in a row. Both are exact.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from metarl.learning.gradient.bounds import LowerBound


class InnerStep:
    """A gradient step (Finn et al. 2017, section 2.2) with its Jacobian-vector and vector-Jacobian products.

    Args:
        start: Parameters before the step, `[M, P]`.
        gradient: Gradient of each task's loss at `start`, `[M, P]`.
        step_size: A number, or one per parameter, `[P]`.
        bound: Lower bound of the parameters.
        hessian_product: `v -> H v` for each task, `[M, P]`. None for `H = 0`, the first-order approximation (section
            5.2).

    Attributes:
        end: Parameters after the step, `[M, P]`.
        gradient: Gradient of each task's loss at `start`, `[M, P]`.
    """

    def __init__(
        self,
        start: Tensor,
        gradient: Tensor,
        step_size: float | Tensor,
        bound: LowerBound,
        hessian_product: Callable[[Tensor], Tensor] | None,
    ) -> None:
        self.gradient, self._step_size = gradient, step_size
        self._bound, self._hessian_product = bound, hessian_product
        end = start - step_size * gradient
        self._moved = bound.broken(end)  # by the projection, [M, n]
        self.end = bound.project_(end)

    def jvp(self, v: Tensor, step_size: Tensor | None = None) -> Tensor:
        """Jacobian-vector product `D (v - alpha * (H v) - step_size * gradient)`, `[M, P]`.

        Args:
            v: Tangents of the start, `[M, P]`.
            step_size: Tangent of the step sizes, `[P]`; zero by default.
        """
        v = v.clone() if self._hessian_product is None else v - self._step_size * self._hessian_product(v)
        return self._bound.clear_(v if step_size is None else v - step_size * self.gradient, self._moved)

    def vjp(self, w: Tensor) -> Tensor:
        """Vector-Jacobian product `u - H (alpha * u)` with `u = D w`, `[M, P]`."""
        u = self.through_projection(w)
        return u if self._hessian_product is None else u - self._hessian_product(self._step_size * u)

    def through_projection(self, w: Tensor) -> Tensor:
        """`D w`, `[M, P]`: the cotangent of the parameters before the projection."""
        return self._bound.clear_(w.clone(), self._moved)


def chained_jvp(steps: Sequence[InnerStep], v: Tensor) -> Tensor:
    """Jacobian-vector product of all steps in a row, `[M, P]`."""
    for step in steps:
        v = step.jvp(v)
    return v


def chained_vjp(steps: Sequence[InnerStep], w: Tensor) -> Tensor:
    """Vector-Jacobian product of all steps in a row, `[M, P]`: the chain rule of the meta-gradient."""
    for step in reversed(steps):
        w = step.vjp(w)
    return w
