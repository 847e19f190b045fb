"""`drawn`: the examples of a family, checked. A wrong array would be broadcast, and train a learner on nonsense."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from metarl.few_shot.family import FewShotFamily
from metarl.few_shot.shots import Shots, ShotSpaces
from metarl.own_code.errors import EnvError
from metarl.own_code.modules import own_error
from metarl.types import Floats, Task

CONTRACT = "; see metarl.few_shot.family.Draw"


class DrawError(EnvError, ValueError):
    """The `draw` of a family raised, or returned wrong examples."""


def drawn(
    family: FewShotFamily, tasks: Sequence[Task], shots: int, queries: int, rng: np.random.Generator
) -> tuple[Shots, Shots]:
    """Support and queries of the tasks; see `metarl.few_shot.family.Draw`.

    Args:
        family: Source of the examples.
        tasks: The tasks.
        shots: Examples per task, or per class, of the support.
        queries: Examples per task, or per class, to predict.
        rng: Source of the examples.

    Raises:
        DrawError: The family raised, or the examples have wrong sizes or types, numbers that are not finite, or outputs
            that are not one-hot.
    """
    what = f"family {family.name!r}"
    try:
        found: Any = family.draw(tasks, shots, queries, rng)
    except Exception as error:
        failure = own_error(what, "when it drew examples", error)
        if len(failure.trace.splitlines()) > 1:  # the traceback begins in the user's code
            raise DrawError(failure.message, failure.trace) from error
        if isinstance(error, ValueError):
            raise DrawError(str(error)) from error
        raise
    if not (isinstance(found, tuple | list) and len(found) == 2 and all(isinstance(one, Shots) for one in found)):
        raise DrawError(f"{what}: its draw gave {_kind(found)}, expected two metarl.Shots, support and queries")
    sizes = (("a support", shots), ("queries", queries))
    support, query = (
        _checked(f"{what}: its draw gave {name}", family.spaces, one, len(tasks), count)
        for (name, count), one in zip(sizes, found, strict=True)
    )
    if family.spaces.classification:
        of_shots = support.y.reshape(*support.y.shape[:2], shots, family.spaces.per_shot, family.spaces.y_size)
        if not (of_shots.sum(axis=-2) == 1).all():
            raise DrawError(
                f"{what}: its draw gave a support in another order, expected shot after shot: one example of each class"
                f"{CONTRACT}"
            )
    return support, query


def _checked(what: str, spaces: ShotSpaces, shots: Shots, tasks: int, count: int) -> Shots:
    """The examples as arrays that learners take.

    Args:
        what: First words of a message.
        spaces: Sizes of the examples.
        shots: The examples.
        tasks: `M`.
        count: Number of shots.
    """
    x, y = (_numbers(f"{what} with {name}", a) for name, a in (("x", shots.x), ("y", shots.y)))
    envs = x.shape[1] if x.ndim > 1 and x.shape[1] else 1
    first = (tasks, envs, count * spaces.per_shot)
    for name, array, size in (("x", x, spaces.x_shape), ("y", y, (spaces.y_size,))):
        if array.shape != (*first, *size):
            raise DrawError(f"{what} with {name} of shape {array.shape}, expected {(*first, *size)}{CONTRACT}")
        if not np.isfinite(array).all():
            wrong = int((~np.isfinite(array)).sum())
            raise DrawError(f"{what} with {wrong:,} of {array.size:,} numbers of {name} not finite, expected none")
    if spaces.classification and not (((y == 0) | (y == 1)).all() and (y.sum(axis=-1) == 1).all()):
        raise DrawError(f"{what} with y that is not one-hot, expected one 1 per example, and zeros{CONTRACT}")
    return replace(shots, x=x, y=y)


def _numbers(what: str, values: Any) -> Floats:
    """The numbers as float32 or float64."""
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiub":
        raise DrawError(f"{what} of {_kind(values)}, expected a NumPy array of numbers")
    return values if values.dtype in (np.float32, np.float64) else values.astype(np.float32)


def _kind(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype}"
    return "None" if value is None else f"the type {type(value).__name__}"
