"""Losses of examples."""

from __future__ import annotations

import torch
from torch import Tensor

from metarl.few_shot.shots import ShotSpaces


def losses(spaces: ShotSpaces, outputs: Tensor, y: Tensor) -> Tensor:
    """Loss of each task, `[M]`: mean squared error over examples and components, or mean cross-entropy in nats.

    Args:
        spaces: Sizes of the examples.
        outputs: Means, or logits of the classes, `[M, B, O]`.
        y: `[M, B, O]`.
    """
    if spaces.classification:
        return -(torch.log_softmax(outputs, dim=-1) * y).sum(dim=-1).mean(dim=-1)
    return (outputs - y).square().mean(dim=(-2, -1))


def predictions(spaces: ShotSpaces, outputs: Tensor) -> Tensor:
    """Means, or probabilities of the classes, `[..., O]`, from outputs of a network `[..., O]`."""
    return torch.softmax(outputs, dim=-1) if spaces.classification else outputs
