"""N-way classification of hand-drawn characters: Omniglot (Lake et al. 2015) in a folder of its published layout.

| input | index | unit |
|---|---|---|
| ink of each pixel, 1 for black and 0 for white | 28 x 28, one channel | 1 |

Images are resized from 105 x 105 to 28 x 28 pixels. Each training character in each of four orientations is a class of
its own (Santoro et al. 2016, arXiv:1605.06065). Held-out characters are upright.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import overload

import numpy as np

from metarl.envs.few_shot.drawings import LAYOUT, SIDE, Drawings, read_drawings
from metarl.few_shot.class_tasks import ClassTasks, draw_of_classes
from metarl.few_shot.family import FewShotFamily, few_shot_options
from metarl.few_shot.shots import Shots, ShotSpaces
from metarl.types import Floats, Task

NAME = "omniglot"
TURNS = 4
"""Orientations of a training character, quarter turns."""
WHITE = 255.0


@dataclass(frozen=True)
class Orientations(Sequence[Floats]):
    """The images of each class: training characters in four orientations, then held-out characters.

    Args:
        drawings: The images.
    """

    drawings: Drawings

    def __len__(self) -> int:
        return TURNS * self.drawings.train + len(self.drawings.ink) - self.drawings.train

    @overload
    def __getitem__(self, index: int) -> Floats: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Floats]: ...
    def __getitem__(self, index: int | slice) -> Floats | Sequence[Floats]:
        """The images of a class, `[n, 1, 28, 28]` uint8."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        turned = TURNS * self.drawings.train
        character, turns = divmod(index, TURNS) if index < turned else (index - turned + self.drawings.train, 0)
        return np.rot90(self.drawings.ink[character], turns, axes=(1, 2))[:, None]

    def draw(self, tasks: Sequence[Task], shots: int, queries: int, rng: np.random.Generator) -> tuple[Shots, Shots]:
        """See `metarl.few_shot.family.Draw`."""
        support, query = draw_of_classes(self, tasks, shots, queries, rng)
        return replace(support, x=support.x / WHITE), replace(query, x=query.x / WHITE)


def omniglot(argument: str = "") -> FewShotFamily:
    """Classification of drawn characters, `omniglot:FOLDER`; options ways=5,shots=5,queries=10.

    Alphabets are held out. FOLDER has Omniglot's published layout.

    Raises:
        ValueError: The folder is missing or has another layout, a file is no image, there are too few classes or
            images, or an option is unknown.
    """
    subject, options = few_shot_options(NAME, argument, ways=5, shots=5, queries=10)
    if not subject:
        raise ValueError(f"family {NAME!r}: got no folder, expected {NAME}:FOLDER with {LAYOUT}")
    drawings = read_drawings(_folder(subject))
    classes = Orientations(drawings)
    edge = TURNS * drawings.train
    ways, shots, queries = options["ways"], options["shots"], options["queries"]
    if shots + queries > drawings.fewest:
        raise ValueError(
            f"family {NAME!r}: got {shots} shots and {queries} queries per class, expected at most "
            f"{drawings.fewest} in total: a character of {subject} has no more images"
        )
    return FewShotFamily(
        name=NAME,
        summary="which of N hand-drawn characters an image shows; alphabets held out",
        distribution=ClassTasks(NAME, ways, tuple(range(edge)), tuple(range(edge, len(classes)))),
        spaces=ShotSpaces(x_shape=(1, SIDE, SIDE), y_size=ways, classification=True, shots=shots, queries=queries),
        draw=classes.draw,
        most_shots=drawings.fewest - queries,
    )


def _folder(subject: str) -> Path:
    """The folder; a shell expands no `~` after a colon."""
    try:
        return Path(subject).expanduser()
    except RuntimeError as error:
        raise ValueError(f"family {NAME!r}: got {subject!r}, expected a folder ({error})") from error
