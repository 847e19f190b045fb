"""The folder of a run: its configuration, versions, metrics and checkpoints; and loading an agent from it."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
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
from metarl.config import Count, Rows, RowsOrOwn, Seed, Whole
from metarl.files import read_json, write_bytes, write_json
from metarl.registry import agent_class, recorded_agent_class
from metarl.stepping import Stepping
from metarl.types import Progress, Spaces

STEPPING_FIELDS = ("stepping.workers", "stepping.processes", "stepping.timeout")
"""Settings that change who computes a step, and not what comes out."""
ADDED = {"max_std": 0.0, "std": "shared", "mean": "linear", "deviation_floor": 0.0}
"""Settings of agents that came later, with the value that reproduces what runs did before."""
RETIRED = ("task_parameters", "context_collects", "context_size", "anneal_iterations")
"""Settings of agents that went: `Spaces.task_parameters`, PEARL's whole trials and `anneal` took their places."""
REDRAWN = ("walker2d-rand-params", "hopper-rand-params", "half-cheetah-rand-params")
"""Families whose tasks became others; the earlier ones are now named `...-published`."""
REDRAWN_PARAMETER = "body_second_moment"
"""A parameter that only the new tasks have."""
PACKAGES = ("metarl", "torch", "gymnasium", "mujoco", "metaworld", "numpy", "scipy", "safetensors")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Settings of a run that do not belong to its agent."""

    seed: Seed = 0
    """Seed of everything random in the run."""
    iterations: Count = 100
    """Meta-updates to make in all; a resumed run may raise it."""
    tasks: Rows = 20
    """Tasks of a meta-batch (M); usually 10 to 100."""
    episodes: Rows = 20
    """Environments per task, each one episode per collect (E); usually 2 to 40."""
    horizon: RowsOrOwn = 0
    """Steps of an episode (T); 0 takes the family's own."""
    train_tasks: RowsOrOwn = 0
    """Size of a fixed set that training tasks are drawn from; 0 draws new ones from the whole range."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the agent computes; auto is CUDA where there is one."""
    matmul: Literal["float32", "tf32"] = "float32"
    """How a GPU multiplies matrices: tf32 is faster and keeps 10 bits of each factor's mantissa in place of 23."""
    eval_every: Whole = 10
    """Evaluate every so many iterations; 0 never. A resumed run may change it. The tasks are held out from training,
    but they are not those that `metarl evaluate` reports on: settings may be chosen by these curves."""
    eval_tasks: Rows = 40
    """Tasks of these evaluations."""
    checkpoint_every: Count = 5
    """Save every so many iterations (and at the end)."""
    checkpoints_kept: Count = 2
    """Newest checkpoints to keep; at least two are."""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything that decides what a run computes: the content of `config.json`.

    Args:
        agent: Name of the agent.
        family: Name of the family, `gym:ID?...`, or the user's own `module:function`.
        training: Settings of the run.
        agent_config: Settings of the agent, of the agent's `Config`.
        spaces: Sizes and bounds of the environments it was built for.
        stepping: Who steps Gymnasium environments of one's own; None for any other family.
    """

    agent: str
    family: str
    training: TrainConfig
    agent_config: Any
    spaces: Spaces
    stepping: Stepping | None = None

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
    def read(cls, run_dir: Path) -> RunConfig:
        """Reads and checks `config.json`.

        Raises:
            ValueError: The folder is no run, or its configuration is damaged.
        """
        path = Path(run_dir) / "config.json"
        if not path.is_file():
            seeds = sorted(Path(run_dir).glob("seed-*/config.json"))
            if seeds:
                raise ValueError(f"{run_dir}: got a folder of several seeds, expected one of them: {seeds[0].parent}")
            raise ValueError(
                f"{run_dir}: got a folder that is no run (it has no config.json), expected one that `metarl train` made"
            )
        value = read_json(path)
        try:
            # Absent in runs of version 0.1 before they were there.
            stepping, training = value.get("stepping"), {"matmul": "float32", **value["training"]}
            spaces = {"observation_units": [], "task_parameters": [], **value["spaces"]}
            kind = recorded_agent_class(value["agent"]).Config
            agent_config = upgraded(value["agent_config"], {field.name for field in dataclasses.fields(kind)})
            return cls(
                agent=value["agent"],
                family=upgraded_family(value["family"], [p["name"] for p in spaces["task_parameters"]]),
                training=settings.from_json(TrainConfig, training, "training."),
                agent_config=settings.from_json(kind, agent_config, "agent."),
                spaces=_spaces_from_json(spaces),
                stepping=settings.from_json(Stepping, stepping, "stepping.") if stepping else None,
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: got a configuration that does not fit this version ({error})") from error

    def build_agent(self, device: torch.device, rng: np.random.Generator) -> MetaAgent[Any]:
        """A new, untrained agent of this configuration."""
        kind: Any = agent_class(self.agent)
        agent: MetaAgent[Any] = kind(self.agent_config, self.spaces, device=device, rng=rng)
        return agent

    def changed_fields(self, other: RunConfig, may_change: tuple[str, ...]) -> list[str]:
        """Names of the settings in which two configurations differ, without those that may."""

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


def _spaces_json(spaces: Spaces) -> dict[str, Any]:
    """Spaces as a JSON value; null for an infinite bound."""
    value = dataclasses.asdict(spaces)
    for name in ("action_low", "action_high"):
        value[name] = [bound if math.isfinite(bound) else None for bound in value[name]]
    return value


def _spaces_from_json(value: Mapping[str, Any]) -> Spaces:
    """The spaces that `_spaces_json` wrote, checked."""
    bounds = {"action_low": -math.inf, "action_high": math.inf}
    finite = {name: [0.0 if bound is None else bound for bound in value[name]] for name in bounds}
    spaces = settings.from_json(Spaces, {**value, **finite}, "spaces.")
    low, high = (tuple(at if bound is None else float(bound) for bound in value[name]) for name, at in bounds.items())
    return dataclasses.replace(spaces, action_low=low, action_high=high)


def upgraded(agent_config: Mapping[str, Any], fields: Collection[str]) -> dict[str, Any]:
    """The settings of an agent, as a run of an earlier version recorded them, in today's words.

    Args:
        agent_config: What `config.json` has.
        fields: Settings that the agent has today. Only those are added, and only what the agent lacks today goes.
    """
    kept = {name: value for name, value in agent_config.items() if name in fields or name not in RETIRED}
    later = {name: value for name, value in ADDED.items() if name in fields}
    if "anneal" in fields and "anneal_iterations" in agent_config:
        later["anneal"] = agent_config["anneal_iterations"] > 0
    return later | kept


def upgraded_family(family: str, parameters: Collection[str]) -> str:
    """Today's name of the tasks that a run of an earlier version recorded.

    Args:
        family: What `config.json` has.
        parameters: Names of the task's parameters that it has.
    """
    return f"{family}-published" if family in REDRAWN and REDRAWN_PARAMETER not in parameters else family


def resolve_device(name: str) -> torch.device:
    """The device that a name stands for; `auto` is CUDA where there is one.

    Raises:
        ValueError: CUDA is asked for and absent, or there is no such device.
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
    """Sets how this process multiplies matrices of float32 numbers on a GPU.

    Raises:
        ValueError: A shorter format is asked for where there is none.
    """
    if name != "float32" and device.type != "cuda":
        raise ValueError(f"matmul: got {name!r} on {device}, expected 'float32': only a GPU has the other")
    torch.set_float32_matmul_precision("highest" if name == "float32" else "high")


