"""Settings: number types that carry their range, and the check that every value lies in it."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import tyro

ConfigT = TypeVar("ConfigT")


@dataclass(frozen=True)
class Range:
    """The numbers a setting may take: `low` and `high` included, unless the matching `open_*` is set."""

    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def __contains__(self, value: float) -> bool:
        above = value > self.low if self.open_low else value >= self.low
        below = value < self.high if self.open_high else value <= self.high
        return math.isfinite(value) and above and below

    def __str__(self) -> str:
        if math.isinf(self.high):
            return f"{'>' if self.open_low else '>='} {self.low:g}"
        return f"in {'(' if self.open_low else '['}{self.low:g}, {self.high:g}{')' if self.open_high else ']'}"


# The metavar is what `--help` shows in place of the value.
Count = Annotated[int, Range(1), tyro.conf.arg(metavar="INT >= 1")]
"""A whole number of at least 1."""
Whole = Annotated[int, Range(0), tyro.conf.arg(metavar="INT >= 0")]
"""A whole number of at least 0."""
Positive = Annotated[float, Range(0, open_low=True), tyro.conf.arg(metavar="FLOAT > 0")]
"""A finite number above 0."""
NonNegative = Annotated[float, Range(0), tyro.conf.arg(metavar="FLOAT >= 0")]
"""A finite number of at least 0."""
UnitInterval = Annotated[float, Range(0, 1), tyro.conf.arg(metavar="FLOAT in [0, 1]")]
"""A number from 0 to 1, both included."""
Shrinking = Annotated[float, Range(0, 1, open_low=True, open_high=True), tyro.conf.arg(metavar="FLOAT in (0, 1)")]
"""A number between 0 and 1, neither included."""


def check(config: object, prefix: str = "") -> None:
    """Checks every field of a dataclass, nested ones too, against its declared type and range.

    Args:
        config: An instance of a dataclass.
        prefix: Path of the fields before it, for the message.

    Raises:
        ValueError: Names the field, what it holds, and what it may hold.
    """
    hints = typing.get_type_hints(type(config), include_extras=True)
    for field in dataclasses.fields(config):  # type: ignore[arg-type]  # any dataclass instance
        value, name = getattr(config, field.name), prefix + field.name
        if dataclasses.is_dataclass(value):
            check(value, prefix=f"{name}.")
        else:
            _check_value(name, value, hints[field.name])


def _check_value(name: str, value: Any, hint: Any) -> None:
    kind, limits = hint, None
    if typing.get_origin(kind) in (typing.Union, types.UnionType) and type(None) in typing.get_args(kind):
        if value is None:
            return
        (kind,) = (part for part in typing.get_args(kind) if part is not type(None))
    if typing.get_origin(kind) is Annotated:
        kind, *extras = typing.get_args(kind)
        limits = next((e for e in extras if isinstance(e, Range)), None)
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, tuple):
            raise ValueError(f"{name}: got {value!r}, expected a sequence")
        for entry in value:
            _check_value(name, entry, typing.get_args(kind)[0])
        return
    if typing.get_origin(kind) is typing.Literal:
        if value not in typing.get_args(kind):
            raise ValueError(f"{name}: got {value!r}, expected one of {', '.join(map(str, typing.get_args(kind)))}")
        return
    right_type = isinstance(value, int | float) if kind is float else isinstance(value, kind)
    if kind in (int, float) and isinstance(value, bool):
        right_type = False
    if not right_type or (kind is float and not math.isfinite(value)) or (limits is not None and value not in limits):
        wanted = "a whole number" if kind is int else "a finite number" if kind is float else f"a {kind.__name__}"
        raise ValueError(f"{name}: got {value!r}, expected {wanted}" + (f" {limits}" if limits else ""))


def to_json(config: object) -> dict[str, Any]:
    """A configuration as a JSON value; tuples become lists."""
    return dataclasses.asdict(config)  # type: ignore[call-overload]  # any dataclass instance


def from_json(kind: type[ConfigT], value: Any, prefix: str = "") -> ConfigT:
    """The configuration that `to_json` wrote, checked.

    Args:
        kind: The dataclass.
        value: The JSON value.
        prefix: Path of the fields before it, for the message.

    Raises:
        ValueError: A field is missing, unknown, of another type, or out of range.
    """
    fields = {f.name for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    if not isinstance(value, dict) or set(value) != fields:
        got = sorted(value) if isinstance(value, dict) else value
        raise ValueError(f"{prefix or 'config'}: got {got!r}, expected the fields {sorted(fields)}")
    hints = typing.get_type_hints(kind)
    arguments = {}
    for name, item in value.items():
        arguments[name] = _typed(item, hints[name], f"{prefix}{name}.")
    config = kind(**arguments)
    check(config, prefix)
    return config


def _typed(item: Any, hint: Any, prefix: str) -> Any:
    """A JSON value with lists as tuples and objects as dataclasses, wherever the type hint says so."""
    if dataclasses.is_dataclass(hint):
        return from_json(typing.cast(type, hint), item, prefix=prefix)
    if typing.get_origin(hint) is tuple and isinstance(item, list):
        return tuple(_typed(entry, typing.get_args(hint)[0], prefix) for entry in item)
    return item
