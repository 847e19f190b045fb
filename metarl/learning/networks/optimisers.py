"""Adam with a state that is saved and restored bit for bit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor
from torch.optim.adam import adam


def flat_gradient(loss: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    """The gradient of a loss in all parameters, in order, `[P]`; zero in those that it does not depend on."""
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters, materialize_grads=True)])


def step_size(learning_rate: float, anneal: bool, progress: float) -> float:
    """The step size of a meta-update: `learning_rate`, or `learning_rate * (1 - progress)` if it is annealed.

    Args:
        learning_rate: Step size at the start of the run.
        anneal: Whether it decreases linearly to zero over the run.
        progress: Fraction of the run's meta-updates that are done, in [0, 1), as in `MetaBatch`.

    Raises:
        ValueError: The share is outside its range.
    """
    if not 0.0 <= progress < 1.0:
        raise ValueError(
            f"MetaBatch.progress: got {progress!r}, expected the share of meta-updates already made, >= 0 and < 1"
        )
    return learning_rate * (1.0 - progress) if anneal else learning_rate


class Adam:
    """Adam (Kingma and Ba 2015, arXiv:1412.6980), as PyTorch computes it.

    The numbers are those of `torch.optim.Adam`, bit for bit. That class is not used because its first instance imports
    PyTorch's compiler, which takes a second or more.

    Args:
        parameters: Leaves; a step changes them in place.
        step_size: Step size.
        eps: Number added to the root of the second moment.
        fused: Compute a step in one kernel, which is faster for few parameters.

    Attributes:
        step_size: Step size of the next step.
    """

    __slots__ = ("_eps", "_fused", "_parameters", "_state", "step_size")  # a misspelt attribute is an error

    def __init__(
        self, parameters: Iterable[Tensor], step_size: float, *, eps: float = 1e-8, fused: bool = False
    ) -> None:
        self.step_size, self._eps, self._fused = step_size, eps, fused
        self._parameters = list(parameters)
        self._state = [
            {
                # PyTorch expects the number of steps on the CPU, unless the kernel is fused.
                "step": torch.zeros((), dtype=torch.float32, device=p.device if fused else "cpu"),
                "exp_avg": torch.zeros_like(p, requires_grad=False),
                "exp_avg_sq": torch.zeros_like(p, requires_grad=False),
            }
            for p in self._parameters
        ]

    def zero_grad(self) -> None:
        """Clears the gradients."""
        for parameter in self._parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self, *, clear: bool = False) -> None:
        """One step; parameters without a gradient stay the same.

        Args:
            clear: Remove the gradients afterwards.
        """
        moved = [(p, s) for p, s in zip(self._parameters, self._state, strict=True) if p.grad is not None]
        adam(
            [p for p, _ in moved],
            [p.grad for p, _ in moved if p.grad is not None],
            [s["exp_avg"] for _, s in moved],
            [s["exp_avg_sq"] for _, s in moved],
            [],
            [s["step"] for _, s in moved],
            fused=self._fused or None,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=self.step_size,
            weight_decay=0.0,
            eps=self._eps,
            maximize=False,
        )
        if clear:
            self.zero_grad()

    def step_along(self, gradient: Tensor) -> None:
        """One step along a `flat_gradient` of all parameters."""
        parts = torch.split(gradient, [p.numel() for p in self._parameters])
        for parameter, part in zip(self._parameters, parts, strict=True):
            parameter.grad = part.view_as(parameter)
        self.step(clear=True)

    def tensors(self, prefix: str) -> dict[str, Tensor]:
        """Number of steps and both moments of each parameter, for a checkpoint; zeros before the first step.

        Args:
            prefix: Prefix of the names: `<prefix>.<number of the parameter>.<field>`.
        """
        return {
            f"{prefix}.{i}.{field}": tensor.cpu().clone()
            for i, state in enumerate(self._state)
            for field, tensor in state.items()
        }

    def restore(self, prefix: str, tensors: Mapping[str, Tensor]) -> None:
        """Restores the state that `tensors` returned; the caller checks names and shapes."""
        for i, state in enumerate(self._state):
            for field, tensor in state.items():
                tensor.copy_(tensors[f"{prefix}.{i}.{field}"])
