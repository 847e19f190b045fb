"""Messages of `metarl train` about a training that cannot continue, or whose words are in another order."""

from __future__ import annotations

import dataclasses
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from metarl.checkpoint import list_checkpoints
from metarl.few_shot.run import FewShotRun
from metarl.finite import NotFiniteError, remedies
from metarl.registry import AGENTS, FAMILIES, FEW_SHOT_FAMILIES, LEARNERS, SCHEMES, names
from metarl.run_config import BaseRun
from metarl.scripts.sampling import SamplingOptions

DEFAULT_TRACK = "tensorboard"
DEFAULT_SAMPLING = SamplingOptions()
"""Trackers of a run without `--track`."""

OWN = r"[A-Za-z_][\w.]*:[A-Za-z_]\w*"


def options_first(command: str, words: Sequence[str]) -> str:
    """A sentence for a command line with options before AGENT or FAMILY; empty if it does not hold both.

    Args:
        command: `train` or `tune`.
        words: The words after it.
    """
    agents = {*names(AGENTS), *names(LEARNERS)}
    families = {*names(FAMILIES), *names(FEW_SHOT_FAMILIES), *names(SCHEMES)}
    found: dict[str, list[str]] = {"agent": [], "family": [], "own": []}
    # A word after an option may be its value, so the others are asked first.
    last = [bool(i) and words[i - 1].startswith("--") and "=" not in words[i - 1] for i in range(len(words))]
    for word in [words[i] for i in sorted(range(len(words)), key=lambda i: last[i])]:
        kind = "agent" if word in agents else "family" if word.partition(":")[0] in families else "own"
        if kind != "own" or re.fullmatch(OWN, word):
            found[kind].append(word)
    agent = next(iter([*found["agent"], *found["own"]]), "")
    family = next((word for word in [*found["family"], *found["own"]] if word != agent), "")
    if not agent or not family:
        return ""
    return (
        f"{command}: got options before AGENT or FAMILY, which come first: "
        f"metarl {command} {shlex.quote(agent)} {shlex.quote(family)} [options]"
    )


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
