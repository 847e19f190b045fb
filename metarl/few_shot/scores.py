"""Scores of predictions."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from metarl.few_shot.shots import ShotSpaces
from metarl.types import Floats


def scores(spaces: ShotSpaces, predicted: Tensor, y: Floats) -> Floats:
    """Score of each task, `[M]` float64: mean squared error over examples and components, or accuracy.

    Args:
        spaces: Sizes of the examples.
        predicted: Means, or probabilities of the classes, `[M, E, T, O]`.
        y: Outputs, `[M, E, T, O]`.
    """
    values = predicted.detach().cpu().numpy().astype(np.float64)
    if spaces.classification:
        right = values.argmax(axis=-1) == y.argmax(axis=-1)
        return np.asarray(right.mean(axis=(1, 2), dtype=np.float64))
    return np.asarray(np.square(values - y).mean(axis=(1, 2, 3)))
