"""Presets of rma, with the source of each number."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from metarl.presets import Preset

SOURCE = (
    "Kumar et al. 2021: latent of 8, history of 50 steps, convolutions 9, 5, 5; PPO's settings of multitask and oracle "
    "on this family, so that they can be compared"
)
DYNAMICS: Mapping[str, Any] = {"history_rewards": False, "normalise_observations": True}
RMA_PRESETS: Mapping[tuple[str, str], Preset] = {
    ("rma", "point-robot"): Preset(
        training={"iterations": 150, "tasks": 40, "episodes": 2},
        agent={"learning_rate": 1e-3, "phase_two": 0.4, "history_updates": 60},
        source=SOURCE,
    ),
}
