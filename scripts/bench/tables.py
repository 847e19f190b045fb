"""Tables for the terminal and for a page."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any


def cell(value: Any) -> str:
    """A value as text: three significant digits, or the whole part if it has more; `-` for None."""
    if value is None:
        return "-"
    if not isinstance(value, float):
        return str(value)
    size = abs(value)
    if 0 < size < 0.1:
        return f"{value:.3g}"
    return f"{value:,.{2 if size < 10 else 1 if size < 100 else 0}f}"


def print_table(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Prints one line per row below the titles, with aligned columns; see `cell`."""
    lines = [tuple(columns), *(tuple(cell(row[name]) for name in columns) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for first, *others in lines:
        cells = [one.rjust(width) for one, width in zip(others, widths[1:], strict=True)]
        print("  ".join([first.ljust(widths[0]), *cells]))


def markdown(columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> str:
    """A Markdown table.

    Args:
        columns: Titles of the columns by key of the rows.
        rows: The rows.
    """
    lines = [list(columns.values()), ["---"] * len(columns), *([cell(row[key]) for key in columns] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def paragraph(*words: str) -> str:
    """Text as a paragraph with lines of at most 120 characters."""
    return textwrap.fill(" ".join(words), width=120, break_long_words=False, break_on_hyphens=False)
