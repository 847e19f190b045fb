"""The terminal: text is printed literally."""

from __future__ import annotations

import sys

from rich.console import Console

WIDE = 160
"""Width of a table in a file or a pipe, columns."""


def console(*, stderr: bool = False) -> Console:
    """A console that prints text literally, since names, options and paths of a user may look like markup or emoji.

    Args:
        stderr: Print on stderr, in the terminal's width. On stdout, tables are wide unless it is a terminal.
    """
    if stderr:
        return Console(file=sys.stderr, markup=False, emoji=False)
    return Console(markup=False, emoji=False, width=None if sys.stdout.isatty() else WIDE)
