"""MAML, first-order MAML and Meta-SGD for few-shot regression, as `torch.func` writes them.

The same updates as `metarl.agents.few_shot`, from nothing but functions of a list of weights: `torch.func.grad` for the
gradients, `torch.func.vmap` over the tasks, and Adam written out. Shares no code with the learners.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torch.func import grad, vmap
from torch.nn.functional import mse_loss

Weights = list[Tensor]
"""Matrix `[in, out]` and bias `[out]` of each layer in turn."""
Data = tuple[Tensor, Tensor]
"""Inputs `[B, I]` and outputs `[B, O]` of a task."""


def unflattened(flat: Tensor, sizes: Sequence[int]) -> Weights:
    """Weights of an MLP from a vector `[P]`: layer after layer, matrix before bias.

    Args:
        flat: `[P]`.
        sizes: Units of the layers, input first.
    """
    weights, at = Weights(), 0
    for fan_in, fan_out in pairwise(sizes):
        for shape in ((fan_in, fan_out), (fan_out,)):
            count = fan_in * fan_out if len(shape) == 2 else fan_out
            weights.append(flat[at : at + count].reshape(shape))
            at += count
    return weights


def loss(weights: Weights, data: Data) -> Tensor:
    """Mean squared error of an MLP with ReLU units, a scalar."""
    x, y = data
    for i in range(0, len(weights), 2):
        x = x @ weights[i] + weights[i + 1]
        x = x.relu() if i + 2 < len(weights) else x
    return mse_loss(x, y)


def adapted(weights: Weights, rates: Weights, support: Data, steps: int, first_order: bool) -> Weights:
    """Weights of one task after gradient steps.

    Args:
        weights: Initial weights.
        rates: Step size of each weight.
        support: Examples of the task.
        steps: Number of steps.
        first_order: Take each gradient as a constant.
    """
    for _ in range(steps):
        gradient = grad(loss)(weights, support)
        if first_order:
            gradient = [g.detach() for g in gradient]
        weights = [w - r * g for w, r, g in zip(weights, rates, gradient, strict=True)]
    return weights


def meta_gradient(
    weights: Weights, rates: Weights, support: Data, queries: Data, *, steps: int, first_order: bool = False
) -> tuple[Weights, Weights]:
    """Gradient of the mean loss of the queries after adaptation, in the initial weights and in the step sizes.

    Args:
        weights: Initial weights.
        rates: Step size of each weight.
        support: Examples to adapt to, with an axis of the tasks in front.
        queries: Examples to predict, likewise.
        steps: Number of gradient steps.
        first_order: Take the gradients of the adaptation as constants.
    """

    def objective(both: tuple[Weights, Weights]) -> Tensor:
        def of_task(support: Data, queries: Data) -> Tensor:
            return loss(adapted(*both, support, steps, first_order), queries)

        return vmap(of_task)(support, queries).mean()

    found: tuple[Weights, Weights] = grad(objective)((weights, rates))
    return found


def first_adam_step(parameters: Tensor, gradient: Tensor, step_size: float, eps: float = 1e-8) -> Tensor:
    """Parameters after Adam's first step (Kingma and Ba 2015, algorithm 1), with its default decay rates."""
    first, second = 0.1 * gradient, 0.001 * gradient.square()
    return parameters - step_size * (first / (1 - 0.9)) / ((second / (1 - 0.999)).sqrt() + eps)


def flattened(weights: Weights) -> Tensor:
    """The inverse of `unflattened`."""
    return torch.cat([w.flatten() for w in weights])
