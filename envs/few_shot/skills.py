"""N-way classification of skills: which task class of Meta-World a piece of a trajectory belongs to.

| input | index | unit |
|---|---|---|
| position of the hand, opening of the gripper, of each frame | 11 f + 0 to 11 f + 3 | deviations |
| position of the first object | 11 f + 4 to 11 f + 6 | deviations |
| action | 11 f + 7 to 11 f + 10 | deviations |

A piece has ten frames f, one per five steps of an episode: 0.6 s. Meta-World's scripted policies act, with noise.
Orientations and the second object are left out: in many classes they are constants that no other class has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from metarl.deviations import Scaling
from metarl.envs.few_shot.skill_recordings import FULL, Size, recordings
from metarl.few_shot.class_tasks import ClassTasks, draw_of_classes, split_classes
from metarl.few_shot.family import FewShotFamily, few_shot_options
from metarl.few_shot.shots import Shots, ShotSpaces
from metarl.types import Floats, Task

NAME = "skills"
LENGTH = 10
"""Frames of a piece."""
SHARE = 0.72
"""Share of the classes for training: 36 of 50."""
UNITS = ("m", "m", "m", "opening", "m", "m", "m", *("action",) * 4)
"""Units of the numbers of a frame; deviations of one unit are compared."""


@dataclass(frozen=True)
class Pieces:
    """The source of the examples: one piece of an episode each, so no two of a task share an episode.

    Args:
        size: Extent of the recordings.
        train: Indices of the classes for training, whose means and deviations normalise all.
    """

    size: Size
    train: tuple[int, ...]

    @cached_property
    def frames(self) -> Floats:
        """Normalised frames, `[classes, episodes, frames, 11]` float32."""
        raw = recordings(self.size)
        return Scaling(raw[list(self.train)].reshape(-1, raw.shape[-1]), UNITS)(raw)

    def draw(self, tasks: Sequence[Task], shots: int, queries: int, rng: np.random.Generator) -> tuple[Shots, Shots]:
        """See `metarl.few_shot.family.Draw`. Pieces begin at random frames."""
        classes, episodes, length, _ = self.frames.shape
        starts = rng.integers(length - LENGTH + 1, size=(classes, episodes, 1))
        rows = starts + np.arange(LENGTH)  # [classes, episodes, LENGTH]
        pieces = np.take_along_axis(self.frames, rows[..., None], axis=2)
        return draw_of_classes(list(pieces.reshape(classes, episodes, -1)), tasks, shots, queries, rng)


def skills(argument: str = "") -> FewShotFamily:
    """Classification of pieces of Meta-World trajectories; options ways=5,shots=5,queries=15.

    Task classes are held out. The first use records the trajectories, which takes a few minutes.

    Raises:
        ValueError: An option is unknown, or there are fewer classes or episodes.
    """
    subject, options = few_shot_options(NAME, argument, ways=5, shots=5, queries=15)
    if subject:
        raise ValueError(f"family {NAME!r}: got {subject!r}, expected options such as ways=5,shots=5,queries=15")
    ways, shots, queries = options["ways"], options["shots"], options["queries"]
    if shots + queries > FULL.episodes:
        raise ValueError(
            f"family {NAME!r}: got {shots} shots and {queries} queries per class, expected at most {FULL.episodes} "
            "in total: each needs an episode of its own"
        )
    train, withheld = split_classes(len(FULL.classes), SHARE)
    pieces = Pieces(FULL, train)
    inputs = LENGTH * len(UNITS)
    return FewShotFamily(
        name=NAME,
        summary="which of N Meta-World classes a piece of a trajectory is from; classes held out",
        distribution=ClassTasks(NAME, ways, train, withheld),
        spaces=ShotSpaces(x_shape=(inputs,), y_size=ways, classification=True, shots=shots, queries=queries),
        draw=pieces.draw,
        most_shots=FULL.episodes - queries,
    )
