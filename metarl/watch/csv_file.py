"""CSV: the numbers of `metrics.jsonl` as a table, `metrics.csv`."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from metarl.files import write_bytes
from metarl.metrics_log import log_line, read_log
from metarl.training import IterationReport
from metarl.watch.protocol import RunStart


class CsvFile:
    """Writes a table with one line per iteration; the file is complete at any time.

    A metric that appears later adds a column, empty in the lines before it. A resumed run begins with the lines that
    `metrics.jsonl` keeps, so that no iteration occurs twice. Numbers have all their digits; null is an empty field.
    """

    def __init__(self) -> None:
        self._path = Path()
        self._file: IO[bytes] | None = None
        self._rows: list[dict[str, Any]] = []
        self._names: list[str] = []

    def start(self, start: RunStart) -> None:
        """Writes the lines of earlier iterations."""
        self._path = start.out.absolute() / "metrics.csv"
        self._rows = read_log(start.out / "metrics.jsonl")
        self._names = list(dict.fromkeys(name for row in self._rows for name in row))
        self._rewrite()

    def iteration(self, report: IterationReport) -> None:
        """Appends the line of an iteration; rewrites the table if it has a new column."""
        row = log_line(report.progress, report.metrics)
        self._rows.append(row)
        new = [name for name in row if name not in self._names]
        if new or self._file is None:
            self._names += new
            self._rewrite()
        else:
            self._file.write(_table([row], self._names))  # unbuffered: the line in one piece

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _rewrite(self) -> None:
        self.close()
        header = _table([dict(zip(self._names, self._names, strict=True))], self._names) if self._names else b""
        write_bytes(self._path, header + _table(self._rows, self._names))
        self._file = open(self._path, "ab", buffering=0)  # noqa: SIM115  # stays open for the run


def _table(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> bytes:
    """Lines of a CSV file."""
    text = io.StringIO()
    csv.DictWriter(text, names, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()
