"""Schemes: families named `SCHEME:REST`, such as `gym:ID`, which a package makes from the name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from metarl.tasks import Family


class MissingFileError(ValueError):
    """A family's name has the path of a file, and there is none."""


def _always(name: str) -> bool:
    return True


def _nothing(*_: object) -> str:
    return ""


def _same(name: str) -> str:
    return name


def _scheme(name: str) -> str:
    return name.partition(":")[0]


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """Makes the families of a scheme; registered as an entry point of the group `metarl.schemes`.

    Args:
        make_family: Maps a name, scheme included, to its family. Raises ValueError for a name that it cannot read,
            MissingFileError if a file that the name gives is missing.
        usage: Form of such names, for messages: "gym:ID for a registered Gymnasium environment".
        is_own_code: Whether `make_family` imports code named by `REST`. Such a name is accepted from a command
            line or a call, never from a file. True by default, for every name.
        suggestion: Maps an unknown family's name to the nearest name under this scheme; empty if there is none.
        full_name: Maps a name of the command line to the one that a run records, which means the same in any folder.
        preset: Maps a name to the one under which tables of presets list such families; the scheme itself by default.
        instead_of: Advice on `module:function` if its object is no family; called with name and object, empty for no
            advice.
    """

    make_family: Callable[[str], Family]
    usage: str
    is_own_code: Callable[[str], bool] = _always
    suggestion: Callable[[str], str] = _nothing
    full_name: Callable[[str], str] = _same
    preset: Callable[[str], str] = _scheme
    instead_of: Callable[[str, object], str] = _nothing
