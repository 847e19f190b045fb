"""Constructor arguments that are the same in every task, from the command line: `--set "NAME=VALUE"`.

| written | argument |
|---|---|
| `enable_wind=true` | `True`; `false` and `null` likewise |
| `frame_skip=5`, `gain=0.5` | an `int`, a `float` |
| `xml_file=robot.xml` | a string; the full path if the file exists |
| `version="2"` | a string |
| `start=[0,0.5]` | a list |

A family's name holds a constant as JSON, `xml_file="/home/me/robot.xml"`. Nothing is evaluated as code.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FORM = r"([A-Za-z_]\w*)\s*=(.*)"
WORDS = {"true": True, "false": False, "null": None, "none": None}


@dataclass(frozen=True)
class Constant:
    """A constructor argument that is the same in every task.

    Args:
        name: Name of the argument.
        value: A JSON value.
    """

    name: str
    value: Any

    @property
    def text(self) -> str:
        """The constant as written in a family's name."""
        return f"{self.name}={json.dumps(self.value, ensure_ascii=False, separators=(',', ':'))}"

    @property
    def holds_text(self) -> bool:
        """Whether the value contains a string, which an environment could use as a file or a module."""
        return '"' in json.dumps(self.value)


def parse_constant(text: str) -> Constant:
    """Reads an argument of `--set`; the path of a file becomes its full path.

    Raises:
        ValueError: The text is not `NAME=VALUE`.
    """
    match = re.fullmatch(FORM, text.strip(), re.DOTALL)
    if not match:
        raise ValueError(
            f'--set: got {text!r}, expected NAME=VALUE, such as "enable_wind=true" or "xml_file=robot.xml"'
        )
    name, word = match[1], match[2].strip()
    if re.match(r"(uniform|choice)\(", word):
        raise ValueError(f"--set: got {text!r}, which varies between tasks, expected a constant; use --vary")
    return Constant(name, _value(text, word))


def read_constant(text: str) -> Constant:
    """Reads a constant from a family's name, which holds it as JSON.

    Raises:
        ValueError: The text is not `NAME=JSON`.
    """
    match = re.fullmatch(FORM, text, re.DOTALL)
    try:
        if not match:
            raise ValueError
        return Constant(match[1], _json(match[2]))
    except ValueError as error:
        raise ValueError(
            f"got {text!r} in the name of a family, expected NAME=uniform(LOW,HIGH), NAME=choice(A,B,...), or a "
            'constant NAME=true, NAME=5 or NAME="TEXT"'
        ) from error


def refuse_repeated(constants: Sequence[Constant], varied: Sequence[str]) -> None:
    """Raises ValueError if a constant is repeated or also varies."""
    names = [constant.name for constant in constants]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"--set: got {name!r} {names.count(name)} times, expected each name once")
        if name in varied:
            raise ValueError(f"--set: got {name!r}, which --vary also names; expected only one of the two")


def _value(text: str, word: str) -> Any:
    """The value of a word of the command line."""
    if word.lower() in WORDS:
        return WORDS[word.lower()]
    for kind in (int, float):
        try:
            number = kind(word)
        except ValueError:
            continue
        if not math.isfinite(number):
            raise ValueError(f'--set: got {text!r}, expected a finite number, or a string in quotes ("{word}")')
        return number
    if word[:1] in ('"', "[", "{", "("):
        try:
            return _json(word)
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f'--set: got {text!r}, expected JSON after a quote or bracket, such as "a string" or [0,0.5,"a"]'
            ) from error
    return _full_path(word)


def _json(word: str) -> Any:
    """A JSON value; NaN and Infinity, which Python's reader accepts, are refused."""

    def refuse(name: str) -> Any:
        raise ValueError(name)

    value = json.loads(word, parse_constant=refuse)
    json.dumps(value, allow_nan=False)  # 1e999 becomes infinite
    return value


def _full_path(word: str) -> str:
    """The absolute path of an existing file, so that it is found from other folders; other words stay the same."""
    looks_like_a_path = "/" in word or Path(word).suffix
    try:
        path = Path(word).expanduser()
        return os.path.abspath(path) if looks_like_a_path and path.exists() else word
    except (OSError, RuntimeError, ValueError):
        return word
