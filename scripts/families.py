"""The family that a command line names, and what a finished run is looked at with."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from metarl.agent import MetaAgent
from metarl.gymnasium_envs.from_gym import named_again
from metarl.gymnasium_envs.vary import FORMS
from metarl.registry import is_own_code, make_family
from metarl.runs import RunConfig, load_with_progress
from metarl.tasks import Family
from metarl.types import Progress

VARIATION = tyro.conf.arg(metavar=f'"{FORMS}"')
CONSTANT = tyro.conf.arg(name="set", metavar='"NAME=VALUE"')


@dataclass(frozen=True, kw_only=True)
class GymOptions:
    """What the command line says of a family gym:ID."""

    vary: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, VARIATION] = ()
    """With gym:ID, what its tasks differ in: an argument of the environment's constructor, or an attribute. May be
    repeated."""
    constants: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, CONSTANT] = ()
    """With gym:ID, an argument that the constructor gets in every task: "enable_wind=true", "xml_file=robot.xml". May
    be repeated."""


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
    return family.with_stepping(run.stepping)
