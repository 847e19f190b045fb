"""The map from policy outputs to environment actions, and from these to network inputs."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from metarl.types import Floats, Spaces


class ActionMap:
    """Maps policy outputs to environment actions, and these to network inputs.

    Args:
        spaces: Action bounds, or the number of choices.
        scale: Policy output that corresponds to the action bound; see `to_environment`.

    Attributes:
        bounded: Mask of the components with two finite bounds, `[A]`; all False for discrete actions.
    """

    def __init__(self, spaces: Spaces, scale: float) -> None:
        self.choices, self.scale, self._first = spaces.choices, scale, spaces.first_choice
        self.low = np.asarray(spaces.action_low, dtype=np.float32)
        self.high = np.asarray(spaces.action_high, dtype=np.float32)
        self.bounded = np.isfinite(self.low) & np.isfinite(self.high) & (not spaces.choices)
        with np.errstate(invalid="ignore"):  # infinity minus infinity in unbounded components
            self._centre = np.where(self.bounded, self.high / 2 + self.low / 2, np.float32(0.0))
            self._half_width = np.where(self.bounded, self.high / 2 - self.low / 2, np.float32(1.0))

    @property
    def features(self) -> int:
        """Size of the network input for one action; see `to_features`."""
        return self.choices or len(self.low)

    @classmethod
    def of_bounded(cls, agent: str, spaces: Spaces) -> Self:
        """The map from outputs in [-1, 1] to the action bounds, for an agent with a squashed policy.

        Args:
            agent: Name of the agent, for the message.
            spaces: Action bounds.

        Raises:
            ValueError: Actions are discrete or unbounded.
        """
        if spaces.choices:
            raise ValueError(f"{agent}: got {spaces.choices} discrete actions, expected continuous actions")
        actions = cls(spaces, 1.0)
        if not actions.bounded.all():
            raise ValueError(f"{agent}: got action bounds {spaces.action_low}, {spaces.action_high}, expected finite")
        return actions

    def to_environment(self, output: Floats) -> Floats:
        """Environment actions for policy outputs, `[..., A]`.

        A component with two finite bounds is `centre + half_width * output / scale`, clipped to the bounds: an output
        of `scale` gives the upper bound. (The scale is 1 in rllab's normalised environment, 10 in ProMP,
        pytorch-maml-rl and garage on MuJoCo.) A component with one finite bound is the output clipped to it, and one
        without bounds the output itself. For discrete actions the output is the index of a choice, and the action
        (int64) the environment's number of that choice.
        """
        if self.choices:
            return output.astype(np.int64) + self._first
        scaled = self._centre + self._half_width * (output / np.float32(self.scale))
        return np.clip(np.where(self.bounded, scaled, output), self.low, self.high)

    def to_features(self, action: Floats) -> Floats:
        """Network inputs for environment actions, `[..., features]` float32.

        A choice becomes one-hot, a component with two finite bounds is mapped to [-1, 1], any other stays the same.

        Args:
            action: Actions that the environment received, `[..., A]`.
        """
        if self.choices:
            index = action[..., 0].astype(np.int64) - self._first
            return np.eye(self.choices, dtype=np.float32)[
                np.clip(index, 0, self.choices - 1)
            ]  # padded steps may hold no valid choice
        scaled = (action - self._centre) / np.maximum(self._half_width, 1e-6)
        return np.where(self.bounded, scaled, action).astype(np.float32)

    def tensors(self) -> dict[str, Tensor]:
        """Arrays of an exported policy, each `[A]`: `action = clip(offset + factor * output, low, high)`."""
        factor = np.where(self.bounded, self._half_width / np.float32(self.scale), np.float32(1.0))
        arrays = {"low": self.low, "high": self.high, "offset": self._centre, "factor": factor}
        return {f"action_{name}": torch.tensor(array) for name, array in arrays.items()}

    def description(self) -> dict[str, Any]:
        """Description of the output of an exported policy."""
        return {
            "distribution": "categorical" if self.choices else "gaussian",
            "choices": self.choices,
            "first_choice": self._first,
            "action_scale": self.scale,
            "bounded": self.bounded.tolist(),
        }
