"""Writing to disk so that a file is whole or absent; arrays as safetensors, the rest as JSON, never pickle."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

PARTIAL = ".partial"
"""Ending of files that are still being written."""


def write_bytes(path: Path, data: bytes) -> None:
    """Writes beside the target under a dot-prefixed name, syncs to disk, then renames."""
    beside = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")
    try:
        with open(beside, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the rename itself
    finally:
        os.close(folder)


def remove_partial(folder: Path) -> None:
    """Removes what a killed process left half-written in a folder."""
    for path in folder.glob(f".*{PARTIAL}"):
        path.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON value, indented."""
    write_bytes(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """Reads a JSON value.

    Raises:
        ValueError: The file is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path}: got a file that is not JSON ({error})") from error


def write_tensors(path: str | Path, tensors: Mapping[str, Tensor], description: Mapping[str, Any]) -> None:
    """Writes arrays with a JSON description in the file's header (key `metarl`)."""
    contiguous = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    write_bytes(Path(path), safetensors.torch.save(contiguous, metadata={"metarl": json.dumps(description)}))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], Any]:
    """Reads arrays and their description.

    Raises:
        ValueError: The file is cut short or is no such file.
        OSError: It cannot be opened.
    """
    with open(path, "rb"):
        pass  # the library says of any file that it cannot open that it does not exist
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a mapping
            return tensors, json.loads((file.metadata() or {})["metarl"])
    except (safetensors.SafetensorError, KeyError, json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path}: got a file that metarl did not write, or a damaged one ({error})") from error
