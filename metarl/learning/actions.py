"""Between what a policy puts out and what an environment receives."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from metarl.types import Floats, Spaces


class ActionMap:
    """Maps policy outputs to the environment's actions, and those back to inputs of a network.

    Args:
        spaces: Action bounds, or the number of choices.
        scale: Policy output that stands for the largest action; see `to_environment`.
    """

    def __init__(self, spaces: Spaces, scale: float) -> None:
        self.choices, self.scale = spaces.choices, scale
        self.low = np.asarray(spaces.action_low, dtype=np.float32)
        self.high = np.asarray(spaces.action_high, dtype=np.float32)
        self.bounded = bool(np.isfinite(self.low).all() and np.isfinite(self.high).all())

    @property
    def features(self) -> int:
        """Numbers that `to_features` makes of one action."""
        return self.choices or len(self.low)

    def to_environment(self, output: Floats) -> Floats:
        """The environment's action for a policy output, `[..., A]`.

        With bounds [low, high] it is `centre + half_width * output / scale`, clipped to them, so an output of
        `scale` is a full action (1 in rllab's normalised environment; 10 in those of ProMP, pytorch-maml-rl and
        garage on MuJoCo). Without bounds, and for discrete actions, it is the output itself.
        """
        if self.choices or not self.bounded:
            return output
        centre, half_width = (self.high + self.low) / 2, (self.high - self.low) / 2
        return np.clip(centre + half_width * (output / np.float32(self.scale)), self.low, self.high)

    def to_features(self, action: Floats) -> Floats:
        """An environment's action as a network's input, `[..., features]` float32.

        A choice becomes one-hot; a bounded action is mapped to [-1, 1]; any other stays as it is.

        Args:
            action: `[..., A]`, as the environment received it.
        """
        if self.choices:
            return np.eye(self.choices, dtype=np.float32)[action[..., 0].astype(np.int64)]
        if not self.bounded:
            return action.astype(np.float32)
        centre, half_width = (self.high + self.low) / 2, (self.high - self.low) / 2
        return np.asarray((action - centre) / np.maximum(half_width, 1e-6), dtype=np.float32)

    def tensors(self) -> dict[str, Tensor]:
        """The bounds, for an exported policy."""
        return {"action_low": torch.tensor(self.low), "action_high": torch.tensor(self.high)}

    def description(self) -> dict[str, Any]:
        """How an exported policy's output is to be read."""
        return {
            "distribution": "categorical" if self.choices else "gaussian",
            "action_scale": self.scale,
            "bounded": self.bounded,
        }
