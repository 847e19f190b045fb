"""A reader that takes a few lines and leaves, as `| head -3` does, ends every command without a word."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

METARL = str(Path(sys.executable).parent / "metarl")
MODULE = (sys.executable, "-m")


def piped(tmp_path: Path, command: tuple[str, ...], reader: str) -> subprocess.CompletedProcess[str]:
    """Runs `command | reader` in a shell; stdout ends with the command's exit code."""
    script = f'"$@" | {reader} > shown; echo "${{PIPESTATUS[0]}}"'
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        ["bash", "-c", script, "bash", *command],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("reader", ["head -3", "true"])
@pytest.mark.parametrize(
    "command",
    [
        (METARL, "list"),
        (METARL, "list", "--json"),
        (METARL, "check", "bandit"),
        (*MODULE, "metarl.scripts.catalogue"),
        (*MODULE, "metarl.scripts.check", "bandit"),
        (*MODULE, "metarl.scripts.versions"),
        (*MODULE, "metarl.scripts.cli", "list"),
    ],
    ids=lambda command: " ".join(command[-2:]),
)
def test_a_reader_that_leaves_early_is_no_error(tmp_path: Path, command: tuple[str, ...], reader: str) -> None:
    done = piped(tmp_path, command, reader)
    assert (done.stdout, done.stderr) == ("0\n", "")
