"""Names that somebody mistyped: the nearest one there is, if any is near."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

NEAR = 0.75
"""Similarity (difflib's ratio) from which one name may have been meant by another."""
NEAR_WHEN_SHORT = 0.6
"""The same for names of up to three letters, in which one letter counts for more."""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that was probably meant; None if no one is near.

    Capital letters, underscores and hyphens make no difference. A known name that begins with the given one, from three
    letters on, counts as near too.
    """
    spelled = {_plain(other): other for other in known}
    cutoff = NEAR if len(name) > 3 else NEAR_WHEN_SHORT
    near = difflib.get_close_matches(_plain(name), spelled, n=1, cutoff=cutoff)
    longer = sorted(plain for plain in spelled if len(name) >= 3 and plain.startswith(_plain(name)))
    return next((spelled[plain] for plain in (*near, *longer)), None)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """` Did you mean 'NAME'?` with the nearest known name, for the middle of a message; empty if no one is near."""
    near = nearest(name, known)
    return f" Did you mean {near!r}?" if near else ""


def _plain(name: str) -> str:
    return name.lower().replace("_", "-")
