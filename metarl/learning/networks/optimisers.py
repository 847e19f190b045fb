"""Adam, with a state that is saved and restored bit for bit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor
from torch.optim.adam import adam


class Adam:
    """Adam (Kingma and Ba 2015, arXiv:1412.6980), as PyTorch computes it.

    `torch.optim.Adam` is the same function with the same bits. But the first one made imports PyTorch's compiler,
    which takes a second or more of every command that builds an agent.

    Args:
        parameters: Leaves; a step changes them in place.
        learning_rate: Step size.
        eps: Added to the root of the second moment.
        fused: Everything in one kernel, which pays where parameters are few and steps are many.

    Attributes:
        learning_rate: Of the next step.
    """

    def __init__(
        self, parameters: Iterable[Tensor], learning_rate: float, *, eps: float = 1e-8, fused: bool = False
    ) -> None:
        self.learning_rate, self._eps, self._fused = learning_rate, eps, fused
        self._parameters = list(parameters)
        self._state = [
            {
                # PyTorch wants the count of steps on the CPU, unless one kernel does it all.
                "step": torch.zeros((), dtype=torch.float32, device=p.device if fused else "cpu"),
                "exp_avg": torch.zeros_like(p, requires_grad=False),
                "exp_avg_sq": torch.zeros_like(p, requires_grad=False),
            }
            for p in self._parameters
        ]

    def zero_grad(self) -> None:
        """Forgets the gradients."""
        for parameter in self._parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """One step along the gradients; a parameter that has none stays as it is."""
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
            lr=self.learning_rate,
            weight_decay=0.0,
            eps=self._eps,
            maximize=False,
        )

    def tensors(self, prefix: str) -> dict[str, Tensor]:
        """Count of steps and both moments of each parameter, for a checkpoint; zeros before the first step.

        Args:
            prefix: Start of the names: `<prefix>.<number of the parameter>.<field>`.
        """
        return {
            f"{prefix}.{i}.{field}": tensor.cpu().clone()
            for i, state in enumerate(self._state)
            for field, tensor in state.items()
        }

    def restore(self, prefix: str, tensors: Mapping[str, Tensor]) -> None:
        """Takes back what `tensors` gave; the shapes are the caller's to check."""
        for i, state in enumerate(self._state):
            for field, tensor in state.items():
                tensor.copy_(tensors[f"{prefix}.{i}.{field}"])
