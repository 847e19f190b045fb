"""`metarl check FAMILY`: plays a family and reports its faults, with advice."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import tyro

from metarl.config import Range, check
from metarl.envs.silence import silence
from metarl.gymnasium_envs.check.contract import Clock, examine
from metarl.gymnasium_envs.from_gym import gym_spec
from metarl.registry import make_family
from metarl.scripts.common import border, end_with_json, parse
from metarl.scripts.ending import run_as_process
from metarl.scripts.families import GymOptions

Seconds = Annotated[float, Range(0, 86400, open_low=True), tyro.conf.arg(metavar="FLOAT in (0, 86400]")]


@dataclass(frozen=True, kw_only=True)
class CheckCommand(GymOptions):
    """Plays a few episodes of a family and reports problems. Exit code 0: none; 1: some."""

    family: Annotated[str, tyro.conf.Positional]
    """Family to check: a name, gym:ID, or your own module:function."""
    seconds: Seconds = 60.0
    """Time limit, s. Checks that did not finish are listed."""
    json: bool = False
    """Print the results as one JSON line at the end."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    with border():
        command: CheckCommand = parse(
            CheckCommand, "metarl check", list(sys.argv[1:] if arguments is None else arguments)
        )
        check(command)
        spec = gym_spec(command.family, command.vary, command.constants)
        progress = _Progress(spec)
        clock = Clock(command.seconds, progress.show)
        family = make_family(spec)
        findings = examine(family, clock, spec, reasons=silence)
    progress.end()
    for sentence in findings.seen:
        print(f"seen: {sentence.message}")
    for words in family.notes:
        print(f"note: {words}")
    for note in findings.notes:
        print(f"note: {note.kind}: {note.message}")
    problems = findings.problems
    for problem in problems:
        if problem.trace:
            print(problem.trace.rstrip(), file=sys.stderr)
        print(f"{problem.kind}: {problem.message}")
    if findings.skipped:
        print(f"not checked within {command.seconds:g} s (--seconds): {'; '.join(findings.skipped)}")
    kind = "a Gymnasium environment" if family.stepping else "a batch, without Gymnasium's check_env"
    print(f"{family.name} ({kind}): {len(problems) or 'no'} problem{'s' if len(problems) != 1 else ''} found")
    if command.json:
        result: dict[str, Any] = {"family": family.name, "problems": [asdict(problem) for problem in problems]}
        if findings.notes:
            result["notes"] = [asdict(note) for note in findings.notes]
        if findings.skipped:
            result["not_looked_at"] = findings.skipped
        end_with_json(result)
    return 1 if problems else 0


class _Progress:
    """A line on stderr with the current check and the time left: updated in place on a terminal, else printed again.

    Args:
        title: Name of the family.
    """

    FIRST, EVERY = 1.0, 5.0

    def __init__(self, title: str) -> None:
        self._title, self._live = title, sys.stderr.isatty()
        self._next, self._shown = time.monotonic() + self.FIRST, 0

    def show(self, what: str, left: float) -> None:
        """Shows the line if enough time has passed."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + (0.2 if self._live else self.EVERY)
        line = f"checking {self._title}: {what}, at most {left:.0f} s left"
        if self._live:
            line = line[:110]
            print(f"\r{line:{self._shown}}", end="", file=sys.stderr, flush=True)
            self._shown = len(line)
        else:
            print(line, file=sys.stderr, flush=True)

    def end(self) -> None:
        """Clears the line."""
        if self._shown:
            print(f"\r{'':{self._shown}}\r", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    run_as_process(main)
