"""The differentiable adaptation step, batched over tasks.

One step takes each task's parameters from theta to `theta - alpha * grad L(theta)`. Its Jacobian is
`I - diag(alpha) H` with `H` the Hessian of `L`, so what the outer loop needs of a whole adaptation are products
with these Jacobians: forwards for curvature, transposed for gradients. Both are exact; the graph behind `H v` is
built once and reused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Loss = Callable[[Tensor], Tensor]
"""Maps parameters `[M, P]` to one loss per task, `[M]`."""


@dataclass(frozen=True)
class InnerStep:
    """A gradient step that was taken, and the products with its Jacobian.

    Args:
        start: Parameters before the step, `[M, P]`, a leaf of the graph of `gradient`.
        gradient: Of each task's loss at `start`, `[M, P]`, with its history.
        rate: Step size: a number, or one per parameter, `[P]`.
    """

    start: Tensor
    gradient: Tensor
    rate: float | Tensor

    @property
    def end(self) -> Tensor:
        """Parameters after the step, `[M, P]`, without history."""
        return (self.start - self.rate * self.gradient).detach()

    def _hessian_product(self, v: Tensor) -> Tensor:
        if not self.gradient.requires_grad:  # the loss is linear in the parameters
            return torch.zeros_like(v)
        (product,) = torch.autograd.grad(
            self.gradient, self.start, v, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        return product

    def push(self, v: Tensor) -> Tensor:
        """Jacobian times tangent: `v - alpha * (H v)`, `[M, P]`."""
        return v - self.rate * self._hessian_product(v)

    def pull(self, w: Tensor) -> Tensor:
        """Transposed Jacobian times cotangent: `w - H (alpha * w)`, `[M, P]`."""
        return w - self._hessian_product(self.rate * w)


def inner_step(loss: Loss, start: Tensor, rate: float | Tensor, *, differentiable: bool) -> InnerStep:
    """Takes one gradient step on each task's loss (Finn et al. 2017, arXiv:1703.03400, section 2.2).

    Args:
        loss: One loss per task.
        start: Parameters, `[M, P]`.
        rate: Step size: a number, or one per parameter, `[P]`.
        differentiable: Keep the graph that `push` and `pull` need.
    """
    leaf = start.detach().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(loss(leaf).sum(), leaf, create_graph=differentiable)
    return InnerStep(leaf, gradient, rate)


def inner_loop(losses: Sequence[Loss], start: Tensor, rate: float | Tensor, *, differentiable: bool) -> list[InnerStep]:
    """Takes one step per loss, each from where the last one ended."""
    steps: list[InnerStep] = []
    for loss in losses:
        steps.append(inner_step(loss, steps[-1].end if steps else start, rate, differentiable=differentiable))
    return steps


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
