"""The terminal: what is printed there is printed as it is, whatever it holds."""

from __future__ import annotations

import sys

from rich.console import Console

WIDE = 160
"""Columns of a table that goes to a file or a pipe."""


def console(*, stderr: bool = False) -> Console:
    """A console that takes no text for markup or emoji: names, options and paths are the user's.

    Args:
        stderr: Print there, in the terminal's width; on stdout tables are wide where it is no terminal.
    """
    if stderr:
        return Console(file=sys.stderr, markup=False, emoji=False)
    return Console(markup=False, emoji=False, width=None if sys.stdout.isatty() else WIDE)
