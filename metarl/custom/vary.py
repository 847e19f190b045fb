"""The small language in which a command line says what the tasks of a Gymnasium environment differ in.

| written | means |
|---|---|
| `g=uniform(5,15)` | uniform on [5, 15) |
| `goal=uniform(-1,1,size=2)` | a vector of two such numbers |
| `direction=choice(-1,1)` | one of the numbers listed; all whole: handed over as `int` |

It is read by regular expressions and `float`; nothing in it is ever evaluated.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from metarl.tasks import HELD_OUT_SEED, ContinuousTasks, DiscreteTasks, Parameter, TaskDistribution, uniform
from metarl.types import Floats, Task

FORMS = "NAME=uniform(LOW,HIGH), NAME=uniform(LOW,HIGH,size=N) or NAME=choice(A,B,...)"
HOLD_OUT_SHARE = 4
"""Where tasks can be counted, one of so many is held out; fewer tasks than this are not split."""
MOST_DISCRETE_TASKS = 10_000
MOST_COMPONENTS = 10_000
"""Of one parameter that varies."""


@dataclass(frozen=True)
class Variation:
    """One thing in which tasks differ.

    Args:
        name: Constructor argument or attribute of the environment.
        numbers: The bounds of `uniform`, or the values of `choice`.
        is_choice: Which of the two it is.
        size: Components of a vector; 1 for `choice`.
        text: How it was written, without blanks.
        whole: Every number was written as a whole number.
    """

    name: str
    numbers: tuple[float, ...]
    is_choice: bool
    size: int
    text: str
    whole: bool

    @property
    def as_int(self) -> bool:
        """Whether the environment gets it as an `int`."""
        return self.is_choice and self.whole

    def parameter(self) -> Parameter:
        """It as a hidden parameter."""
        if not self.is_choice:
            low, high = self.numbers
            return uniform(self.name, low, high, size=self.size, meaning=f"{self.name!r} of the environment")
        values = np.array(self.numbers)

        def choose(u: Floats) -> Floats:
            return values[np.minimum((u * len(values)).astype(np.int64), len(values) - 1)]

        meaning = f"{self.name!r} of the environment; one of {', '.join(f'{v:g}' for v in values)}"
        return Parameter(name=self.name, meaning=meaning, hidden=True, variates=1, transform=choose)


def parse_variation(text: str) -> Variation:
    """Reads one variation, such as `g=uniform(5,15)`.

    Raises:
        ValueError: It has another form, or its numbers make no range.
    """
    squeezed = re.sub(r"\s+", "", text)
    match = re.fullmatch(r"([A-Za-z_]\w*)=(uniform|choice)\(([^()]*)\)", squeezed)
    if not match:
        raise ValueError(f"--vary: got {text!r}, expected {FORMS}")
    name, kind, inside = match.groups()
    inside, size = _split_size(inside) if kind == "uniform" else (inside, 1)
    words = inside.split(",")
    try:
        numbers = tuple(float(word) for word in words)
    except ValueError as error:
        raise ValueError(f"--vary: got {text!r}, expected numbers in {FORMS}") from error
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"--vary: got {text!r}, expected finite numbers")
    if size > MOST_COMPONENTS:
        raise ValueError(f"--vary: got {text!r}, expected a size of at most {MOST_COMPONENTS:,}")
    if kind == "uniform" and (len(numbers) != 2 or not numbers[0] < numbers[1]):
        raise ValueError(f"--vary: got {text!r}, expected uniform(LOW,HIGH) with LOW below HIGH")
    if kind == "choice" and len(set(numbers)) < max(2, len(numbers)):
        raise ValueError(f"--vary: got {text!r}, expected choice(A,B,...) of at least two different numbers")
    whole = all(re.fullmatch(r"[+-]?\d+", word) for word in words)
    return Variation(name, numbers, kind == "choice", size, squeezed, whole)


def _split_size(inside: str) -> tuple[str, int]:
    """Takes `,size=N` off the end."""
    match = re.fullmatch(r"(.*),size=([1-9]\d*)", inside)
    return (match[1], int(match[2])) if match else (inside, 1)


def parse_variations(texts: Sequence[str]) -> tuple[Variation, ...]:
    """Reads several variations of different things.

    Raises:
        ValueError: One has another form, or a name stands twice.
    """
    found = tuple(parse_variation(text) for text in texts)
    names = [v.name for v in found]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"--vary: got {name!r} {names.count(name)} times, expected each name once")
    return found


def distribution_of(family: str, variations: Sequence[Variation]) -> TaskDistribution:
    """Tasks that differ in the variations.

    Where every one is a choice, the tasks are counted out: a quarter of them, always the same, is held out, and
    fewer than four are not split. Otherwise they come from the ranges.

    Raises:
        ValueError: There are more choices than can be counted out.
    """
    parameters = tuple(v.parameter() for v in variations)
    if not all(v.is_choice for v in variations):
        return ContinuousTasks(family, parameters)
    count = math.prod(len(v.numbers) for v in variations)
    if count > MOST_DISCRETE_TASKS:
        raise ValueError(f"--vary: got {count} combinations of choices, expected at most {MOST_DISCRETE_TASKS}")
    rows = itertools.product(*(v.numbers for v in variations))
    tasks = [Task.of(family, **{v.name: x for v, x in zip(variations, row, strict=True)}) for row in rows]
    if count < HOLD_OUT_SHARE:
        return DiscreteTasks(family, parameters, train=tuple(tasks), withheld=None)
    order = np.random.Generator(np.random.PCG64(HELD_OUT_SEED)).permutation(count)
    withheld, train = ([tasks[i] for i in sorted(part)] for part in np.split(order, [count // HOLD_OUT_SHARE]))
    return DiscreteTasks(family, parameters, train=tuple(train), withheld=tuple(withheld))
