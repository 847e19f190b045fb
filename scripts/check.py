"""`metarl check FAMILY`: what is wrong with a family, in words that say what to change."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated

import tyro

from metarl.custom.contract import check_family
from metarl.custom.family import stepping_of
from metarl.custom.from_gym import gym_spec
from metarl.registry import make_family
from metarl.scripts.common import border, end_with_json, parse
from metarl.scripts.families import GymOptions


@dataclass(frozen=True, kw_only=True)
class CheckCommand(GymOptions):
    """Plays a few episodes of a family, and says what is wrong with it: exit code 0 for nothing, 1 for something."""

    family: Annotated[str, tyro.conf.Positional]
    """Family to check: its name, gym:ID, or your own module:function."""
    json: bool = False
    """End stdout with one line of JSON."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    with border():
        command: CheckCommand = parse(
            CheckCommand, "metarl check", list(sys.argv[1:] if arguments is None else arguments)
        )
        family = make_family(gym_spec(command.family, command.vary, command.constants))
        problems = check_family(family)
    for problem in problems:
        if problem.trace:
            print(problem.trace.rstrip(), file=sys.stderr)
        print(f"{problem.kind}: {problem.message}")
    kind = "a Gymnasium environment" if stepping_of(family) else "a batch of its own, so without Gymnasium's check_env"
    print(f"{family.name} ({kind}): {len(problems) or 'no'} problem{'s' if len(problems) != 1 else ''} found")
    if command.json:
        end_with_json({"family": family.name, "problems": [asdict(problem) for problem in problems]})
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
