"""Suggestions for mistyped names."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

NEAR = 0.75
"""Smallest similarity (difflib's ratio) of a suggestion."""
NEAR_WHEN_SHORT = 0.6
"""Smallest similarity for names of up to three letters."""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The most similar known name; None if none is similar.

    Case is ignored, and underscores equal hyphens. For at least three letters, a known name that begins with the given
    one counts as similar.
    """
    spelled = {_plain(other): other for other in known}
    cutoff = NEAR if len(name) > 3 else NEAR_WHEN_SHORT
    near = difflib.get_close_matches(_plain(name), spelled, n=1, cutoff=cutoff)
    longer = sorted(plain for plain in spelled if len(name) >= 3 and plain.startswith(_plain(name)))
    return next((spelled[plain] for plain in (*near, *longer)), None)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """` Did you mean 'NAME'?` with the most similar known name, to append to a sentence; empty if none is similar."""
    near = nearest(name, known)
    return f" Did you mean {near!r}?" if near else ""


def without_folders(family: str) -> str:
    """The name of a family without the folders of its files, for others to read.

    `mjcf:/home/me/go1.xml?...` becomes `mjcf:go1.xml?...`, and `xml_file=/home/me/ant.xml` is `xml_file=ant.xml`.
    Relative paths are left as they are.
    """
    place, mark, options = family.partition("?")
    place = re.sub(r"(?<=[:=])~?/(?:.*/)?(?=[^/])", "", place)
    return place + mark + re.sub(r"(?<==)~?/(?:[^&]*/)?(?=[^&/])", "", options)


def _plain(name: str) -> str:
    return name.lower().replace("_", "-")