def load(run_dir: str | Path, *, device: str = "cpu", checkpoint: str | Path | None = None) -> MetaAgent[Any]:
    """The trained agent of a run.

    Args:
        run_dir: A folder that `metarl train` made.
        device: `cpu`, `cuda` or `auto`.
        checkpoint: A checkpoint file of the run; the newest whole one by default.

    Raises:
        ValueError: The folder is no run, or holds no whole checkpoint.
    """
    agent, _, complaints = load_with_progress(Path(run_dir), device=device, checkpoint=checkpoint)
    for line in complaints:
        warnings.warn(line, stacklevel=2)
    return agent


def load_with_progress(
    run_dir: Path, *, device: str = "cpu", checkpoint: str | Path | None = None
) -> tuple[MetaAgent[Any], Progress, list[str]]:
    """As `load`, with the checkpoint's counters and a line for each newer checkpoint that was damaged."""
    run = RunConfig.read(run_dir)
    agent = run.build_agent(resolve_device(device), np.random.default_rng(0))
    if checkpoint is not None:
        path = Path(checkpoint)
        if not path.is_file():
            raise ValueError(f"checkpoint: got {path}, which is no file; expected one of {run_dir / 'checkpoints'}")
        return agent, load_checkpoint(path, agent), []
    progress, complaints = load_newest(run_dir / "checkpoints", agent)
    if progress is None:
        why = f" ({complaints[0].partition(';')[0]})" if complaints else ""
        raise ValueError(
            f"{run_dir}: got a run without a whole checkpoint{why}, expected one in {run_dir / 'checkpoints'}"
        )
    return agent, progress, complaints


class MetricsLog:
    """`metrics.jsonl`: one JSON object a line, one line an iteration.

    Args:
        path: The file.
        after: Keep the lines up to this iteration and drop what came later: a resumed run writes it again.
    """

    def __init__(self, path: Path, after: int = 0) -> None:
        kept = []
        if path.exists():
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                try:
                    if json.loads(line)["iteration"] <= after:
                        kept.append(line + "\n")
                except (json.JSONDecodeError, KeyError, TypeError):
                    continue  # a line cut short by a kill
        write_bytes(path, "".join(kept).encode())
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115  # stays open for the run

    def add(self, progress: Progress, metrics: Mapping[str, float]) -> None:
        """Appends a line; numbers that are not finite become null."""
        finite = {k: v if np.isfinite(v) else None for k, v in metrics.items()}
        line = {"iteration": progress.iteration, "env_steps": progress.env_steps, **finite}
        self._file.write(json.dumps(line, allow_nan=False) + "\n")
        self._file.flush()

    def sync(self) -> None:
        """Forces what was written to disk: before a checkpoint that relies on it."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def versions() -> dict[str, Any]:
    """Packages, Python, git commit and machine: what a result stands next to."""
    packages = {}
    for name in PACKAGES:
        try:
            packages[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            packages[name] = "not installed"
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
    """The commit of the checkout this code runs from, `+` where it has changes; None outside a checkout."""
    folder = Path(__file__).resolve().parent.parent
    if not (folder / ".git").exists():
        return None
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, timeout=10)
        status = subprocess.run(
            ["git", "status", "--porcelain"], cwd=folder, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return commit.stdout.strip() + ("+" if status.stdout.strip() else "") if commit.returncode == 0 else None


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor()
