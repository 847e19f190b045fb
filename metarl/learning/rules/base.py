"""The interface of update rules, and the gradient steps of MAML and Meta-SGD.

A rule maps the parameters of each task and what the task has shown to new parameters. It may have parameters of its
own, which are learned in the outer loop, and a memory of the steps so far. Every rule is differentiable in its inputs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor


class Evidence(NamedTuple):
    """The evidence of a step of adaptation.

    Attributes:
        loss: Loss of each task at its parameters, `[M]`.
        gradient: Gradient of each task's loss, `[M, P]`.
        statistics: Numbers that describe the data of each task, `[M, S]`; S may be 0.
    """

    loss: Tensor
    gradient: Tensor
    statistics: Tensor


class RuleSize(NamedTuple):
    """Sizes of a rule, in numbers.

    Attributes:
        own: `R`, the rule's own parameters.
        memory: Memory between steps, per parameter and task.
        graph: Needs of the derivative of a step, per parameter and task, roughly.
    """

    own: int = 0
    memory: int = 0
    graph: int = 0


class UpdateRule(Protocol):
    """A rule that is the same for all tasks. A memory is a tensor, or a tuple of memories; its first axis is M."""

    def initial(self, parameters: Tensor, rng: np.random.Generator) -> Tensor:
        """The rule's own parameters at the start of the training, `[R]`; R may be 0.

        Args:
            parameters: The initial parameters that it updates, `[P]`.
            rng: Source of random numbers.
        """
        ...

    def fresh_memory(self, own: Tensor, parameters: Tensor) -> Any:
        """The memory before the first step.

        Args:
            own: The rule's own parameters, `[R]`.
            parameters: Parameters of each task, `[M, P]`.
        """
        ...

    def step(self, own: Tensor, parameters: Tensor, evidence: Evidence, memory: Any) -> tuple[Tensor, Any]:
        """One step of adaptation.

        Args:
            own: The rule's own parameters, `[R]`.
            parameters: Parameters of each task, `[M, P]`.
            evidence: Loss, gradient and statistics. A first-order method passes it without a graph.
            memory: The memory before the step.

        Returns:
            The new parameters `[M, P]`, and the memory after the step.
        """
        ...


class GradientStep:
    """The gradient step of MAML (Finn et al. 2017, equation 1): `theta' = theta - alpha grad L(theta)`.

    Args:
        step_size: `alpha`.
    """

    def __init__(self, step_size: float) -> None:
        self.step_size = step_size

    def initial(self, parameters: Tensor, rng: np.random.Generator) -> Tensor:
        """No parameters, `[0]`."""
        return parameters.new_zeros(0)

    def fresh_memory(self, own: Tensor, parameters: Tensor) -> tuple[()]:
        """No memory."""
        return ()

    def step(self, own: Tensor, parameters: Tensor, evidence: Evidence, memory: tuple[()]) -> tuple[Tensor, tuple[()]]:
        """See `UpdateRule.step`."""
        return parameters - self.step_size * evidence.gradient, memory


class LearnedStepSizes:
    """The step of Meta-SGD (Li et al. 2017, equation 2): `theta' = theta - a * grad L(theta)`, with `a` learned.

    Args:
        step_size: Initial value of each entry of `a`.
    """

    def __init__(self, step_size: float) -> None:
        self.step_size = step_size

    def initial(self, parameters: Tensor, rng: np.random.Generator) -> Tensor:
        """The step sizes, `[P]`."""
        return torch.full_like(parameters, self.step_size)

    def fresh_memory(self, own: Tensor, parameters: Tensor) -> tuple[()]:
        """No memory."""
        return ()

    def step(self, own: Tensor, parameters: Tensor, evidence: Evidence, memory: tuple[()]) -> tuple[Tensor, tuple[()]]:
        """See `UpdateRule.step`."""
        return parameters - own * evidence.gradient, memory


def evidence_of(
    loss: Callable[[Tensor], Tensor], parameters: Tensor, statistics: Tensor | None = None, *, first_order: bool = False
) -> Evidence:
    """Loss and gradient of each task, differentiable unless the method is of first order.

    Args:
        loss: Maps parameters `[M, P]` to one loss per task, `[M]`; tasks are independent of each other.
        parameters: `[M, P]`.
        statistics: Numbers about the data, `[M, S]`; none by default.
        first_order: Return the evidence without a graph.
    """
    with torch.enable_grad():
        at = parameters if parameters.requires_grad else parameters.detach().requires_grad_()
        losses = loss(at)
        (gradient,) = torch.autograd.grad(losses.sum(), at, create_graph=not first_order)
    if statistics is None:
        statistics = losses.new_zeros(len(losses), 0)
    if first_order:
        return Evidence(losses.detach(), gradient, statistics.detach())
    return Evidence(losses, gradient, statistics)
