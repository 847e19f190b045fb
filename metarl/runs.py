"""The configuration of a run, and loading its agent."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import math
import os
import platform
import subprocess
import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from metarl import config as settings
from metarl.agent import MetaAgent
from metarl.checkpoint import load_checkpoint, load_newest
from metarl.config import Rows, RowsOrOwn
from metarl.digests import differ, may_be_same
from metarl.few_shot.run import FewShotRun, is_few_shot
from metarl.registry import reward_for, with_reward
from metarl.run_config import BaseRun, LearningConfig, agent_of_config, read_config
from metarl.stepping import Stepping
from metarl.tasks import Family
from metarl.types import Progress, Spaces

STEPPING_FIELDS = ("stepping.timeout",)
"""Settings of single environments that results do not depend on."""
RETIRED_STEPPING = ("workers", "processes")
"""Settings of single environments in early runs of version 0.1; the option `--workers` replaces them."""
ADDED = {"max_std": 0.0, "std": "shared", "mean": "linear", "deviation_floor": 0.0}
ADDED |= {"aggregate": "none", "head": "mlp", "critic": "network"}
"""Settings of agents that were added later, with the value that reproduces earlier runs."""
RETIRED = ("task_parameters", "context_collects", "context_size", "anneal_iterations")
"""Settings that agents no longer have; `Spaces.task_parameters`, PEARL's whole trials and `anneal` replace them."""
REDRAWN = ("walker2d-rand-params", "hopper-rand-params", "half-cheetah-rand-params")
"""Families whose tasks were redefined; the earlier ones are now named `...-published`."""
REDRAWN_PARAMETER = "body_second_moment"
"""A parameter that only the new tasks have."""
PACKAGES = ("metarl-robots", "torch", "gymnasium", "mujoco", "metaworld", "numpy", "scipy", "safetensors")


@dataclass(frozen=True, kw_only=True)
class TrainConfig(LearningConfig):
    """Settings of a run, without those of its agent."""

    episodes: Rows = 20
    """Episodes per task and collect (E), one environment each; usually 2 to 40."""
    horizon: RowsOrOwn = 0
    """Steps of an episode (T); 0 for the family's horizon."""
    train_tasks: RowsOrOwn = 0
    """Size of a fixed set of training tasks; 0 draws new tasks each time."""
    blocks: RowsOrOwn = 0
    """Blocks of tasks that a collect is divided into, the unit of work of --workers; 0 for one per core, at most.
    Results depend on it, and not on the number of workers."""


@dataclass(frozen=True, kw_only=True)
class RunConfig(BaseRun):
    """All settings that affect the results of a run: the content of `config.json`.

    Args:
        agent: Name of the agent.
        family: Name of the family, `gym:ID?...`, or the user's own `module:function`.
        training: Settings of the run.
        agent_config: Settings of the agent, an instance of its `Config`.
        spaces: Sizes and bounds of the environments that the agent was built for.
        own_agent: See `BaseRun`.
        stepping: Settings of your own Gymnasium environments; None for any other family.
        family_digest: Digest of the robot's files (`metarl.digests`); empty for any other family, and for early runs.
    """

    training: TrainConfig
    spaces: Spaces
    stepping: Stepping | None = None
    family_digest: str = ""

    @property
    def block_tasks(self) -> int:
        """Largest number of tasks in a block, for an evaluation with the batches of the training."""
        return -(-self.training.tasks // max(self.training.blocks, 1))

    def to_json(self) -> dict[str, Any]:
        """The content of `config.json`."""
        return {
            "agent": self.agent,
            "family": self.family,
            "training": settings.to_json(self.training),
            "agent_config": settings.to_json(self.agent_config),
            "spaces": _spaces_json(self.spaces),
            "stepping": settings.to_json(self.stepping) if self.stepping else None,
            **({"family_digest": self.family_digest} if self.family_digest else {}),
        }

    def has_family_of(self, other: BaseRun) -> bool:
        """Whether the families are the same by name; robots may lie at different paths if their digests allow it."""
        if self.family == other.family:
            return True
        options = [name.partition("?")[2] for name in (self.family, other.family)]
        digest = other.family_digest if isinstance(other, RunConfig) else ""
        return options[0] == options[1] and may_be_same(self.family_digest, digest)

    def changed_fields(self, other: BaseRun, may_change: tuple[str, ...]) -> list[str]:
        """See `BaseRun.changed_fields`; an unknown digest differs from none, and the path of a robot does not count."""
        alike = ("family",) if self.has_family_of(other) else ()
        if not (isinstance(other, RunConfig) and differ(self.family_digest, other.family_digest)):
            alike = (*alike, "family_digest")
        return super().changed_fields(other, (*may_change, *alike))

    @classmethod
    def read(cls, run_dir: Path, agent: type[MetaAgent[Any]] | None = None) -> RunConfig:
        """Reads and checks `config.json`; a file alone never imports an agent that no package registers.

        Args:
            run_dir: The folder of the run.
            agent: Class of such an agent.

        Raises:
            ValueError: The folder is no run, its configuration is damaged, or its agent has to be named.
        """
        path, value = read_config(run_dir)
        if is_few_shot(value):
            raise ValueError(f"{run_dir}: got a few-shot run, expected one on episodes")
        kind = agent_of_config(path, value, agent)
        try:
            # Absent in early runs of version 0.1.
            training = {"matmul": "float32", "blocks": 1, **value["training"]}
            stepping = {k: v for k, v in (value.get("stepping") or {}).items() if k not in RETIRED_STEPPING}
            spaces = {"observation_units": [], "task_parameters": [], **value["spaces"]}
            fields = {one.name for one in dataclasses.fields(kind.Config)}
            agent_config = upgraded(value["agent_config"], fields)
            digest = value.get("family_digest", "")
            if not isinstance(digest, str):
                raise ValueError(f"family_digest: got {digest!r}, expected a text")
            return cls(
                agent=value["agent"],
                family=upgraded_family(value["family"], [p["name"] for p in spaces["task_parameters"]]),
                training=settings.from_json(TrainConfig, training, "training."),
                agent_config=settings.from_json(kind.Config, agent_config, "agent."),
                spaces=_spaces_from_json(spaces, reward_for(kind, value["family"])),
                stepping=settings.from_json(Stepping, stepping, "stepping.") if stepping else None,
                family_digest=digest,
                own_agent=agent,
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
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


def read_run(run_dir: Path, agent: type[MetaAgent[Any]] | None = None) -> RunConfig | FewShotRun:
    """The configuration of a run of either kind; see `RunConfig.read`."""
    kind: type[RunConfig | FewShotRun] = FewShotRun if is_few_shot(read_config(run_dir)[1]) else RunConfig
    return kind.read(run_dir, agent)


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
    run = read_run(run_dir, agent)
    if isinstance(run, RunConfig):
        run = with_reward(run, family)
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
        "commit": commit_of(Path(__file__).resolve().parent.parent),
        "machine": {
            "system": platform.platform(),
            "processor": _processor(),
            "cores": os.cpu_count(),
            "torch_threads": torch.get_num_threads(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        },
    }


RESULTS = ("docs/results", "docs/images")
"""Folders that change no run: a table that `metarl reproduce --write` has written is no change of the code."""


def commit_of(folder: Path) -> str | None:
    """The commit of a checkout, with `+` if it has changes outside of `RESULTS`; None outside a checkout."""
    if not (folder / ".git").exists():
        return None
    changes = ["git", "status", "--porcelain", "--untracked-files=all", "--", ".", *(f":(exclude){r}" for r in RESULTS)]
    calls = ["git", "rev-parse", "HEAD"], changes
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
