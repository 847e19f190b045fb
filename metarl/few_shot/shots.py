"""Examples of few-shot tasks: the experience of a collect, instead of episodes."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from metarl.types import Floats

Score = Literal["error", "accuracy"]
"""Mean squared error of a regression (lower is better), or accuracy of a classification."""


@dataclass(frozen=True)
class ShotSpaces:
    """Sizes of the examples of a family, as plain numbers that can be written as JSON.

    Args:
        x_shape: Shape of an input: `(I,)`, or `(channels, height, width)` of an image.
        y_size: `O`, components of an output; for a classification the number of classes in a task (N-way), since
            outputs are one-hot.
        classification: Whether outputs are classes.
        shots: Examples to adapt to, per task, or per class of a classification (K-shot).
        queries: Examples that are predicted after adaptation, per task or per class.

    Raises:
        ValueError: A size is no whole number or too small, or inputs are neither vectors nor images.
    """

    x_shape: tuple[int, ...]
    y_size: int
    classification: bool
    shots: int
    queries: int

    def __post_init__(self) -> None:
        given: Any = self.x_shape
        shape = tuple(map(_whole, given)) if isinstance(given, Sequence) and not isinstance(given, str) else ()
        if len(shape) not in (1, 3) or min(shape) < 1:
            raise ValueError(f"spaces: got x_shape {given!r}, expected (I,), or (channels, height, width) of an image")
        object.__setattr__(self, "x_shape", shape)
        for name, least in (("y_size", 2 if self.classification else 1), ("shots", 1), ("queries", 1)):
            size = _whole(value := getattr(self, name))
            if size < least:
                raise ValueError(f"spaces: got {name} {value!r}, expected a whole number, at least {least}")
            object.__setattr__(self, name, size)

    @property
    def score(self) -> Score:
        """Name of the score."""
        return "accuracy" if self.classification else "error"

    @property
    def per_shot(self) -> int:
        """Examples of one shot: one, or one of each class."""
        return self.y_size if self.classification else 1

    @property
    def image(self) -> bool:
        """Whether an input is an image."""
        return len(self.x_shape) == 3


def _whole(value: Any) -> int:
    """A whole number as Python's int; 0 for any other value."""
    try:
        return 0 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        return 0


@dataclass(frozen=True)
class Shots:
    """Examples of each task.

    Args:
        x: Inputs, `[M, E, T, *x_shape]` float32. E is 1 for the families of metarl.
        y: Outputs, `[M, E, T, O]` float32; one-hot for a classification.
        score: The score of the learner on them before it adapts to them; None if it was not computed.
        score_name: Name of the score.
    """

    x: Floats
    y: Floats
    score: float | None = field(default=None, compare=False)
    score_name: str = "error"

    @property
    def num_tasks(self) -> int:
        """`M`."""
        return len(self.x)

    @property
    def env_steps(self) -> int:
        """Number of examples."""
        m, e, t = self.x.shape[:3]
        return m * e * t

    @classmethod
    def metrics(cls, collects: Sequence[Shots]) -> dict[str, float]:
        """The score of each collect: before adaptation, and after it."""
        return {f"{one.score_name}/{k}": one.score for k, one in enumerate(collects) if one.score is not None}

    def first(self, count: int) -> Shots:
        """The first `count` examples of each task."""
        return replace(self, x=self.x[:, :, :count], y=self.y[:, :, :count])

    def of_tasks(self, part: slice) -> Shots:
        """The examples of some of the tasks."""
        return replace(self, x=self.x[part], y=self.y[part])
