"""Presets of few-shot learners by metric, by amortisation and by a learned prior, with the source of each number."""

from __future__ import annotations

from metarl.presets import Preset, PresetTable

OWN = "sizes and step sizes by the tuning tasks, own runs with seed 0"
SINUSOID = {"iterations": 10_000, "tasks": 25, "eval_every": 500, "checkpoint_every": 500}
SKILLS = {"iterations": 500, "tasks": 20, "eval_every": 100, "checkpoint_every": 100}
ROBOTS = {"iterations": 1500, "tasks": 20, "eval_every": 500, "checkpoint_every": 500}
BY_LIMBS = "sizes and step sizes by one or two training limbs left out, own runs with seed 0"
WIDE = {"hidden": (128, 128)}
CORRECTED = {"residuals": True, "shuffled": 0.5}
FALLING = {"learning_rate": 2e-3, "anneal": True}

SUPPORT_PRESETS: PresetTable = {
    ("matching", "skills"): Preset(training=SKILLS, agent=WIDE, source=OWN),
    ("prototypical", "skills"): Preset(training=SKILLS, agent=WIDE, source=OWN),
    ("versa", "skills"): Preset(training={**SKILLS, "iterations": 1000}, agent={**WIDE, **FALLING}, source=OWN),
    ("amortised-maml", "skills"): Preset(
        training={**SKILLS, "iterations": 400, "tasks": 10},
        agent={
            **FALLING,
            "hidden": (64, 64),
            "inner_steps": 3,
            "samples": 1,
            "inner_lr": 0.2,
            "initial_std": 0.005,
            "kl_weight": 1e-5,
        },
        source=OWN,
    ),
    ("neural-process", "skills"): Preset(training=SKILLS, agent=FALLING, source=OWN),
    ("versa", "sinusoid"): Preset(training=SINUSOID, agent=FALLING, source=OWN),
    ("neural-process", "sinusoid"): Preset(training=SINUSOID, agent=FALLING, source=OWN),
    ("amortised-maml", "sinusoid"): Preset(
        training={**SINUSOID, "iterations": 5000, "tasks": 10},
        agent={"learning_rate": 3e-3, "anneal": True, "inner_lr": 0.01, "inner_clip": 30.0},
        source=OWN,
    ),
    ("versa", "robot-dynamics"): Preset(training=ROBOTS, agent={**WIDE, **FALLING, **CORRECTED}, source=BY_LIMBS),
    ("neural-process", "robot-dynamics"): Preset(
        training=ROBOTS, agent={**WIDE, **FALLING, **CORRECTED}, source=BY_LIMBS
    ),
    ("amortised-maml", "robot-dynamics"): Preset(
        training={**ROBOTS, "iterations": 1000},
        agent={
            **FALLING,
            "hidden": (64, 64),
            "inner_steps": 5,
            "samples": 1,
            "prediction_samples": 4,
            "inner_lr": 0.2,
            "initial_std": 0.005,
            "kl_weight": 1e-5,
            "shuffled": 0.5,
            "vary_shots": False,
        },
        source="step size by a training limb left out; shuffled as for versa, all shots: not tuned; own runs, seed 0",
    ),
}
"""Presets by learner and family."""
