"""Finds the reason why a parameter that is set as an attribute has no effect, or only a partial one.

There are two reasons: a reset overwrites the attribute, or attributes that the constructor computed from it keep their
old values. The second is found by comparison with an environment in which the attribute has the value already during
construction.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from metarl.gymnasium_envs.check.findings import Clock, Note
from metarl.gymnasium_envs.check.playing import Recording, difference, play, varied_actions
from metarl.gymnasium_envs.check.tasks_apart import Part, partners
from metarl.gymnasium_envs.family import GymnasiumEnvs
from metarl.gymnasium_envs.rows import Env, farewell
from metarl.tasks import Family
from metarl.types import Task

ROWS = 3
USUAL_RATIOS = (1 / 12, 1 / 4, 1 / 3, 1 / 2, 2, 3, 4, 12)
"""Usual ratios of related quantities of a body, such as a length and its centre."""
LENGTHS = {"length", "len", "pos", "position", "com", "center", "centre", "radius", "width", "height", "half", "size"}
"""Words in the names of lengths; the guess is limited to such names."""
SHARED_WORDS = 2
"""Number of words that the names of two related attributes have to share."""
PERTURBED = 1.5


def told_as_attributes(make: GymnasiumEnvs, task: Task) -> list[str]:
    """The parameters that are set as attributes of the unwrapped environment."""
    if make.maker.delivery != "attributes":
        return []
    return [name for name, _ in task.parameters if name not in make.maker.arguments]


# A reset that overwrites ------------------------------------------------------------------------------------


def overwritten(make: GymnasiumEnvs, task: Task, names: Sequence[str]) -> dict[str, str]:
    """A sentence about each attribute that a reset overwrites, by name."""
    if not names:
        return {}
    env = make.maker.play(None, task)
    try:
        env.reset(seed=0)
        values = make.maker.values(task)
        return {
            name: f"reset overwrites the attribute {name!r} ({_short(now)} instead of "
            f"{_short(values[name])}); override what sets it there, or give the environment a set_task that does"
            for name in names
            if not _equal(now := getattr(env.unwrapped, name, None), values[name])
        }
    finally:
        farewell(env)


def _short(value: Any) -> str:
    return np.array2string(np.asarray(value), precision=4, separator=", ", threshold=6)


def _equal(one: Any, two: Any) -> bool:
    try:
        return bool(np.allclose(np.asarray(one, np.float64), np.asarray(two, np.float64), rtol=1e-6, atol=1e-12))
    except (TypeError, ValueError):
        return False


# A constructor that derives ---------------------------------------------------------------------------------


class _Held:
    """A data descriptor with a constant value; assignments are ignored."""

    def __init__(self, name: str, value: Any) -> None:
        self._name, self._value = name, value

    def __get__(self, instance: Any, owner: type) -> Any:
        return self._value

    def __set__(self, instance: Any, value: Any) -> None:
        vars(instance)[self._name] = self._value


@dataclass(frozen=True)
class HeldInConstruction:
    """Makes environments in which an attribute keeps a value from the start of construction.

    Args:
        make_env: Makes an environment.
        kind: Class of the unwrapped environment.
        name: Name of the attribute, and the keyword for its value.
    """

    make_env: Callable[..., Env]
    kind: type
    name: str

    def __call__(self, **keywords: Any) -> Env:
        """Makes an environment, and restores the class afterwards."""
        value, own = keywords.pop(self.name), vars(self.kind).get(self.name, self)
        setattr(self.kind, self.name, _Held(self.name, value))
        try:
            env = self.make_env(**keywords)
        finally:
            if own is self:
                delattr(self.kind, self.name)
            else:
                setattr(self.kind, self.name, own)
        vars(env.unwrapped)[self.name] = value
        return env


def held(make: GymnasiumEnvs, task: Task, name: str) -> GymnasiumEnvs | None:
    """The same environments with one attribute held during construction; None if a descriptor prevents it."""
    env = make.maker.play(None, task)
    kind = type(env.unwrapped)
    farewell(env)
    if inspect.isdatadescriptor(inspect.getattr_static(kind, name, None)):
        return None
    maker = replace(
        make.maker,
        make_env=HeldInConstruction(make.maker.make_env, kind, name),
        arguments=(*make.maker.arguments, name),
    )
    return replace(make, maker=maker)


def stale(make: GymnasiumEnvs, task: Task, name: str) -> list[str]:
    """Attributes that the constructor computes from another one, and that stay the same when that one is set later."""
    early = held(make, task, name)
    if early is None:
        return []
    late_env, early_env = make.maker.play(None, task), early.maker.play(None, task)
    late, soon = (_numbers(vars(e.unwrapped)) for e in (late_env, early_env))
    for env in (late_env, early_env):
        farewell(env)
    return [key for key in soon if key != name and key in late and not _equal(soon[key], late[key])]


def _numbers(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes that are numbers, or arrays of numbers."""
    kinds = (int, float, np.number, np.ndarray)
    return {k: v for k, v in attributes.items() if isinstance(v, kinds) and not isinstance(v, bool)}


def reasons_without_effect(make: GymnasiumEnvs, task: Task, names: Sequence[str]) -> dict[str, list[str]]:
    """Sentences on why parameters may have no effect; none if the search raises."""
    mine = [name for name in told_as_attributes(make, task) if name in names]
    found: dict[str, list[str]] = {name: [] for name in mine}
    try:
        for name, words in overwritten(make, task, mine).items():
            found[name].append(words)
        for name in mine:
            if old := stale(make, task, name):
                found[name].append(f"{_derived(name, old)}; {ADVICE}")
    except Exception:
        return found  # another check reports faults of the environment
    return {name: words for name, words in found.items() if words}


