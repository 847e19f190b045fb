"""The family on a command line, and agent and family of a run."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

import tyro

from metarl.agent import MetaAgent
from metarl.digests import warning
from metarl.few_shot.run import is_few_shot
from metarl.gymnasium_envs.from_gym import named_again
from metarl.gymnasium_envs.vary import FORMS
from metarl.registry import AGENTS, agent_class, full_name, is_own_agent, is_own_code, make_family
from metarl.run_config import own_agent_of, read_config
from metarl.runs import RunConfig, load_with_progress
from metarl.schemes import MissingFileError
from metarl.tasks import Family
from metarl.types import Progress

VARIATION = tyro.conf.arg(metavar=f'"{FORMS}"')
CONSTANT = tyro.conf.arg(name="set", metavar='"NAME=VALUE"')


@dataclass(frozen=True, kw_only=True)
class GymOptions:
    """Options for a family gym:ID."""

    vary: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, VARIATION] = ()
    """For gym:ID: a constructor argument or attribute that varies between tasks. May be repeated."""
    constants: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, CONSTANT] = ()
    """For gym:ID: a constructor argument that is the same in all tasks, such as "enable_wind=true". May be repeated."""


OwnAgents = Mapping[str, type[MetaAgent[Any]]]
"""A user's classes that a command line names, by class name."""


def own_agents(specs: Sequence[str], group: str = AGENTS) -> OwnAgents:
    """The classes that a command line names as `module:Class`.

    Args:
        specs: The names.
        group: Entry-point group of their kind.

    Raises:
        ValueError: A name has another form, or there is no such class.
        EnvError: The module raised.
    """
    for spec in specs:
        if not is_own_agent(spec):
            raise ValueError(f"--agent: got {spec!r}, expected module:Class; registered agents are found without it")
    return {spec.rpartition(":")[2]: agent_class(spec, group) for spec in specs}


def check_named(own: OwnAgents, run_dirs: Sequence[Path]) -> None:
    """Raises ValueError if the command line names an agent that trained none of the runs."""
    trained = {own_agent_of(run_dir) for run_dir in run_dirs}
    for name, kind in own.items():
        if name not in trained:
            folders = ", ".join(map(str, run_dirs))
            raise ValueError(f"--agent: got {kind.__module__}:{name}, which did not train {folders}; leave --agent out")


COMPARED = "few-shot runs are compared by metarl evaluate FEW_SHOT_RUN --reference FEW_SHOT_RUN"
"""Advice of commands that compare runs, for few-shot runs."""


def config_of_run(run_dir: Path, own: OwnAgents, instead: str = COMPARED) -> RunConfig:
    """The configuration of a run whose agent is registered or named on the command line.

    Args:
        run_dir: Folder of the run.
        own: Classes of agents that the command line names.
        instead: Advice for a few-shot run, which the command does not take.

    Raises:
        ValueError: The folder is no run, it is a few-shot run, or its agent has to be named.
    """
    if is_few_shot(read_config(run_dir)[1]):
        raise ValueError(f"{run_dir}: got a few-shot run, expected one on episodes; {instead}")
    return RunConfig.read(run_dir, own.get(own_agent_of(run_dir)))


def agent_of_run(
    run_dir: Path,
    device: Literal["auto", "cpu", "cuda"],
    checkpoint: Path | None = None,
    own: OwnAgents = MappingProxyType({}),
    family: Family | None = None,
) -> tuple[MetaAgent[Any], Progress]:
    """The agent of a run and its counters; names damaged checkpoints on stderr.

    Args:
        run_dir: Folder of the run.
        device: Device of the agent.
        checkpoint: Checkpoint file; the newest intact one by default.
        own: Classes of agents that the command line names.
        family: The family that the agent is to act in; one that plans uses its reward.
    """
    named: dict[str, Any] = {"checkpoint": checkpoint, "agent": own.get(own_agent_of(run_dir)), "family": family}
    agent, progress, complaints = load_with_progress(run_dir, device=device, **named)
    for line in complaints:
        print(f"warning: {line}", file=sys.stderr)
    return agent, progress


def family_name_of_run(run: RunConfig, named: str | None) -> str:
    """The name of `family_of_run` in full: with the variations of `gym:ID?...`, and a path that holds anywhere."""
    return full_name(named_again(run.family, named))


def family_of_run(run: RunConfig, named: str | None) -> Family:
    """The run's family, or the one named on the command line; `gym:ID` alone stands for the run's `gym:ID?...`.

    Raises:
        ValueError: The run's family is the user's own code, or its file is missing, and the command line does not name
            it again.
    """
    if named is None and is_own_code(run.family):
        raise ValueError(
            f"--family: got none, but the run's family {run.family!r} is code of your own; name it again with --family"
        )
    try:
        family = make_family(named_again(run.family, named)).with_finite_train_set(run.training.train_tasks)
    except MissingFileError as error:
        if named is not None:
            raise
        scheme, options = run.family.partition(":")[0], run.family.partition("?")[2]
        again = f'--family "{scheme}:NEW?{options}"'
        raise ValueError(f"{error}; if it was moved to NEW, name it anew: {again}") from error
    return family.with_stepping(run.stepping)


def checked_digest(family: Family, runs: Iterable[tuple[Path, RunConfig]]) -> str:
    """The digest of the files that a family is made of; warns on stderr of runs that were trained on others.

    Args:
        family: The family, as it is now.
        runs: Folder and configuration of each run.

    Returns:
        The digest; empty for a family without files.
    """
    digest = family.digest()
    for path, run in runs:
        if said := warning(str(path), family.name, run.family_digest, digest):
            print(f"warning: {said}", file=sys.stderr)
    return digest
