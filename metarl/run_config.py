"""The part of a run's configuration that all kinds of experience share."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch

from metarl.agent import MetaAgent
from metarl.config import Count, Rows, Seed, Whole
from metarl.files import read_json, write_json
from metarl.registry import AGENTS, agent_class, is_own_agent


@dataclass(frozen=True, kw_only=True)
class LearningConfig:
    """Settings of every run, whatever it learns from."""

    seed: Seed = 0
    """Seed of everything random in the run."""
    iterations: Count = 100
    """Total number of meta-updates; a resumed run may raise it."""
    tasks: Rows = 20
    """Tasks of a meta-batch (M); usually 10 to 100."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device of the agent's networks; auto uses CUDA if available."""
    matmul: Literal["float32", "tf32"] = "float32"
    """Precision of matrix products on a GPU: tf32 is faster, with a mantissa of 10 bits instead of 23."""
    eval_every: Whole = 10
    """Iterations between evaluations; 0 for none. A resumed run may change it.
    These held-out tasks differ from those that `metarl evaluate` reports, so settings may be chosen by them."""
    eval_tasks: Rows = 40
    """Number of tasks per evaluation."""
    checkpoint_every: Count = 5
    """Iterations between checkpoints; the last iteration is always saved."""
    checkpoints_kept: Count = 2
    """Number of newest checkpoints to keep, at least 2."""


@dataclass(frozen=True, kw_only=True)
class BaseRun(ABC):
    """All settings that affect the results of a run, for any kind of experience.

    Args:
        agent: Name of the agent.
        family: Name of the family, as on the command line.
        training: Settings of the run.
        agent_config: Settings of the agent, an instance of its `Config`.
        spaces: Sizes of the data that the agent was built for.
        own_agent: Class of an agent that no package registers, as the caller named it; `config.json` records only
            `agent`, `module:Class`.

    Attributes:
        group: Entry-point group of its agents.
    """

    group: ClassVar[str] = AGENTS

    agent: str
    family: str
    training: LearningConfig
    agent_config: Any
    spaces: Any
    own_agent: type[MetaAgent[Any]] | None = field(default=None, compare=False)

    @property
    def agent_type(self) -> type[MetaAgent[Any]]:
        """The agent's class."""
        return self.own_agent or announced_agent(self.agent, self.group)

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """The content of `config.json`."""

    @classmethod
    @abstractmethod
    def read(cls, run_dir: Path, agent: type[MetaAgent[Any]] | None = None) -> Self:
        """Reads and checks `config.json`; a file alone never imports an agent that no package registers.

        Args:
            run_dir: The folder of the run.
            agent: Class of such an agent.

        Raises:
            ValueError: The folder is no run, its configuration is damaged, or its agent has to be named.
        """

    def write(self, run_dir: Path) -> None:
        """Writes `config.json`."""
        write_json(run_dir / "config.json", self.to_json())

    def build_agent(self, device: torch.device, rng: np.random.Generator) -> MetaAgent[Any]:
        """A new, untrained agent of this configuration."""
        return self.agent_type.build(self.agent_config, self.spaces, device=device, rng=rng)

    def has_family_of(self, other: BaseRun) -> bool:
        """Whether another run is on the same family."""
        return self.family == other.family

    def changed_fields(self, other: BaseRun, may_change: tuple[str, ...]) -> list[str]:
        """Names of the settings that differ between two configurations, without those in `may_change`."""

        def flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
            pairs: dict[str, Any] = {}
            for key, item in value.items():
                pairs |= flat(item, f"{prefix}{key}.") if isinstance(item, dict) else {f"{prefix}{key}": item}
            return pairs

        mine, theirs = (
            flat(json.loads(json.dumps(self.to_json()))),
            flat(json.loads(json.dumps(other.to_json()))),
        )
        names = sorted(set(mine) | set(theirs))
        return [name for name in names if mine.get(name) != theirs.get(name) and name not in may_change]


def read_config(run_dir: Path) -> tuple[Path, Any]:
    """Path and content of a run's `config.json`.

    Raises:
        ValueError: The folder is no run.
    """
    path = Path(run_dir) / "config.json"
    if not path.is_file():
        seeds = sorted(Path(run_dir).glob("seed-*/config.json"))
        if seeds:
            raise ValueError(f"{run_dir}: got a folder of several seeds, expected one of them: {seeds[0].parent}")
        raise ValueError(
            f"{run_dir}: got a folder that is no run (no config.json), expected one created by `metarl train`"
        )
    return path, read_json(path)


def own_agent_of(run_dir: Path) -> str:
    """Name of the class of a run's agent if no package registers it; empty otherwise, and for other folders."""
    try:
        recorded = str(read_json(Path(run_dir) / "config.json")["agent"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return recorded.rpartition(":")[2] if is_own_agent(recorded) else ""


def announced_agent(name: str, group: str = AGENTS) -> type[MetaAgent[Any]]:
    """The class of a registered agent; imports no code that no package registers.

    Args:
        name: Name of the agent.
        group: Entry-point group of its kind.

    Raises:
        ValueError: The name is `module:Class`, or there is no such agent.
    """
    if is_own_agent(name):
        raise ValueError(f"agent: got {name!r}, a class that no package registers; pass the class itself")
    return agent_class(name, group)


def agent_of_config(
    path: Path, value: Any, named: type[MetaAgent[Any]] | None, group: str = AGENTS
) -> type[MetaAgent[Any]]:
    """The class of the agent that a configuration records.

    Args:
        path: File that the configuration was read from.
        value: The content of `config.json`.
        named: The class that the caller names, if any.
        group: Entry-point group of its kind.

    Raises:
        ValueError: There is no such agent, it has to be named, or another one was named.
    """
    recorded = value.get("agent") if isinstance(value, dict) else None
    if not isinstance(recorded, str):
        raise ValueError(f"{path}: got a configuration that does not fit this version (no name of an agent)")
    if not (named is None or isinstance(named, type)):
        raise ValueError(f"agent: got {named!r}, expected the class of the agent itself")
    own, given = is_own_agent(recorded), f"{named.__module__}:{named.__qualname__}" if named else "none"
    if own and (named is None or named.__qualname__ != recorded.rpartition(":")[2]):
        raise ValueError(
            f"agent: got {given}, but {path.parent} was trained by {recorded!r}, code of your own, which a file alone "
            f"does not import; name it with --agent {recorded} (in Python: agent={recorded.rpartition(':')[2]})"
        )
    if named is not None and not own:
        raise ValueError(f"agent: got {given}, but {path.parent} was trained by {recorded!r}; leave the agent out")
    if named is not None:
        return named
    try:
        return agent_class(recorded, group)
    except ValueError as error:
        raise ValueError(f"{path}: got a configuration that does not fit this version ({error})") from error
