"""Arrays on disk as safetensors with a JSON description, never pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from metarl.files import write_bytes


def write_tensors(path: str | Path, tensors: Mapping[str, Tensor], description: Mapping[str, Any]) -> None:
    """Writes arrays with a JSON description in the file's header (key `metarl`)."""
    contiguous = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    write_bytes(Path(path), safetensors.torch.save(contiguous, metadata={"metarl": json.dumps(description)}))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], Any]:
    """Reads arrays and their description.

    Raises:
        ValueError: The file is truncated, or was not written by `write_tensors`.
        OSError: The file cannot be opened.
    """
    with open(path, "rb"):
        pass  # safetensors reports every file that it cannot open as missing
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a mapping
            return tensors, json.loads((file.metadata() or {})["metarl"])
    except (safetensors.SafetensorError, KeyError, json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path}: got a file that metarl did not write, or a damaged one ({error})") from error
