"""Presets of the agents that plan, with the source of each number."""

from __future__ import annotations

from collections.abc import Mapping

from metarl.presets import Preset

RUN = {"iterations": 30, "tasks": 10, "episodes": 1, "eval_every": 15, "eval_tasks": 10}
PLANNER = {"plan_steps": 20, "rounds": 3, "gradient_steps": 500}
SOURCE = (
    "Nagabandi et al. 2019: Adam 1e-3; 60,000 steps, layers 2 x 200 and fewer candidates for two cores; plans of 20 "
    "steps in 3 rounds, and 500 gradient steps: own runs with seed 0"
)
GRBAL_SOURCE = (
    f"{SOURCE}; step size 0.3, factors on it, and 32 transitions: predictions for a limb that is left out of the data "
    "(0.01, 0.1, 1, fixed step sizes and 16 transitions are worse)"
)
PLANNING_PRESETS: Mapping[tuple[str, str], Preset] = {
    (agent, family): Preset(training=RUN, agent={**PLANNER, **more}, source=source)
    for agent, more, source in (
        ("mb-mpc", {}, SOURCE),
        ("grbal", {"past": 32}, GRBAL_SOURCE),
        ("rebal", {"past": 32}, f"{SOURCE}; the window of grbal; no long runs"),
    )
    for family in ("half-cheetah-crippled", "half-cheetah-breaking")
}
