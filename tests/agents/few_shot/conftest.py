"""Gradient check and examples that the tests of several few-shot learners share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from metarl.learning.few_shot.base import Examples

Loss = Callable[[Tensor], Tensor]
STEP = 1e-6


def agrees_with_finite_differences(loss: Loss, parameters: Tensor, rel: float = 1e-6) -> None:
    """Asserts that slopes of the loss along random directions equal central differences, in float64."""
    at = parameters.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(at), at)
    for seed in range(3):
        direction = torch.tensor(np.random.default_rng(seed).standard_normal(len(at)))
        with torch.no_grad():
            slope = float(loss(at + STEP * direction) - loss(at - STEP * direction)) / (2 * STEP)
        assert float(gradient @ direction) == pytest.approx(slope, rel=rel, abs=1e-8)


@pytest.fixture
def check_gradient() -> Callable[..., None]:
    """See `agrees_with_finite_differences`."""
    return agrees_with_finite_differences


def classes_in_turn(rng: np.random.Generator, per_class: int) -> Examples:
    """Random inputs `[2, per_class * 3, 6]` of two tasks, one of each of three classes after another."""
    x = torch.tensor(rng.standard_normal((2, per_class * 3, 6)))
    return Examples(x, torch.eye(3, dtype=torch.float64).repeat(per_class, 1).expand(2, -1, -1))


@pytest.fixture
def examples() -> Callable[[np.random.Generator, int], Examples]:
    """See `classes_in_turn`."""
    return classes_in_turn
