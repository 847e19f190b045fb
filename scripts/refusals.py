"""Messages of `metarl train` about a training that cannot continue."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from pathlib import Path

from metarl.checkpoint import list_checkpoints
from metarl.few_shot.run import FewShotRun
from metarl.finite import NotFiniteError, remedies
from metarl.run_config import BaseRun
from metarl.scripts.sampling import SamplingOptions

DEFAULT_TRACK = "tensorboard"
DEFAULT_SAMPLING = SamplingOptions()
"""Trackers of a run without `--track`."""


def folder_to_go_on_with(out: Path, seeds: int) -> Path | None:
    """The folder of the run to resume, or of the first of several seeds; None if there is none.

    Args:
        out: The folder that `--out` names.
        seeds: Number of runs in it; 0 for a single run in the folder itself.
    """
    of_seeds = {int(p.name[5:]): p for p in out.glob("seed-*") if p.name[5:].isdecimal()} if seeds else {}
    folders = [of_seeds[seed] for seed in sorted(of_seeds)] if seeds else [out]
    return next((folder for folder in folders if (folder / "config.json").is_file()), None)


def how_to_go_on(
    run: BaseRun, out: Path, seeds: int, track: str = DEFAULT_TRACK, sampling: SamplingOptions = DEFAULT_SAMPLING
) -> str:
    """The command that resumes a run, and the other seeds if there are several.

    Args:
        run: Configuration of the run.
        out: Folder of the run.
        seeds: As in `folder_to_go_on_with`.
        track: The trackers, as on the command line.
        sampling: Options of sampling, likewise.
    """
    folder, more = (out.parent, f" --seeds {seeds}") if seeds else (out, "")
    if track != DEFAULT_TRACK:
        more += f" --track {shlex.quote(track)}"
    for field in dataclasses.fields(SamplingOptions):
        value = getattr(sampling, field.name)
        if value != field.default:
            more += f" --{field.name.replace('_', '-')} {shlex.quote(str(value))}"
    words = f"{shlex.quote(run.agent)} {shlex.quote(run.family)} --out {shlex.quote(str(folder))}{more}"
    return f"resume with: metarl train {words} --resume"


def advice(out: Path, go_on: str) -> str:
    """The newest checkpoint of a failed run, and the command to resume it."""
    saved = list_checkpoints(out / "checkpoints")
    left = f"the last checkpoint, {saved[-1]}, is intact" if saved else "there was no checkpoint yet"
    return f"; {left}. After fixing this, {go_on}"


def say_that_it_blew_up(run: BaseRun, error: NotFiniteError, out: Path, go_on: str) -> None:
    """Prints one line on stderr: the numbers that are not finite, the iteration, remedies, how to resume."""
    experience = "examples" if isinstance(run, FewShotRun) else "rewards"
    tried = f"in a new run try {remedies(run.agent_config, experience)}"
    print(f"metarl: error: {run.agent} diverged in {error}; {tried}{advice(out, go_on)}", file=sys.stderr)