ADVICE = "give a function make_env, or a set_task, that sets both"


def _derived(name: str, old: Sequence[str]) -> str:
    which = ", ".join(repr(key) for key in old)
    return (
        f"the constructor computes {which} from {name!r}, and {'it keeps its' if len(old) == 1 else 'they keep their'} "
        f"old value{'' if len(old) == 1 else 's'} when {name!r} is set as an attribute afterwards"
    )


# Effects that are partial -----------------------------------------------------------------------------------


def partial_effects(
    family: Family, make: GymnasiumEnvs, base: Task, steps: int, clock: Clock, explained: set[str]
) -> Iterator[Note]:
    """Notes parameters with another effect than in an environment that is constructed with them.

    Args:
        family: The family.
        make: Environments of the family, stepped in this process.
        base: A task.
        steps: Steps of an episode.
        clock: Time limit.
        explained: Parameters whose lack of effect is explained already; skipped.
    """
    attributes, keywords = told_as_attributes(make, base), _own_keywords(make.maker.make_env)
    for name, _ in base.parameters:
        constructed = name in keywords and name not in make.maker.arguments
        if (
            name in explained
            or (name not in attributes and not constructed)
            or not (others := partners(family, base, Part(name), 1))
        ):
            continue
        if not clock.start(f"full effect of {name!r}"):
            continue
        try:
            yield from _compared(make, others[0], name, constructed, steps, clock)
            if name in attributes:
                yield from _guessed(make, base, name, steps, clock)
        except Exception:
            continue  # such as a value refused by the constructor


def _compared(
    make: GymnasiumEnvs, task: Task, name: str, constructed: bool, steps: int, clock: Clock
) -> Iterator[Note]:
    """Plays a task as usual, and in an environment that is constructed with it; notes a difference."""
    maker = replace(make.maker, arguments=(*make.maker.arguments, name))
    early = replace(make, maker=maker) if constructed else held(make, task, name)
    if early is None:
        return
    late = _played(make, [task], steps, clock)[0]
    difference_ = difference(late, _played(early, [task], steps, clock)[0])
    if not difference_:
        return
    way = "set as an attribute" if make.maker.delivery == "attributes" else f"passed by {make.maker.delivery}"
    if constructed:
        yield Note(
            "derived",
            f"{name!r} {way} has another effect than as the constructor's argument of that name (sure: the same seeds "
            "and actions give other episodes); use task_by='arguments'",
        )
        return
    old = stale(make, task, name)
    what = _derived(name, old) if old else f"the constructor uses {name!r}, which is set as an attribute afterwards"
    yield Note(
        "derived",
        f"{what}, so it has only a part of its effect (sure: an environment constructed with the value plays other "
        f"episodes under the same seeds and actions); {ADVICE}",
    )


def _guessed(make: GymnasiumEnvs, base: Task, name: str, steps: int, clock: Clock) -> Iterator[Note]:
    """Notes attributes that seem, by name and value, to depend on a varying attribute."""
    env = make.maker.make_env(**{k: make.maker.values(base)[k] for k in make.maker.arguments})
    bare, kind = env.unwrapped, type(env.unwrapped)
    keys = [k for k in dir(bare) if not k.startswith("_") and not isinstance(getattr(kind, k, None), property)]
    numbers = {k: float(v) for k, v in _numbers({k: getattr(bare, k, None) for k in keys}).items() if np.ndim(v) == 0}
    farewell(env)
    if not numbers.get(name) or not _words(name) & LENGTHS:
        return
    varied = {key for key, _ in base.parameters}
    for key, number in numbers.items():
        shared = _words(key) & _words(name)
        ratio = number / numbers[name]
        if (
            key in varied
            or len(shared) < SHARED_WORDS
            or not _words(key) & LENGTHS
            or not np.isclose(ratio, USUAL_RATIOS, rtol=1e-9).any()
        ):
            continue
        values = {n: list(v) for n, v in base.parameters}
        one, two = (Task.of(base.family, **values, **{key: x}) for x in (number, PERTURBED * number))
        plain, perturbed = _played(make, [one, two], steps, clock)
        if difference(plain, perturbed):
            yield Note(
                "derived",
                f"{key!r} ({number:g}) is {ratio:.4g} times {name!r} ({numbers[name]:g}) by default, has an effect, "
                f"and keeps its value when {name!r} is set (a guess from names and numbers: it may depend on "
                f"{name!r}); if so, {ADVICE}",
            )


def _words(name: str) -> set[str]:
    return set(re.findall(r"[a-z]+|\d+", name.lower()))


def _played(make: GymnasiumEnvs, tasks: Sequence[Task], steps: int, clock: Clock) -> list[Recording]:
    """Plays the tasks in a new batch, since attributes stay set."""
    envs = make(1, ROWS, steps)
    try:
        actions = varied_actions(envs)
        return [play(envs, task, actions, going=clock.going) for task in tasks]
    finally:
        envs.close()


def _own_keywords(make_env: Callable[..., Any]) -> set[str]:
    """Keywords in the signature of a function or class; none if Python cannot determine them."""
    try:
        parameters = inspect.signature(make_env).parameters.values()
    except (TypeError, ValueError):
        return set()
    return {p.name for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}
