"""What a finished run is looked at with: its agent and its family."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Literal

import tyro

from metarl.agent import MetaAgent
from metarl.checkpoint import Progress
from metarl.custom.family import with_stepping
from metarl.custom.from_gym import named_again
from metarl.registry import is_own_code, make_family
from metarl.runs import RunConfig, load_with_progress
from metarl.tasks import Family

CONSTANT = tyro.conf.arg(name="set", metavar='"NAME=VALUE"')
"""How the commands call the constants of an environment's constructor."""


def agent_of_run(
    run_dir: Path, device: Literal["auto", "cpu", "cuda"], checkpoint: Path | None = None
) -> tuple[MetaAgent[Any], Progress]:
    """The agent of a run and its counters; says on stderr which checkpoints were damaged."""
    agent, progress, complaints = load_with_progress(run_dir, device=device, checkpoint=checkpoint)
    for line in complaints:
        print(f"warning: {line}", file=sys.stderr)
    return agent, progress


def family_of_run(run: RunConfig, named: str | None) -> Family:
    """The run's family, or the one that the command line names; `gym:ID` alone stands for the run's `gym:ID?...`.

    Raises:
        ValueError: The run's family is code of the user's own, and the command line does not name it again.
    """
    if named is None and is_own_code(run.family):
        raise ValueError(
            f"--family: got none, but the run's family {run.family!r} is code of your own; name it again with --family"
        )
    family = make_family(named_again(run.family, named)).with_finite_train_set(run.training.train_tasks)
    return with_stepping(family, run.stepping)
