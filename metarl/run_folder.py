"""The folder of a run: creation, checks, a lock against other processes, and descriptions."""

from __future__ import annotations

import contextlib
import fcntl
import re
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from metarl import digests
from metarl.checkpoint import list_checkpoints, newest_iteration
from metarl.files import read_json, remove_partial, write_json
from metarl.run_config import BaseRun
from metarl.runs import STEPPING_FIELDS, versions

MAY_CHANGE = ("training.iterations", "training.eval_every", *STEPPING_FIELDS)
"""Settings that a resumed run may change: none affects what an iteration computes, except that an annealed step size
follows `iterations`. The device may change too, with a warning."""
DEVICE_FIELDS = ("training.device", "training.matmul")
"""Settings that may change when a run is resumed on another machine; its numbers then change by rounding."""


def new_run_dir(agent: str, family: str) -> Path:
    """Makes a new folder under `runs/`, named by time, agent and family.

    Raises:
        ValueError: There are 999 runs of that name already.
    """
    agent, family = (re.sub(r"[^A-Za-z0-9._=-]+", "-", name).strip("-") for name in (agent, family))
    stem = f"{time.strftime('%Y%m%d-%H%M%S')}-{agent}-{family}"
    for suffix in ("", *(f"-{i}" for i in range(2, 1000))):
        path = Path("runs") / f"{stem}{suffix}"
        try:
            path.mkdir(parents=True)
            return path
        except FileExistsError:
            continue
    raise ValueError(f"runs/{stem}: got 999 runs of that name, expected a free one")


def prepare(out: Path, run: BaseRun, *, resume: bool) -> list[str]:
    """Makes or checks a run's folder; overwrites nothing.

    Args:
        out: The folder.
        run: The configuration.
        resume: Whether to continue the run in the folder.

    Returns:
        Warnings, one line each.

    Raises:
        ValueError: The folder cannot hold this run.
    """
    has_run, warnings = (out / "config.json").exists(), list[str]()
    if has_run and not resume:
        raise ValueError(
            f"out: got {out}, which already holds a run; add --resume (resume=True) to continue it, or choose another "
            "folder"
        )
    if out.exists() and not out.is_dir():
        raise ValueError(f"out: got {out}, which is a file; expected a folder or a new name")
    if resume and any(out.glob("seed-*/config.json")):
        raise ValueError(f"resume: got {out}, a folder of several seeds; add --seeds, or name one of them")
    if not has_run and (list_checkpoints(out / "checkpoints") or (out / "metrics.jsonl").exists()):
        raise ValueError(
            f"out: got {out}, which holds a run without its config.json; restore that file, or choose another folder"
        )
    if has_run:
        warnings = _check_resumed(out, run)
    (out / "checkpoints").mkdir(parents=True, exist_ok=True)
    return warnings


def _check_resumed(out: Path, run: BaseRun) -> list[str]:
    """Raises ValueError unless a configuration may continue the run in a folder; returns warnings."""
    done = newest_iteration(out / "checkpoints")
    if run.training.iterations < done:
        raise ValueError(
            f"iterations: got {run.training.iterations}, but {out} has already made {done}; expected at least that many"
        )
    before = type(run).read(out, run.own_agent)
    was, is_now = before.training.device, run.training.device
    changed = before.changed_fields(run, (*MAY_CHANGE, *(DEVICE_FIELDS if was != is_now else ())))
    if "agent" in changed:
        raise ValueError(f"resume: got the agent {run.agent!r}, but {out} was trained by {before.agent!r}")
    if "family_digest" in changed:
        raise ValueError(
            f"resume: got {run.family!r}, another robot than that which {out} was trained on: its file, or one that it "
            "includes, has changed since; restore it, or start a new run with another --out"
        )
    if changed:
        names = {name: name.replace("agent_config.", "agent.").replace("training.", "") for name in changed}
        there = {"family": f"family (there {before.family!r})"}
        fields = ", ".join({**names, **there}[name] for name in changed)
        raise ValueError(
            f"resume: got a configuration that differs from that of {out} in {fields}; "
            "only iterations, eval_every, device, and the options of this machine (workers, track) may change"
        )
    warnings = [digests.warning(str(out), run.family, *(getattr(one, "family_digest", "") for one in (before, run)))]
    if was != is_now:
        warnings.append(
            f"this run was made on {was} and continues on {is_now}: its numbers are no longer the same, bit for bit, "
            "as without the change"
        )
    return [line for line in warnings if line]


@contextlib.contextmanager
def sole_writer(out: Path) -> Iterator[None]:
    """Holds the run's lock; the system releases it when the process ends, even by a crash.

    Raises:
        ValueError: Another process holds it.
    """
    with open(out / ".lock", "w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(
                f"out: got {out}, in which another process is training; wait for it, or stop it"
            ) from error
        yield


def describe(out: Path, run: BaseRun) -> None:
    """Writes `config.json`, and appends the installed versions to `versions.json`; removes half-written files."""
    remove_partial(out)
    remove_partial(out / "checkpoints")
    run.write(out)
    earlier = read_json(out / "versions.json") if (out / "versions.json").exists() else None
    starts = [*earlier["starts"], versions()] if earlier else [versions()]
    write_json(out / "versions.json", {"starts": starts})


def record_memory(out: Path) -> None:
    """Adds the peak memory of this process to its start in `versions.json`: `host` and `gpu` (null without one), bytes.

    Worker processes do not count.
    """
    starts = read_json(out / "versions.json")["starts"]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    gpu = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None
    starts[-1]["peak_memory"] = {"host": peak, "gpu": gpu}
    write_json(out / "versions.json", {"starts": starts})
