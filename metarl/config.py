"""Settings: number types with a range, and a check of all values."""

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
    """Range of a setting; `low` and `high` are included unless `open_low` or `open_high` is set."""

    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def __contains__(self, value: float) -> bool:
        above = value > self.low if self.open_low else value >= self.low
        below = value < self.high if self.open_high else value <= self.high
        return above and below and (isinstance(value, int) or math.isfinite(value))

    def __str__(self) -> str:
        above = f"{'>' if self.open_low else '>='} {self.low:g}"
        if math.isinf(self.high):
            return above
        if self.high >= 100:
            return f"{above}, at most {in_words(self.high)}"
        return f"in {'(' if self.open_low else '['}{self.low:g}, {self.high:g}{')' if self.open_high else ']'}"


def in_words(bound: float) -> str:
    """A large number in readable form: `1,000,000`, or `2^63 - 1`."""
    whole = int(bound)
    if whole > 10**12 and (whole + 1).bit_count() == 1:
        return f"2^{whole.bit_length()} - 1"
    return f"{whole:,}"


def _whole(low: int, high: int) -> Any:
    limits = Range(low, high)
    # `--help` shows the metavar instead of the value.
    return limits, tyro.conf.arg(metavar=f"INT {limits}")


def _real(limits: Range) -> Any:
    return limits, tyro.conf.arg(metavar=f"FLOAT {limits}")


# Every bound is far above any use, and far below an overflow of a counter or of float32. `metarl.memory` checks whether
# the memory suffices.
Count = Annotated[int, *_whole(1, 10**9)]
"""A whole number of at least 1: a count of repetitions or of stored things."""
Whole = Annotated[int, *_whole(0, 10**9)]
"""A whole number of at least 0."""
Seed = Annotated[int, *_whole(0, 2**63 - 1)]
"""A seed of random numbers."""
Rows = Annotated[int, *_whole(1, 10**5)]
"""A number of tasks, episodes or samples of a batch, of steps of an episode, or of gradient steps of an update."""
RowsOrOwn = Annotated[int, *_whole(0, 10**5)]
"""`Rows`, or 0 for a default or for none."""
Units = Annotated[int, *_whole(1, 2**16)]
"""Units of a layer."""
Layers = Annotated[tuple[Units, ...], Range(1, 2**16), tyro.conf.arg(metavar=f"INTS {Range(1, 2**16)}")]
"""Units of several layers."""
RowsOrNone = Annotated[Rows | None, Range(1, 10**5), tyro.conf.arg(metavar=f"INT {Range(1, 10**5)}")]
"""`Rows`, or None for a default."""
Rounds = Annotated[int, *_whole(1, 1000)]
"""A number of collects, of adaptation steps, of epochs, or of images per second."""
RoundsOrNone = Annotated[int, *_whole(0, 1000)]
"""`Rounds`, or 0."""
RoundsOrDefault = Annotated[RoundsOrNone | None, Range(0, 1000), tyro.conf.arg(metavar=f"INT {Range(0, 1000)}")]
"""`RoundsOrNone`, or None for a default."""
Pixels = Annotated[int, *_whole(16, 8192)]
"""Side length of an image."""
Seconds = Annotated[float, *_real(Range(0.01, 1e6))]
"""A time limit."""
Positive = Annotated[float, *_real(Range(0, 1e6, open_low=True))]
"""A number above 0."""
NonNegative = Annotated[float, *_real(Range(0, 1e6))]
"""A number of at least 0."""
UnitInterval = Annotated[float, *_real(Range(0, 1))]
"""A number in [0, 1]."""
Shrinking = Annotated[float, *_real(Range(0, 1, open_low=True, open_high=True))]
"""A number in (0, 1)."""


def check(config: object, prefix: str = "") -> None:
    """Checks every field of a dataclass and of nested ones against its declared type and range.

    Args:
        config: An instance of a dataclass.
        prefix: Path of the enclosing fields, for the message.

    Raises:
        ValueError: A value does not fit; the message names the field, the value, and the expected range.
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
    if typing.get_origin(kind) is Annotated and typing.get_origin(typing.get_args(kind)[0]) is not None:
        kind = typing.get_args(kind)[0]  # tuples and optional numbers: the range is inside
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
    limits = limits or (Range() if kind in (int, float) else None)
    if not right_type or (limits is not None and value not in limits):
        wanted = "a whole number" if kind is int else "a finite number" if kind is float else f"a {kind.__name__}"
        raise ValueError(
            f"{name}: got {value!r}, expected {wanted}" + (f" {limits}" if limits not in (None, Range()) else "")
        )


def to_json(config: object) -> dict[str, Any]:
    """Converts a configuration to a JSON value; tuples become lists."""
    return dataclasses.asdict(config)  # type: ignore[call-overload]  # any dataclass instance


def from_json(kind: type[ConfigT], value: Any, prefix: str = "") -> ConfigT:
    """Restores a configuration from the output of `to_json`, and checks it.

    Args:
        kind: The dataclass.
        value: The JSON value.
        prefix: Path of the enclosing fields, for the message.

    Raises:
        ValueError: A field is missing, unknown, of a wrong type, or out of range.
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
    """A JSON value with lists converted to tuples and objects to dataclasses, according to the type hint."""
    if dataclasses.is_dataclass(hint):
        return from_json(typing.cast(type, hint), item, prefix=prefix)
    if typing.get_origin(hint) is tuple and isinstance(item, list):
        return tuple(_typed(entry, typing.get_args(hint)[0], prefix) for entry in item)
    return item
