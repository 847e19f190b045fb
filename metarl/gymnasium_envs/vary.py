"""The notation of `--vary`: parameters that vary between the tasks of a Gymnasium environment.

| written | meaning |
|---|---|
| `g=uniform(5,15)` | uniform on [5, 15) |
| `goal=uniform(-1,1,size=2)` | a vector of two such numbers |
| `goal=uniform([-1,0.2],[1,0.8])` | a vector with a separate range for each component |
| `direction=choice(-1,1)` | one of the listed numbers; passed as `int` if all are whole |
| `goal=choice([0,1],[1,0])` | one of the listed vectors |
| `mass=uniform(1,2,hidden=false)` | not hidden: the observation may contain it |

Regular expressions and `float` read it; nothing is evaluated as code.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from metarl.parameters import MOST_COMPONENTS
from metarl.tasks import HELD_OUT_SEED, ContinuousTasks, DiscreteTasks, Parameter, TaskDistribution, uniform
from metarl.types import Floats, Task

FORMS = (
    "NAME=uniform(LOW,HIGH), NAME=uniform(LOW,HIGH,size=N), NAME=uniform([LOW,...],[HIGH,...]) or NAME=choice(A,B,...)"
)
FORM = r"([A-Za-z_]\w*)=(uniform|choice)\(([^()]*)\)"
"""A variation without blanks."""
HOLD_OUT_SHARE = 4
"""One of this many enumerated tasks is held out; a family with fewer tasks is not split."""
MOST_DISCRETE_TASKS = 10_000


@dataclass(frozen=True)
class Variation:
    """A parameter that varies between tasks.

    Args:
        name: Constructor argument or attribute of the environment.
        values: Bounds of `uniform` or values of `choice`, each a tuple of one number, or of one per component.
        is_choice: True for `choice`, False for `uniform`.
        size: Number of components.
        hidden: Whether the agent has to infer it.
        text: The notation without blanks.
        whole: Whether every number was written as a whole number.
    """

    name: str
    values: tuple[tuple[float, ...], ...]
    is_choice: bool
    size: int
    hidden: bool
    text: str
    whole: bool

    @property
    def as_int(self) -> bool:
        """Whether the value is passed to the environment as `int`."""
        return self.is_choice and self.whole and self.size == 1

    def parameter(self) -> Parameter:
        """The parameter of a task distribution."""
        meaning = f"{self.name!r} of the environment"
        if not self.is_choice:
            low, high = (bound[0] if len(bound) == 1 else bound for bound in self.values)
            return uniform(self.name, low, high, size=self.size, meaning=meaning, hidden=self.hidden)
        values = np.array(self.values)

        def choose(u: Floats) -> Floats:
            return values[np.minimum((u[:, 0] * len(values)).astype(np.int64), len(values) - 1)]

        listed = (f"{v[0]:g}" if len(v) == 1 else f"({', '.join(f'{x:g}' for x in v)})" for v in self.values)
        return Parameter(
            name=self.name,
            meaning=f"{meaning}; one of {', '.join(listed)}",
            hidden=self.hidden,
            variates=1,
            transform=choose,
        )


def parse_variation(text: str, where: str = "--vary") -> Variation:
    """Reads one variation, such as `g=uniform(5,15)`.

    Args:
        text: The notation.
        where: First words of messages.

    Raises:
        ValueError: The form is unknown, or the numbers are not a valid range.
    """
    squeezed = re.sub(r"\s+", "", text)
    match = re.fullmatch(FORM, squeezed)
    if not match:
        raise ValueError(f"{where}: got {text!r}, expected {FORMS}")
    name, kind, inside = match.groups()
    inside, size, hidden = _split_options(inside, text, where)
    words = re.findall(r"\[[^\[\]]*\]|[^,\[\]]+|(?<=,)(?=,|$)|^(?=,|$)", inside)
    try:
        values = tuple(tuple(float(x) for x in word.strip("[]").split(",")) for word in words)
    except ValueError as error:
        raise ValueError(f"{where}: got {text!r}, expected numbers in {FORMS}") from error
    if ",".join(words) != inside:
        raise ValueError(f"{where}: got {text!r}, expected numbers in {FORMS}")
    if not all(math.isfinite(x) for value in values for x in value):
        raise ValueError(f"{where}: got {text!r}, expected finite numbers")
    whole = all(re.fullmatch(r"[+-]?\d+", x) for word in words for x in word.strip("[]").split(","))
    if kind == "choice":
        lengths = {len(value) for value in values}
        if size is not None or len(lengths) != 1 or len(set(values)) < max(2, len(values)):
            raise ValueError(
                f"{where}: got {text!r}, expected choice(A,B,...) of at least two different numbers, or of lists of as "
                "many numbers each"
            )
        return Variation(name, values, True, lengths.pop(), hidden, squeezed, whole)
    if len(values) != 2:
        raise ValueError(f"{where}: got {text!r}, expected uniform(LOW,HIGH) with LOW below HIGH")
    try:
        low, high = (list(v) if word.startswith("[") else v[0] for word, v in zip(words, values, strict=True))
        size = uniform(name, low, high, size=size, meaning="").variates
    except ValueError as error:
        raise ValueError(f"{where}: got {text!r}, expected uniform(LOW,HIGH) with LOW below HIGH ({error})") from error
    return Variation(name, values, False, size, hidden, squeezed, whole)


def _split_options(inside: str, text: str, where: str) -> tuple[str, int | None, bool]:
    """Splits trailing `size=N` and `hidden=false` off; returns the rest, the size, and whether it is hidden."""
    size, hidden, seen = None, True, set[str]()
    while match := re.fullmatch(r"(.*),(size|hidden)=(\w*)", inside):
        inside, option, value = match.groups()
        fits = value.isdecimal() if option == "size" else value.lower() in ("true", "false")
        if option in seen or not fits or (option == "size" and not 1 <= int(value[:9]) <= MOST_COMPONENTS):
            raise ValueError(
                f"{where}: got {text!r}, expected numbers in {FORMS}, with N from 1 to {MOST_COMPONENTS}; or "
                "hidden=false at the end"
            )
        seen.add(option)
        size, hidden = (int(value), hidden) if option == "size" else (size, value.lower() == "true")
    return inside, size, hidden


def parse_variations(texts: Sequence[str]) -> tuple[Variation, ...]:
    """Reads several variations.

    Raises:
        ValueError: One cannot be read, or a name is repeated.
    """
    found = tuple(parse_variation(text) for text in texts)
    names = [v.name for v in found]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"--vary: got {name!r} {names.count(name)} times, expected each name once")
    return found


def distribution_of(family: str, variations: Sequence[Variation]) -> TaskDistribution:
    """The distribution of tasks with these variations.

    If all are choices, the tasks are enumerated: a fixed quarter is held out, none of fewer than four.
    Otherwise tasks are drawn from the ranges.

    Raises:
        ValueError: There are too many combinations of choices to enumerate.
    """
    parameters = tuple(v.parameter() for v in variations)
    if not all(v.is_choice for v in variations):
        return ContinuousTasks(family, parameters)
    count = math.prod(len(v.values) for v in variations)
    if count > MOST_DISCRETE_TASKS:
        raise ValueError(f"--vary: got {count} combinations of choices, expected at most {MOST_DISCRETE_TASKS}")
    rows = itertools.product(*(v.values for v in variations))
    tasks = [Task.of(family, **{v.name: x for v, x in zip(variations, row, strict=True)}) for row in rows]
    if count < HOLD_OUT_SHARE:
        return DiscreteTasks(family, parameters, train=tuple(tasks), withheld=None)
    order = np.random.Generator(np.random.PCG64(HELD_OUT_SEED)).permutation(count)
    withheld, train = ([tasks[i] for i in sorted(part)] for part in np.split(order, [count // HOLD_OUT_SHARE]))
    return DiscreteTasks(family, parameters, train=tuple(train), withheld=tuple(withheld))
