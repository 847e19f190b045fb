"""Digests of the files that a family is made of, such as those of a robot: `MAKER:SHA-256`.

The maker names what computed the digest, with its version: digests of two makers say nothing about each other.
"""

from __future__ import annotations


def differ(one: str, other: str) -> bool:
    """Whether two digests are known to be those of different files; an empty one is unknown."""
    return _comparable(one, other) and one != other


def may_be_same(one: str, other: str) -> bool:
    """Whether two digests are known, and either equal or of makers that cannot be compared."""
    return bool(one and other) and not differ(one, other)


def warning(what: str, file: str, before: str, now: str) -> str:
    """One line on a robot that is not, or may not be, the one of the training; empty if all is well, or unknown.

    Args:
        what: Folder of the run.
        file: Name of the family now.
        before: Digest that the run recorded.
        now: Digest of the same family now.
    """
    if differ(before, now):
        return (
            f"the robot of {what} has changed since the training: {file} has other physics "
            f"({_short(now)}, trained on {_short(before)}); results are of another robot"
        )
    if before and now and before != now:
        return (
            f"whether the robot of {what} has changed since the training cannot be told: it was trained with "
            f"{_maker(before)}, here is {_maker(now)}"
        )
    return ""


def _comparable(one: str, other: str) -> bool:
    return bool(one and other) and _maker(one) == _maker(other)


def _maker(digest: str) -> str:
    return digest.partition(":")[0]


def _short(digest: str) -> str:
    return digest.partition(":")[2][:8]
