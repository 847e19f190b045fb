"""Numbers of any magnitude as inputs of a network (Andrychowicz et al. 2016, arXiv:1606.04474, appendix A)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

RANGE = 10.0
"""`p`: numbers below `e^-p` are read linearly."""


def preprocessed(x: Tensor, dim: int) -> Tensor:
    """Size and sign of each number.

        (log|x| / p, sign x)  if |x| >= e^-p,  else (-1, e^p x)

    Both parts are continuous but for the sign. The derivative of the first is `1 / (p x)`, at most `e^p / p`.

    Args:
        x: Numbers of any shape.
        dim: Place of the new axis, with 2 entries.
    """
    size = x.abs().clamp_min(math.exp(-RANGE)).log() / RANGE
    return torch.stack([size, (x * math.exp(RANGE)).clamp(-1.0, 1.0)], dim=dim)
