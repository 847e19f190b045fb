"""Schemes: families named `SCHEME:REST`, such as `gym:ID`, which a package makes from the name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from metarl.tasks import Family


def _always(name: str) -> bool:
    return True


def _nothing(*_: object) -> str:
    return ""


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """Makes the families of a scheme; registered as an entry point of the group `metarl.schemes`.

    Args:
        make_family: Maps a name, scheme included, to its family. Raises ValueError for a name that it cannot read.
        usage: Form of such names, for messages: "gym:ID for a registered Gymnasium environment".
        is_own_code: Whether `make_family` imports code named by `REST`. Such a name is accepted from a command
            line or a call, never from a file. True by default, for every name.
        suggestion: Maps an unknown family's name to the nearest name under this scheme; empty if there is none.
        instead_of: Advice on `module:function` if its object is no family; called with name and object, empty for no
            advice.
    """

    make_family: Callable[[str], Family]
    usage: str
    is_own_code: Callable[[str], bool] = _always
    suggestion: Callable[[str], str] = _nothing
    instead_of: Callable[[str, object], str] = _nothing
