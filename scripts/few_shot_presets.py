"""Presets of few-shot learners with an update rule, with the source of each number."""

from __future__ import annotations

from metarl.presets import Preset, PresetTable

FINN = "network, shots, inner step size of Finn et al. 2017 (section 5.1)"
OWN = "the rest by the tuning tasks, own runs with seed 0"
SINUSOID = {"iterations": 10_000, "tasks": 25, "eval_every": 500, "checkpoint_every": 500}
OUTER = {"learning_rate": 3e-3, "anneal": True}

GRADIENT_PRESETS: PresetTable = {
    ("maml", "sinusoid"): Preset(training=SINUSOID, agent=OUTER, source=f"{FINN}; {OWN}"),
    ("pooled", "sinusoid"): Preset(training=SINUSOID, agent=OUTER, source=f"as maml; {OWN}"),
}
"""Presets by learner and family."""
