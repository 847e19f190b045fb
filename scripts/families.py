"""The family that a command line names, and the agent and family of a finished run."""

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
    """Options for a family gym:ID."""

    vary: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, VARIATION] = ()
    """With gym:ID, a parameter in which tasks differ: a constructor argument or an attribute of the environment."""
    constants: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, CONSTANT] = ()
    """With gym:ID, a constructor argument that is the same in every task: "enable_wind=true", "xml_file=robot.xml"."""


def agent_of_run(
    run_dir: Path, device: Literal["auto", "cpu", "cuda"], checkpoint: Path | None = None
) -> tuple[MetaAgent[Any], Progress]:
    """The agent of a run and its counters; names damaged checkpoints on stderr."""
    agent, progress, complaints = load_with_progress(run_dir, device=device, checkpoint=checkpoint)
    for line in complaints:
        print(f"warning: {line}", file=sys.stderr)
    return agent, progress


def family_of_run(run: RunConfig, named: str | None) -> Family:
    """The run's family, or the one named on the command line; `gym:ID` alone stands for the run's `gym:ID?...`.

    Raises:
        ValueError: The run's family is code of the user's own, and the command line does not name it again.
    """
    if named is None and is_own_code(run.family):
        raise ValueError(
            f"--family: got none, but the run's family {run.family!r} is code of your own; name it again with --family"
        )
    family = make_family(named_again(run.family, named)).with_finite_train_set(run.training.train_tasks)
    return family.with_stepping(run.stepping)
