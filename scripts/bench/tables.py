"""Tables, on the terminal and on a page."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any


def cell(value: Any) -> str:
    """A value as a table shows it: two places, or three digits where it is small; `-` for None."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.2f}" if abs(value) >= 0.1 or not value else f"{value:.3g}"
    return str(value)


def print_table(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """One line per row under a line of titles, columns aligned; `-` where there is nothing to compare with."""
    lines = [tuple(columns), *(tuple(cell(row[name]) for name in columns) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for first, *others in lines:
        cells = [one.rjust(width) for one, width in zip(others, widths[1:], strict=True)]
        print("  ".join([first.ljust(widths[0]), *cells]))


def markdown(columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> str:
    """A table for a page.

    Args:
        columns: By key of the rows the titles.
        rows: The rows.
    """
    lines = [list(columns.values()), ["---"] * len(columns), *([cell(row[key]) for key in columns] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def paragraph(*words: str) -> str:
    """Words as the lines of a page."""
    return textwrap.fill(" ".join(words), width=120, break_long_words=False, break_on_hyphens=False)
