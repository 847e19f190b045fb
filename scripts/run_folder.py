"""The folder of a run as `metarl train` makes it, checks it, and keeps other processes out of it."""

from __future__ import annotations

import contextlib
import fcntl
import re
import shlex
import time
from collections.abc import Iterator
from pathlib import Path

from metarl.checkpoint import list_checkpoints, newest_iteration
from metarl.files import read_json, remove_partial, write_json
from metarl.runs import STEPPING_FIELDS, RunConfig, versions
from metarl.scripts.refusals import DEVICE_FIELDS, warn_of_another_device

MAY_CHANGE = ("training.iterations", "training.eval_every", *STEPPING_FIELDS)
"""The settings that a resumed run may change: none touches what an iteration computes, but for an annealed step size,
which follows `iterations`. The device may change too, which is said."""


def new_run_dir(agent: str, family: str) -> Path:
    """A folder under `runs/` that does not exist yet."""
    stem = f"{time.strftime('%Y%m%d-%H%M%S')}-{agent}-{re.sub(r'[^A-Za-z0-9._=-]+', '-', family).strip('-')}"
    for suffix in ("", *(f"-{i}" for i in range(2, 1000))):
        path = Path("runs") / f"{stem}{suffix}"
        try:
            path.mkdir(parents=True)
            return path
        except FileExistsError:
            continue
    raise ValueError(f"runs/{stem}: got 999 runs of that name, expected a free one")


def prepare(out: Path | None, run: RunConfig, *, resume: bool) -> Path:
    """The run's folder, made or checked; nothing that is there is overwritten.

    Args:
        out: The folder; a new one under `runs/` by default.
        run: The configuration.
        resume: Whether the run goes on in its folder.

    Raises:
        ValueError: It cannot be the folder of this run.
    """
    if out is None:
        out = new_run_dir(run.agent, run.family)
    elif (out / "config.json").exists() and not resume:
        raise ValueError(
            f"--out: got {out}, which already holds a run; use --resume to go on with it, or another folder"
        )
    elif out.exists() and not out.is_dir():
        raise ValueError(f"--out: got {out}, which is a file; expected a folder or a new name")
    elif resume and any(out.glob("seed-*/config.json")):
        raise ValueError(f"--resume: got {out}, a folder of several seeds; add --seeds, or name one of them")
    elif not (out / "config.json").exists() and (
        list_checkpoints(out / "checkpoints") or (out / "metrics.jsonl").exists()
    ):
        raise ValueError(f"--out: got {out}, which holds a run without its config.json; put that back, or name another")
    elif (out / "config.json").exists():
        done = newest_iteration(out / "checkpoints")
        if run.training.iterations < done:
            raise ValueError(
                f"--iterations: got {run.training.iterations}, but {out} has made {done}; expected at least that many"
            )
        before = RunConfig.read(out)
        moved = DEVICE_FIELDS if before.training.device != run.training.device else ()
        changed = before.changed_fields(run, (*MAY_CHANGE, *moved))
        if changed:
            names = {name: name.replace("agent_config.", "agent.").replace("training.", "") for name in changed}
            fields = ", ".join({**names, "family": f"family (there {before.family!r})"}[name] for name in changed)
            raise ValueError(
                f"--resume: got a configuration that differs from that of {out} in {fields}; "
                "only --iterations, --eval-every and --device may change"
            )
        warn_of_another_device(before, run)
    (out / "checkpoints").mkdir(parents=True, exist_ok=True)
    return out


def folder_to_go_on_with(out: Path, seeds: int) -> Path | None:
    """The folder whose configuration a run goes on with: its own, or that of the first of several seeds.

    Args:
        out: What `--out` says.
        seeds: How many runs lie in it; 0 for one that is there itself.
    """
    of_seeds = {int(p.name[5:]): p for p in out.glob("seed-*") if p.name[5:].isdecimal()} if seeds else {}
    folders = [of_seeds[seed] for seed in sorted(of_seeds)] if seeds else [out]
    return next((folder for folder in folders if (folder / "config.json").is_file()), None)


def how_to_go_on(run: RunConfig, out: Path, seeds: int) -> str:
    """The command that goes on with a run, and with the other seeds if there are several.

    Args:
        run: Its configuration.
        out: Its folder.
        seeds: As in `folder_to_go_on_with`.
    """
    folder, more = (out.parent, f" --seeds {seeds}") if seeds else (out, "")
    words = f"{run.agent} {shlex.quote(run.family)} --out {shlex.quote(str(folder))}{more}"
    return f"go on with: metarl train {words} --resume"


@contextlib.contextmanager
def sole_writer(out: Path) -> Iterator[None]:
    """Holds the run's lock; the system gives it up when the process ends, however it ends."""
    with open(out / ".lock", "w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(
                f"--out: got {out}, in which another process is training; wait for it, or stop it"
            ) from error
        yield


def describe(out: Path, run: RunConfig) -> None:
    """Writes the configuration, and the versions of this start beside those of earlier ones."""
    remove_partial(out)
    remove_partial(out / "checkpoints")
    run.write(out)
    earlier = read_json(out / "versions.json") if (out / "versions.json").exists() else None
    starts = [*earlier["starts"], versions()] if earlier else [versions()]
    write_json(out / "versions.json", {"starts": starts})
