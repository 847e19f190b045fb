"""Settings as words of a command line, and words as values of a setting."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Sequence
from typing import Annotated, Any

from metarl.config import Range
from metarl.run_setup import RunSettings

SEPARATOR = "x"
"""Between the numbers of a sequence in a range: `hidden=choice(64x64,128x128)`."""


def kind_of(hint: Any) -> tuple[Any, bool]:
    """The type of a setting without its range, and whether it may be None: `(int, True)`."""
    optional = False
    while True:
        if typing.get_origin(hint) is Annotated:
            hint = typing.get_args(hint)[0]
        elif typing.get_origin(hint) in (typing.Union, types.UnionType):
            parts = typing.get_args(hint)
            optional = optional or type(None) in parts
            hint = next(part for part in parts if part is not type(None))
        else:
            return hint, optional


def limits_of(hint: Any) -> Range:
    """The range of a setting, endless if it declares none."""
    while typing.get_origin(hint) is Annotated:
        inner, *extras = typing.get_args(hint)
        found = next((one for one in extras if isinstance(one, Range)), None)
        if found is not None:
            return found
        hint = inner
    return Range()


def value_of(text: str, hint: Any) -> Any:
    """The value that a word stands for.

    Args:
        text: A number, `true` or `false`, `none`, a name, or numbers of a sequence separated by `x`.
        hint: The setting's type.

    Raises:
        ValueError: The word is no value of that type.
    """
    kind, optional = kind_of(hint)
    word = text.strip()
    if optional and word.lower() == "none":
        return None
    if kind is bool:
        if word.lower() not in ("true", "false"):
            raise ValueError(f"got {word!r}, expected true or false")
        return word.lower() == "true"
    if kind is int:
        try:
            return int(word)
        except ValueError:
            raise ValueError(f"got {word!r}, expected a whole number") from None
    if kind is float:
        try:
            return float(word)
        except ValueError:
            raise ValueError(f"got {word!r}, expected a number") from None
    if typing.get_origin(kind) is tuple:
        parts = [] if word.lower() == "none" else word.split(SEPARATOR)
        return tuple(value_of(part, typing.get_args(kind)[0]) for part in parts)
    return word


def text_of(value: Any) -> str:
    """The word of a value; the inverse of `value_of`."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return SEPARATOR.join(map(text_of, value)) or "none"
    return "none" if value is None else str(value)


def differing_words(settings: RunSettings, base: RunSettings) -> list[str]:
    """The options of `metarl train` that turn some settings into others.

    Args:
        settings: The settings to reach.
        base: The settings of a command line without these options.
    """
    words = _differing(settings.training, base.training, "--")
    words += _differing(settings.agent, base.agent, "--agent.")
    if settings.stepping and base.stepping:
        words += _differing(settings.stepping, base.stepping, "--")
    return words


def _differing(config: Any, base: Any, prefix: str) -> list[str]:
    words: list[str] = []
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if value != getattr(base, field.name):
            words += _option(prefix, field.name.replace("_", "-"), value)
    return words


def _option(prefix: str, name: str, value: Any) -> Sequence[str]:
    if isinstance(value, bool):
        return [f"{prefix}{'' if value else 'no-'}{name}"]
    if isinstance(value, tuple):
        return [f"{prefix}{name}", *map(str, value)]
    return [f"{prefix}{name}", str(value)]
