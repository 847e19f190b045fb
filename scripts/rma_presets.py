"""Presets of rma, with the source of each number."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from metarl.presets import Preset

SOURCE = (
    "Kumar et al. 2021: latent of 8, history of 50 steps, convolutions; PPO's settings of multitask and oracle here, "
    "so that they can be compared"
)
CHEETAH: Mapping[str, Any] = {
    "learning_rate": 7e-4,
    "minibatches": 16,
    "gamma": 0.97,
    "normalise_observations": True,
    "init_std": 0.6,
    "min_std": 0.1,
    "buffer_trials": 1000,
}
CHEETAH_RUN: Mapping[str, Any] = {"iterations": 200, "tasks": 40, "episodes": 2, "eval_every": 20}
DYNAMICS = (
    "Kumar et al. 2021: sizes, and a history without rewards; run and PPO's settings of half-cheetah-vel; no long runs"
)
RMA_PRESETS: Mapping[tuple[str, str], Preset] = {
    ("rma", "point-robot"): Preset(
        training={"iterations": 150, "tasks": 40, "episodes": 2},
        agent={"learning_rate": 1e-3, "phase_two": 0.4, "history_updates": 60},
        source=SOURCE,
    ),
    ("rma", "half-cheetah-vel"): Preset(
        training=CHEETAH_RUN, agent=CHEETAH, source=f"{SOURCE}: those on half-cheetah-vel-3; no long runs"
    ),
    **{
        ("rma", family): Preset(
            training=CHEETAH_RUN, agent={**CHEETAH, "gamma": 0.99, "history_rewards": False}, source=DYNAMICS
        )
        for family in ("half-cheetah-rand-params", "half-cheetah-crippled")
    },
}
