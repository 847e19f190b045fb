"""Rows of a batch in worker processes, the part in a worker, and its log file ("black box")."""

from __future__ import annotations

import contextlib
import faulthandler
import multiprocessing
import os
import random
import shutil
import signal
import sys
import threading
from dataclasses import dataclass
from multiprocessing import parent_process
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from metarl.gymnasium_envs.rows import LEAVE, VERDICT, Layout, Maker, make_rows
from metarl.own_code.errors import EnvError
from metarl.own_code.guest import LimitedOutput, say_to
from metarl.own_code.safe_path import forget_safe_path
from metarl.types import Floats


class Part(gymnasium.Env[Floats, Floats]):
    """The rows of one worker process, as a single environment of Gymnasium's `AsyncVectorEnv`.

    All parts of a batch have the same size; the last one may have fewer rows, and its spare rows stay zero.

    Args:
        maker: Makes an environment for a task.
        layout: The environment's spaces.
        rows: Indices of its rows in the batch.
        size: Number of rows in the arrays.
        progress: As for `TaskRow`.
        in_worker: Whether this process is a worker process.
    """

    def __init__(
        self, maker: Maker, layout: Layout, rows: range, size: int, progress: Floats, *, in_worker: bool
    ) -> None:
        self._in_worker = in_worker
        self._rows, self._indices = make_rows(maker, layout, rows, progress), rows
        shape = (size, layout.observation_size + VERDICT)
        self.observation_space = spaces.Box(-np.inf, np.inf, shape, np.float64)
        self.action_space = spaces.Box(-np.inf, np.inf, (size, layout.action_size), np.float64)
        self._report = np.zeros(shape)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Floats, dict[str, Any]]:
        """Resets its rows as `TaskRow.reset` does; returns a failure in the infos."""
        self._seed_global_generators(options)
        try:
            self._report[: self._rows.num_envs], _ = self._rows.reset(options=options)
        except EnvError as failure:
            return self._report, {"failure": failure}
        return self._report, {}

    def _seed_global_generators(self, options: dict[str, Any] | None) -> None:
        """Seeds the global generators of NumPy and Python, which an environment may use against the rules of Gymnasium.

        All workers start from one process, with the same generator state. Seeded from the first seed of a row, they
        differ between workers, and a run repeats.
        """
        assert options is not None
        seeds = [int(options["seeds"][row]) for row in self._indices]
        seed = next((s for s in seeds if s != LEAVE), None)
        if seed is not None:
            np.random.seed(seed)  # noqa: NPY002  # for environments; metarl uses none
            random.seed(seed)

    def step(self, action: Floats) -> tuple[Floats, float, bool, bool, dict[str, Any]]:
        """Steps its rows; returns a failure in the infos."""
        try:
            self._report[: self._rows.num_envs] = self._rows.step(action[: self._rows.num_envs])[0]
        except EnvError as failure:
            return self._report, 0.0, False, False, {"failure": failure}
        return self._report, 0.0, False, False, {}

    def close(self) -> None:
        """Closes its rows and kills their child processes, which would otherwise keep a worker alive."""
        self._rows.close()
        if self._in_worker:
            for child in multiprocessing.active_children():
                child.kill()


@dataclass(frozen=True)
class PartMaker:
    """Makes a `Part` in its worker process.

    Args:
        maker: As for `Part`.
        layout: As for `Part`.
        rows: As for `Part`.
        size: As for `Part`.
        black_box: Base path of the worker's log files, see `progress_file` and `trace_file`.
        owner: Id of the process that owns the batch.
        limited_output: Pass the first lines of the environments' output to the owner, and discard the rest.
    """

    maker: Maker
    layout: Layout
    rows: range
    size: int
    black_box: Path
    owner: int
    limited_output: bool = False

    def __call__(self) -> Part:
        """Prepares this process if it is a worker, and makes the part."""
        if os.getpid() == self.owner:  # Gymnasium reads the spaces there
            return Part(self.maker, self.layout, self.rows, self.size, np.zeros(2, dtype=np.int64), in_worker=False)
        prepare_worker(self.black_box, self.limited_output)
        return Part(self.maker, self.layout, self.rows, self.size, open_progress(self.black_box), in_worker=True)


def progress_file(black_box: Path) -> Path:
    """File for the progress of a worker."""
    return black_box.with_suffix(".progress")


def trace_file(black_box: Path) -> Path:
    """File for the traceback of a worker when a signal kills it, or on SIGUSR1."""
    return black_box.with_suffix(".trace")


def read_trace(black_box: Path) -> str:
    """The traceback of a worker; empty if it wrote none."""
    lines = (
        trace_file(black_box).read_text(encoding="utf-8", errors="replace") if trace_file(black_box).exists() else ""
    )
    return "\n".join(line for line in lines.splitlines() if not line.startswith("Extension modules:"))


def open_progress(black_box: Path) -> Floats:
    """The progress `[2]` of a worker, as for `TaskRow`, shared with its owner through a file."""
    return np.memmap(progress_file(black_box), dtype=np.int64, mode="r+", shape=(2,))


def notes_file(black_box: Path) -> Path:
    """File for lines that the owner of a worker prints."""
    return black_box.with_suffix(".notes")


def prepare_worker(black_box: Path, limited_output: bool) -> None:
    """Prepares a worker: it ignores Ctrl-C, ends with its owner, and writes a traceback if it dies or hangs."""
    forget_safe_path()
    with contextlib.suppress(OSError):
        os.setsid()  # no Ctrl-C from the terminal, and one process group with its children
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    file = open(trace_file(black_box), "w", encoding="utf-8")  # noqa: SIM115  # stays open for the process
    faulthandler.enable(file=file, all_threads=False)
    faulthandler.register(signal.SIGUSR1, file=file, all_threads=False)
    notes = open(notes_file(black_box), "a", encoding="utf-8", buffering=1)  # noqa: SIM115  # likewise
    say_to(notes)
    if limited_output:
        sys.stdout = sys.stderr = LimitedOutput().onto(notes)
    threading.Thread(target=_end_with_owner, args=(black_box.parent,), daemon=True).start()


def _end_with_owner(folder: Path) -> None:
    """Ends this process and removes its files as soon as its owner ends, even during a step."""
    owner = parent_process()
    if owner is not None:
        owner.join()
        shutil.rmtree(folder, ignore_errors=True)
        end_with_children(os.getpid())
        os._exit(1)


def end_with_children(pid: int) -> None:
    """Kills a worker process and its children."""
    with contextlib.suppress(OSError):
        if os.getpgid(pid) == pid:  # its own group, never that of the owner
            os.killpg(pid, signal.SIGKILL)
    with contextlib.suppress(OSError):
        os.kill(pid, signal.SIGKILL)
