"""The folder of an exported policy."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metarl.files import PARTIAL, write_bytes, write_json

GRAPH, CONTRACT, SCRIPT = "policy.onnx", "contract.json", "run_policy.py"


def check_new(out: Path) -> None:
    """Checks that a folder can be made.

    Raises:
        ValueError: There is something of that name, or no folder for it to be in.
    """
    if out.exists() or out.is_symlink():
        raise ValueError(f"--out: got {out}, which exists already; expected another name")
    if not out.absolute().parent.is_dir():
        raise ValueError(f"--out: got {out}, but folder {out.parent} does not exist; create it first")


def write_folder(out: Path, graph: bytes, contract: Mapping[str, Any]) -> None:
    """Writes graph, contract and script into a new folder, all or nothing.

    Raises:
        ValueError: See `check_new`.
    """
    check_new(out)
    beside = out.absolute().with_name(f".{out.name}.{os.getpid()}{PARTIAL}")
    beside.mkdir()
    try:
        write_bytes(beside / GRAPH, graph)
        write_json(beside / CONTRACT, contract)
        write_bytes(beside / SCRIPT, Path(__file__).with_name(SCRIPT).read_bytes())
        beside.rename(out)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
