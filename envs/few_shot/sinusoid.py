"""Regression of sinusoids: Finn et al. 2017 (arXiv:1703.03400), section 5.1."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from metarl.few_shot.family import FewShotFamily, few_shot_options
from metarl.few_shot.shots import Shots, ShotSpaces
from metarl.tasks import ContinuousTasks, uniform
from metarl.types import Task

NAME = "sinusoid"
RANGE = 5.0
"""Inputs are uniform on [-5, 5]."""
HELD_OUT, REPORTED = 140, 100
AMPLITUDE = uniform("amplitude", 0.1, 5.0, meaning="amplitude a")
PHASE = uniform("phase", 0.0, math.pi, meaning="phase p, rad; y = a sin(x - p)")


def sinusoid(argument: str = "") -> FewShotFamily:
    """Regression of y = a sin(x - p): amplitude and phase vary; options shots=10,queries=10.

    Raises:
        ValueError: An option is unknown.
    """
    subject, options = few_shot_options(NAME, argument, shots=10, queries=10)
    if subject:
        raise ValueError(f"family {NAME!r}: got {subject!r}, expected options such as shots=10,queries=10")
    return FewShotFamily(
        name=NAME,
        summary="regression of y = a sin(x - p): amplitude and phase vary",
        distribution=ContinuousTasks(NAME, (AMPLITUDE, PHASE), held_out_size=HELD_OUT, reported=REPORTED),
        spaces=ShotSpaces(x_shape=(1,), y_size=1, classification=False, **options),
        draw=draw,
    )


def draw(tasks: Sequence[Task], shots: int, queries: int, rng: np.random.Generator) -> tuple[Shots, Shots]:
    """See `metarl.few_shot.family.Draw`."""
    x = rng.uniform(-RANGE, RANGE, size=(len(tasks), 1, shots + queries, 1))
    amplitude, phase = (
        np.array([task[name] for task in tasks]).reshape(-1, 1, 1, 1) for name in ("amplitude", "phase")
    )
    y = amplitude * np.sin(x - phase)
    both = Shots(x.astype(np.float32), y.astype(np.float32))
    return both.first(shots), Shots(both.x[:, :, shots:], both.y[:, :, shots:])
