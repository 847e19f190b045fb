"""The configuration of a run, and loading its agent."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import json
import math
import os
import platform
import subprocess
import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from metarl import config as settings
from metarl.agent import MetaAgent
from metarl.checkpoint import load_checkpoint, load_newest
from metarl.config import Count, Rows, RowsOrOwn, Seed, Whole
from metarl.files import read_json, write_json
from metarl.registry import agent_class, is_own_agent, reward_for, with_reward
from metarl.stepping import Stepping
from metarl.tasks import Family
from metarl.types import Progress, Spaces

STEPPING_FIELDS = ("stepping.timeout",)
"""Settings of single environments that results do not depend on."""
RETIRED_STEPPING = ("workers", "processes")
"""Settings of single environments in early runs of version 0.1; the option `--workers` replaces them."""
ADDED = {"max_std": 0.0, "std": "shared", "mean": "linear", "deviation_floor": 0.0}
"""Settings of agents that were added later, with the value that reproduces earlier runs."""
RETIRED = ("task_parameters", "context_collects", "context_size", "anneal_iterations")
"""Settings that agents no longer have; `Spaces.task_parameters`, PEARL's whole trials and `anneal` replace them."""
REDRAWN = ("walker2d-rand-params", "hopper-rand-params", "half-cheetah-rand-params")
"""Families whose tasks were redefined; the earlier ones are now named `...-published`."""
REDRAWN_PARAMETER = "body_second_moment"
"""A parameter that only the new tasks have."""
PACKAGES = ("metarl-robots", "torch", "gymnasium", "mujoco", "metaworld", "numpy", "scipy", "safetensors")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Settings of a run, without those of its agent."""

    seed: Seed = 0
    """Seed of everything random in the run."""
    iterations: Count = 100
    """Total number of meta-updates; a resumed run may raise it."""
    tasks: Rows = 20
    """Tasks of a meta-batch (M); usually 10 to 100."""
    episodes: Rows = 20
    """Episodes per task and collect (E), one environment each; usually 2 to 40."""
    horizon: RowsOrOwn = 0
    """Steps of an episode (T); 0 for the family's horizon."""
    train_tasks: RowsOrOwn = 0
    """Size of a fixed set of training tasks; 0 draws new tasks each time."""
    blocks: RowsOrOwn = 0
    """Blocks of tasks that a collect is divided into, the unit of work of --workers; 0 for one per core, at most.
    Results depend on it, and not on the number of workers."""
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
class RunConfig:
    """All settings that affect the results of a run: the content of `config.json`.

    Args:
        agent: Name of the agent.
        family: Name of the family, `gym:ID?...`, or the user's own `module:function`.
        training: Settings of the run.
        agent_config: Settings of the agent, an instance of its `Config`.
        spaces: Sizes and bounds of the environments that the agent was built for.
        stepping: Settings of your own Gymnasium environments; None for any other family.
        own_agent: Class of an agent that no package registers, as the caller named it; `config.json` records only
            `agent`, `module:Class`.
    """

    agent: str
    family: str
    training: TrainConfig
    agent_config: Any
    spaces: Spaces
    stepping: Stepping | None = None
    own_agent: type[MetaAgent[Any]] | None = field(default=None, compare=False)

    @property
    def block_tasks(self) -> int:
        """Largest number of tasks in a block, for an evaluation with the batches of the training."""
        return -(-self.training.tasks // max(self.training.blocks, 1))

    @property
    def agent_type(self) -> type[MetaAgent[Any]]:
        """The agent's class."""
        return self.own_agent or announced_agent(self.agent)

    def to_json(self) -> dict[str, Any]:
        """The content of `config.json`."""
        return {
            "agent": self.agent,
            "family": self.family,
            "training": settings.to_json(self.training),
            "agent_config": settings.to_json(self.agent_config),
            "spaces": _spaces_json(self.spaces),
            "stepping": settings.to_json(self.stepping) if self.stepping else None,
        }

    def write(self, run_dir: Path) -> None:
        """Writes `config.json`."""
        write_json(run_dir / "config.json", self.to_json())

    @classmethod
    def read(cls, run_dir: Path, agent: type[MetaAgent[Any]] | None = None) -> RunConfig:
        """Reads and checks `config.json`; a file alone never imports an agent that no package registers.

        Args:
            run_dir: The folder of the run.
            agent: Class of such an agent.

        Raises:
            ValueError: The folder is no run, its configuration is damaged, or its agent has to be named.
        """
        path = Path(run_dir) / "config.json"
        if not path.is_file():
            seeds = sorted(Path(run_dir).glob("seed-*/config.json"))
            if seeds:
                raise ValueError(f"{run_dir}: got a folder of several seeds, expected one of them: {seeds[0].parent}")
            raise ValueError(
                f"{run_dir}: got a folder that is no run (no config.json), expected one created by `metarl train`"
            )
        value = read_json(path)
        kind = agent_of_config(path, value, agent)
        try:
            # Absent in early runs of version 0.1.
            training = {"matmul": "float32", "blocks": 1, **value["training"]}
            stepping = {k: v for k, v in (value.get("stepping") or {}).items() if k not in RETIRED_STEPPING}
            spaces = {"observation_units": [], "task_parameters": [], **value["spaces"]}
            fields = {one.name for one in dataclasses.fields(kind.Config)}
            agent_config = upgraded(value["agent_config"], fields)
            return cls(
                agent=value["agent"],
                family=upgraded_family(value["family"], [p["name"] for p in spaces["task_parameters"]]),
                training=settings.from_json(TrainConfig, training, "training."),
                agent_config=settings.from_json(kind.Config, agent_config, "agent."),
                spaces=_spaces_from_json(spaces, reward_for(kind, value["family"])),
                stepping=settings.from_json(Stepping, stepping, "stepping.") if stepping else None,
                own_agent=agent,
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: got a configuration that does not fit this version ({error})") from error

    def build_agent(self, device: torch.device, rng: np.random.Generator) -> MetaAgent[Any]:
        """A new, untrained agent of this configuration."""
        return self.agent_type.build(self.agent_config, self.spaces, device=device, rng=rng)

    def changed_fields(self, other: RunConfig, may_change: tuple[str, ...]) -> list[str]:
        """Names of the settings that differ between two configurations, without those in `may_change`."""

        def flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
            pairs: dict[str, Any] = {}
            for key, item in value.items():
                pairs |= flat(item, f"{prefix}{key}.") if isinstance(item, dict) else {f"{prefix}{key}": item}
            return pairs

        mine, theirs = (flat(json.loads(json.dumps(one.to_json()))) for one in (self, other))
        names = sorted(set(mine) | set(theirs))
        return [name for name in names if mine.get(name) != theirs.get(name) and name not in may_change]


def own_agent_of(run_dir: Path) -> str:
    """Name of the class of a run's agent if no package registers it; empty otherwise, and for other folders."""
    try:
        recorded = str(read_json(Path(run_dir) / "config.json")["agent"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return recorded.rpartition(":")[2] if is_own_agent(recorded) else ""


def announced_agent(name: str) -> type[MetaAgent[Any]]:
    """The class of a registered agent; imports no code that no package registers.

    Raises:
        ValueError: The name is `module:Class`, or there is no such agent.
    """
    if is_own_agent(name):
        raise ValueError(f"agent: got {name!r}, a class that no package registers; pass the class itself")
    return agent_class(name)


def agent_of_config(path: Path, value: Any, named: type[MetaAgent[Any]] | None) -> type[MetaAgent[Any]]:
    """The class of the agent that a configuration records.

    Args:
        path: File that the configuration was read from.
        value: The content of `config.json`.
        named: The class that the caller names, if any.

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
        return agent_class(recorded)
    except ValueError as error:
        raise ValueError(f"{path}: got a configuration that does not fit this version ({error})") from error


def _spaces_json(spaces: Spaces) -> dict[str, Any]:
    """Spaces as a JSON value; null stands for an infinite bound."""
    value = dataclasses.asdict(dataclasses.replace(spaces, reward=None))
    del value["reward"]  # a function; a loaded run takes it from its family
    for name in ("action_low", "action_high"):
        value[name] = [bound if math.isfinite(bound) else None for bound in value[name]]
    return value


def _spaces_from_json(value: Mapping[str, Any], reward: Any) -> Spaces:
    """The spaces that `_spaces_json` wrote, checked."""
    bounds = {"action_low": -math.inf, "action_high": math.inf}
    finite = {name: [0.0 if bound is None else bound for bound in value[name]] for name in bounds}
    spaces = settings.from_json(Spaces, {**value, **finite, "reward": None}, "spaces.")
    low, high = (tuple(at if bound is None else float(bound) for bound in value[name]) for name, at in bounds.items())
    return dataclasses.replace(spaces, action_low=low, action_high=high, reward=reward)


def upgraded(agent_config: Mapping[str, Any], fields: Collection[str]) -> dict[str, Any]:
    """Settings of an agent from a run of an earlier version, converted to those of this version.

    Args:
        agent_config: The settings in `config.json`.
        fields: Settings of the agent in this version. Only these are added; retired settings are removed unless listed
            here.
    """
    kept = {name: value for name, value in agent_config.items() if name in fields or name not in RETIRED}
    later = {name: value for name, value in ADDED.items() if name in fields}
    if "anneal" in fields and "anneal_iterations" in agent_config:
        later["anneal"] = agent_config["anneal_iterations"] > 0
    return later | kept


def upgraded_family(family: str, parameters: Collection[str]) -> str:
    """The current name of a family that an earlier version recorded.

    Args:
        family: The name in `config.json`.
        parameters: Names of the task's parameters in `config.json`.
    """
    return f"{family}-published" if family in REDRAWN and REDRAWN_PARAMETER not in parameters else family


def resolve_device(name: str) -> torch.device:
    """The device of a name; `auto` is CUDA if available.

    Raises:
        ValueError: There is no CUDA device here, or no device of that name.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device: got 'cuda', but torch finds no CUDA device here; expected 'cpu' or 'auto'")
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device: got {name!r}, expected 'cpu', 'cuda' or 'auto'") from error


def use_matmul(name: Literal["float32", "tf32"], device: torch.device) -> None:
    """Sets the precision of float32 matrix products on a GPU, cuDNN's recurrent passes included, for this process.

    Raises:
        ValueError: The device does not have that precision.
    """
    if name != "float32" and device.type != "cuda":
        raise ValueError(f"matmul: got {name!r} on {device}, expected 'float32'; tf32 needs a GPU")
    torch.set_float32_matmul_precision("highest" if name == "float32" else "high")
    torch.backends.cudnn.allow_tf32 = name == "tf32"


def load(
    run_dir: str | Path,
    *,
    device: str = "cpu",
    checkpoint: str | Path | None = None,
    agent: type[MetaAgent[Any]] | None = None,
    family: Family | None = None,
) -> MetaAgent[Any]:
    """The trained agent of a run.

    Args:
        run_dir: A folder created by `metarl train` or `metarl.train`.
        device: `cpu`, `cuda` or `auto`.
        checkpoint: A checkpoint file of the run; the newest intact one by default.
        agent: Class of the agent, if no package registers it.
        family: The family of the run, if it is your own and the agent plans with its reward.

    Raises:
        ValueError: The folder is no run, holds no intact checkpoint, or its agent or its family has to be named.
    """
    named: dict[str, Any] = {"checkpoint": checkpoint, "agent": agent, "family": family}
    loaded, _, complaints = load_with_progress(Path(run_dir), device=device, **named)
    for line in complaints:
        warnings.warn(line, stacklevel=2)
    return loaded


def load_with_progress(
    run_dir: Path,
    *,
    device: str = "cpu",
    checkpoint: str | Path | None = None,
    agent: type[MetaAgent[Any]] | None = None,
    family: Family | None = None,
) -> tuple[MetaAgent[Any], Progress, list[str]]:
    """As `load`; also returns the checkpoint's counters and a message for each newer, damaged checkpoint."""
    run = with_reward(RunConfig.read(run_dir, agent), family)
    built = run.build_agent(resolve_device(device), np.random.default_rng(0))
    if checkpoint is not None:
        path = Path(checkpoint)
        if not path.is_file():
            raise ValueError(f"checkpoint: got {path}, which is no file; expected one of {run_dir / 'checkpoints'}")
        return built, load_checkpoint(path, built), []
    progress, complaints = load_newest(run_dir / "checkpoints", built)
    if progress is None:
        why = f" ({complaints[0].partition(';')[0]})" if complaints else ""
        raise ValueError(
            f"{run_dir}: got a run without an intact checkpoint{why}, expected one in {run_dir / 'checkpoints'}"
        )
    return built, progress, complaints


def versions() -> dict[str, Any]:
    """Versions of packages and Python, git commit and machine, to be recorded with a result."""
    packages = dict.fromkeys(PACKAGES, "not installed")
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            packages[name] = importlib.metadata.version(name)
    return {
        "packages": packages,
        "python": platform.python_version(),
        "commit": _git_commit(),
        "machine": {
            "system": platform.platform(),
            "processor": _processor(),
            "cores": os.cpu_count(),
            "torch_threads": torch.get_num_threads(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        },
    }


def _git_commit() -> str | None:
    """The commit of this checkout, with `+` if it has changes; None outside a checkout."""
    folder = Path(__file__).resolve().parent.parent
    if not (folder / ".git").exists():
        return None
    calls = ["git", "rev-parse", "HEAD"], ["git", "status", "--porcelain"]
    try:
        commit, status = (subprocess.run(c, cwd=folder, capture_output=True, text=True, timeout=10) for c in calls)
    except (OSError, subprocess.SubprocessError):
        return None
    return commit.stdout.strip() + ("+" if status.stdout.strip() else "") if commit.returncode == 0 else None


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()
