"""Checkpoints: everything that training changes, in one file that is written atomically."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from metarl.agent import MetaAgent
from metarl.finite import check_finite, learned
from metarl.seeding import Streams
from metarl.storage import read_tensors, write_tensors
from metarl.types import Progress

SUFFIX = ".safetensors"
DAMAGED = ".damaged"
"""Suffix of checkpoints that a restarted run found damaged."""
NAME = re.compile(rf"\d{{7,}}{re.escape(SUFFIX)}")
"""File names of checkpoints: the iteration. Any other file of the folder belongs to the user."""


class UnfitError(ValueError):
    """A whole checkpoint that the agent cannot take: one of another agent, or of an earlier form of its code."""


def _digest(tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> str:
    """SHA-256 of names, types, shapes and bytes of the arrays, and of the rest as JSON."""
    sha = hashlib.sha256(json.dumps(state, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        if tensor.numel():  # an array without numbers has no bytes, and strides that `view` refuses
            sha.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()


def list_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a run, oldest first; other files and folders are ignored."""
    return sorted((p for p in folder.glob(f"*{SUFFIX}") if NAME.fullmatch(p.name) and p.is_file()), key=iteration_of)


def iteration_of(checkpoint: Path) -> int:
    """The iteration after which a checkpoint was written."""
    return int(checkpoint.stem)


def newest_iteration(folder: Path) -> int:
    """The iteration that the newest intact checkpoint contains; 0 if there is none."""
    for path in reversed(list_checkpoints(folder)):
        try:
            tensors, description = read_tensors(path)
            if description["sha256"] == _digest(tensors, description["state"]):
                return int(description["state"]["iteration"])
        except (KeyError, TypeError, ValueError, OSError):
            continue
    return 0


def set_aside(folder: Path) -> None:
    """Renames all checkpoints, so that a restarted run does not overwrite them."""
    for path in list_checkpoints(folder):
        path.rename(path.with_name(f"{path.name}{DAMAGED}"))


def save_checkpoint(folder: Path, agent: MetaAgent[Any], streams: Streams, progress: Progress, keep: int) -> Path:
    """Writes `folder/<iteration>.safetensors`, then removes all except the newest `keep`.

    Args:
        folder: The run's `checkpoints/`.
        agent: Agent to save.
        streams: Random generators to save.
        progress: Counters of the run.
        keep: Number of checkpoints to keep, at least 2, not counting damaged ones of later iterations.

    Returns:
        Path of the checkpoint.

    Raises:
        NotFiniteError: A learned array is not finite; nothing is written.
    """
    check_finite(learned(agent))
    tensors = agent.tensors()
    state = {
        "iteration": progress.iteration,
        "env_steps": progress.env_steps,
        "reports_success": progress.reports_success,
        "streams": streams.state(),
        "agent": agent.counters(),
    }
    path = folder / f"{progress.iteration:07d}{SUFFIX}"
    write_tensors(path, tensors, {"state": state, "sha256": _digest(tensors, state)})
    until_now = [p for p in list_checkpoints(folder) if iteration_of(p) <= progress.iteration]
    for old in until_now[: -max(keep, 2)]:
        old.unlink(missing_ok=True)
    return path


def load_checkpoint(path: Path, agent: MetaAgent[Any], streams: Streams | None = None) -> Progress:
    """Restores an agent and the streams from a checkpoint; a damaged file changes nothing.

    Args:
        path: The checkpoint.
        agent: Agent to restore.
        streams: Random generators to restore; None leaves them out.

    Returns:
        Counters of the run.

    Raises:
        UnfitError: The file is whole, but of another agent or configuration.
        ValueError: The file is truncated or altered, or has parameters that are not finite.
    """
    tensors, description = read_tensors(path)
    try:
        state = description["state"]
        if description["sha256"] != _digest(tensors, state):
            raise ValueError("its checksum does not match its content")
        reports_success = bool(state.get("reports_success", False))  # missing in early checkpoints of version 0.1
        progress = Progress(int(state["iteration"]), int(state["env_steps"]), reports_success)
        check_finite({name: tensors[name] for name in learned(agent) if name in tensors}, "its parameters")
        _restore(agent, tensors, state["agent"], path)
        if streams is not None:
            streams.restore(state["streams"])
    except UnfitError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: got a damaged checkpoint ({error})") from error
    return progress


def _restore(agent: MetaAgent[Any], tensors: Mapping[str, Tensor], counters: Mapping[str, Any], path: Path) -> None:
    """Restores an agent from the content of a whole checkpoint."""
    try:
        agent.restore(tensors, counters)
    except (KeyError, TypeError, ValueError) as error:
        why = f"no {error}" if isinstance(error, KeyError) else error
        raise UnfitError(
            f"{path}: got a whole checkpoint that does not fit the agent ({why}), expected one of the same agent, code "
            "and settings"
        ) from error


FALLING_BACK = "; falling back to the one before"


def load_newest(
    folder: Path, agent: MetaAgent[Any], streams: Streams | None = None
) -> tuple[Progress | None, list[str]]:
    """Loads the newest intact checkpoint.

    Args:
        folder: The run's `checkpoints/`.
        agent: Agent to restore.
        streams: Random generators to restore; None leaves them out.

    Returns:
        Its counters (None if there is no such checkpoint), and a message for each newer, damaged one.

    Raises:
        UnfitError: A checkpoint is intact but does not fit the agent; a restart would replace a sound run.
        OSError: No checkpoint could be loaded, and one of them could not be read: it may still be intact.
    """
    complaints: list[str] = []
    unreadable: OSError | None = None
    for path in reversed(list_checkpoints(folder)):
        try:
            return load_checkpoint(path, agent, streams), [f"{line}{FALLING_BACK}" for line in complaints]
        except UnfitError:
            raise
        except (ValueError, OSError) as error:
            complaints.append(str(error))
            unreadable = error if isinstance(error, OSError) else unreadable
    if unreadable is not None:
        raise unreadable
    return None, [f"{line}{FALLING_BACK}" for line in complaints[:-1]] + complaints[-1:]
