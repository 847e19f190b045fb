"""Finds sentences that begin with Of, What, Where or Whoever, in docstrings, help and pages.

Such an opening hides the noun that a sentence is about. Usage: `python tools/openings.py [--commands] [FILE ...]`; all
files of the checkout by default. With `--commands` the output of `metarl list` and of every agent's
`metarl train AGENT point-robot --help` is read too. Exit code 1 if there is such a sentence, each on a line of its own.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BANNED = re.compile(r"\b(Of|What|Where|Whoever)\b")
FENCE = re.compile(r"^[ \t]*(```|~~~).*?^[ \t]*\1[ \t]*$", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"(?<=\n\n)((?: {4}|\t).*\n)+")
INLINE = re.compile(r"(`+)(?!`).+?(?<!`)\1(?!`)", re.DOTALL)
OPENING_MARKUP = " \t\"'(\u201c[*_"
ENDS = tuple(".!?:;|#-+>\u2022")
"""Characters after which a sentence may begin: the end of another, a table's cell, a heading, an item of a list."""
HELP = ("help", "description", "epilog", "summary", "meaning", "source")
"""Keyword arguments and class attributes whose text the commands print."""


def _blank(match: re.Match[str]) -> str:
    """Code as a lower-case letter for each character, so that neither lines nor positions change."""
    return re.sub(r"[^\n]", "x", match.group())


def begins(text: str, at: int) -> bool:
    """Whether a sentence, a cell, an item or a paragraph begins at this position."""
    before = text[:at].rstrip(OPENING_MARKUP)
    if before.rstrip("\n") != before:
        line = before.rstrip("\n")
        parted = before.count("\n") - line.count("\n") > 1
        return not line or parted or line.endswith(ENDS) or line.rpartition("\n")[2].startswith("#")
    return not before or before.endswith(ENDS) or bool(re.search(r"(^|\n)\s*\d+[.)]$", before))


def openings(text: str, *, markdown: bool = False) -> Iterator[tuple[int, str]]:
    """The line (from 0) and the first words of each sentence with a banned opening; code does not count.

    Args:
        text: Plain text or Markdown.
        markdown: Whether indented blocks are code too.
    """
    prose = text
    for code in (FENCE, INDENTED, INLINE) if markdown else (FENCE, INLINE):
        prose = code.sub(_blank, prose)
    for match in BANNED.finditer(prose):
        if begins(prose, match.start()):
            yield prose.count("\n", 0, match.start()), " ".join(text[match.start() :].split()[:8])


def _strings(node: ast.expr) -> Iterator[tuple[int, str]]:
    """The constants of an expression that is a text: plain, formatted, or several joined."""
    for part in ast.walk(node):
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            yield part.lineno, part.value


def texts(source: str) -> Iterator[tuple[int, str]]:
    """The docstrings, field strings and help of a Python file, each with its first line."""
    for node in ast.walk(ast.parse(source)):
        alone = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant | ast.JoinedStr)
        if isinstance(node, ast.Expr | ast.keyword) and (alone or getattr(node, "arg", None) in HELP):
            yield from _strings(node.value)
        elif isinstance(node, ast.AnnAssign | ast.Assign) and node.value is not None:
            targets = [node.target] if isinstance(node, ast.AnnAssign) else node.targets
            if any(isinstance(target, ast.Name) and target.id in HELP for target in targets):
                yield from _strings(node.value)


def of_file(path: Path) -> Iterator[tuple[int, str]]:
    """Line (from 1) and first words of each banned opening in a file."""
    source = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        for first, text in texts(source):
            yield from ((first + line, words) for line, words in openings(text))
    else:
        yield from ((1 + line, words) for line, words in openings(source, markdown=True))


def of_output(text: str) -> Iterator[str]:
    """First words of each banned opening in the output of a command; a line, a column or a box begins a sentence."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    parted = re.sub(r"^[ \t]*|[\u2500-\u257f]+|(?<=\S) {2,}(?=\S)", " | ", plain, flags=re.MULTILINE)
    yield from (words for _, words in openings(parted))


def _files() -> list[Path]:
    """All Python and Markdown files of the checkout, but those that git ignores."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "*.py", "*.md", "*.cff"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file() and not path.is_symlink()]


def outputs(commands: Sequence[Sequence[str]]) -> Iterator[tuple[str, str]]:
    """Each command of metarl and its output.

    Raises:
        SystemExit: A command failed.
    """
    from metarl.scripts.cli import main

    os.environ["COLUMNS"] = "200"
    for words in commands:
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            try:
                code: int | str | None = main(words)
            except SystemExit as stop:
                code = stop.code
        command = " ".join(["metarl", *words])
        if code:
            raise SystemExit(f"{command}: ended with exit code {code}")
        yield command, printed.getvalue()


def _commands() -> list[list[str]]:
    """`list`, and the help of every agent."""
    from metarl.registry import AGENTS, names

    return [["list"], *(["train", agent, "point-robot", "--help"] for agent in names(AGENTS))]


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints each banned opening; returns the exit code: 1 if there is one."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("files", nargs="*", type=Path, help="Python and Markdown files; all by default")
    parser.add_argument("--commands", action="store_true", help="read the output of metarl's commands too")
    options = parser.parse_args(arguments)
    found = []
    for path in options.files or _files():
        place = path.resolve()
        name = place.relative_to(ROOT) if place.is_relative_to(ROOT) else path
        found += [f"{name}:{line}: {words}" for line, words in of_file(path)]
    for command, printed in outputs(_commands() if options.commands else []):
        found += [f"{command}: {words}" for words in of_output(printed)]
    print("\n".join(found), end="\n" if found else "")
    if found:
        print(f"{len(found)} sentences begin with Of, What, Where or Whoever; begin with the noun", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
