"""The differentiable adaptation step, batched over tasks.

One step takes each task's parameters from theta to `theta - alpha * grad L(theta)`. Its Jacobian is
`I - diag(alpha) H` with `H` the Hessian of `L`, so what the outer loop needs of a whole adaptation are products
with these Jacobians: forwards for curvature, transposed for gradients. Both are exact.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class InnerStep:
    """A gradient step that was taken (Finn et al. 2017, section 2.2), and the products with its Jacobian.

    Args:
        start: Parameters before the step, `[M, P]`.
        gradient: Of each task's loss at `start`, `[M, P]`.
        hessian_product: `v -> H v`, each task's own, `[M, P]`.
        rate: Step size: a number, or one per parameter, `[P]`.
    """

    start: Tensor
    gradient: Tensor
    hessian_product: Callable[[Tensor], Tensor]
    rate: float | Tensor

    @property
    def end(self) -> Tensor:
        """Parameters after the step, `[M, P]`."""
        return self.start - self.rate * self.gradient

    def push(self, v: Tensor) -> Tensor:
        """Jacobian times tangent: `v - alpha * (H v)`, `[M, P]`."""
        return v - self.rate * self.hessian_product(v)

    def pull(self, w: Tensor) -> Tensor:
        """Transposed Jacobian times cotangent: `w - H (alpha * w)`, `[M, P]`."""
        return w - self.hessian_product(self.rate * w)


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
