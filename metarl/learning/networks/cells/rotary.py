"""Rotary position embedding (Su et al. 2021, arXiv:2104.09864).

Pair i of a query or key of d components, its components i and d / 2 + i, is rotated by the angle `t 10000^(-2i/d)` at
step t. The product of a query and a key then depends on the distance of their steps alone. (The paper pairs
neighbouring components, which is the same up to their order.)
"""

from __future__ import annotations

import torch
from torch import Tensor

BASE = 10000.0


def rotations(position: Tensor, size: int, dtype: torch.dtype) -> Tensor:
    """Cosines and sines of the angles at steps `[...]`, `[..., 1, size / 2]` each, one after the other: `[2, ...]`.

    The angles are float64: in float32 those of late steps would be inexact.
    """
    exponent = torch.arange(size // 2, dtype=torch.float64, device=position.device) * (-2.0 / size)
    angle = (position.unsqueeze(-1) * BASE**exponent).unsqueeze(-2)
    return torch.stack([angle.cos(), angle.sin()]).to(dtype)


def rotated(x: Tensor, rotation: Tensor) -> Tensor:
    """Queries or keys `[..., heads * d]`, each head rotated; `rotation` is that of `rotations` for `[...]` and d."""
    cos, sin = rotation
    one, other = x.view(*x.shape[:-1], -1, 2, cos.shape[-1]).unbind(-2)
    return torch.stack([one * cos - other * sin, other * cos + one * sin], dim=-2).flatten(-3)
