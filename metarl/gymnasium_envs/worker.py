"""What runs in a worker process: the part of the batch that it holds, and how it tells of its end."""

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
    """The rows that one worker process holds, as a single environment of Gymnasium's `AsyncVectorEnv`.

    All parts of a batch have the same size; the last one may hold fewer rows, and its spare ones stay zero.

    Args:
        maker: How to get an environment for a task.
        layout: Its spaces.
        rows: The rows of the batch that it holds.
        size: Rows that it has room for.
        progress: As for `TaskRow`.
        in_worker: Whether the process holds nothing but this.
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
        """Resets its rows as `TaskRow.reset` does; a failure is handed back in the infos."""
        self._seed_global_generators(options)
        try:
            self._report[: self._rows.num_envs], _ = self._rows.reset(options=options)
        except EnvError as failure:
            return self._report, {"failure": failure}
        return self._report, {}

    def _seed_global_generators(self, options: dict[str, Any] | None) -> None:
        """Seeds NumPy's and Python's, which an environment may draw from although it should not.

        All workers come from one process, so NumPy's would be in the same state in each of them. Seeded from what
        the rows are seeded with, they differ between workers and repeat in the same run.
        """
        assert options is not None
        seeds = [int(options["seeds"][row]) for row in self._indices]
        seed = next((s for s in seeds if s != LEAVE), None)
        if seed is not None:
            np.random.seed(seed)  # noqa: NPY002  # the environment's, not ours
            random.seed(seed)

    def step(self, action: Floats) -> tuple[Floats, float, bool, bool, dict[str, Any]]:
        """Steps its rows; a failure is handed back in the infos."""
        try:
            self._report[: self._rows.num_envs] = self._rows.step(action[: self._rows.num_envs])[0]
        except EnvError as failure:
            return self._report, 0.0, False, False, {"failure": failure}
        return self._report, 0.0, False, False, {}

    def close(self) -> None:
        """Closes its rows, and ends what they started with multiprocessing, which would keep a worker alive."""
        self._rows.close()
        if self._in_worker:
            for child in multiprocessing.active_children():
                child.kill()


@dataclass(frozen=True)
class PartMaker:
    """Makes a `Part`, in the worker process that will hold it.

    Args:
        maker: As for `Part`.
        layout: As for `Part`.
        rows: As for `Part`.
        size: As for `Part`.
        black_box: Files of the worker: `progress_file` and `trace_file` of it.
        owner: Process that the batch belongs to.
        limited_output: Hand the first lines of the environments' output to the owner, and drop the rest.
    """

    maker: Maker
    layout: Layout
    rows: range
    size: int
    black_box: Path
    owner: int
    limited_output: bool = False

    def __call__(self) -> Part:
        """The part; in a worker process, that process is prepared first."""
        if os.getpid() == self.owner:  # Gymnasium asks there for the spaces
            return Part(self.maker, self.layout, self.rows, self.size, np.zeros(2, dtype=np.int64), in_worker=False)
        prepare_worker(self.black_box, self.limited_output)
        return Part(self.maker, self.layout, self.rows, self.size, open_progress(self.black_box), in_worker=True)


def progress_file(black_box: Path) -> Path:
    """Where a worker writes its progress."""
    return black_box.with_suffix(".progress")


def trace_file(black_box: Path) -> Path:
    """Where a worker writes its traceback when it dies of a signal, or when it is asked to."""
    return black_box.with_suffix(".trace")


def read_trace(black_box: Path) -> str:
    """What a worker wrote there; empty while it wrote nothing."""
    lines = (
        trace_file(black_box).read_text(encoding="utf-8", errors="replace") if trace_file(black_box).exists() else ""
    )
    return "\n".join(line for line in lines.splitlines() if not line.startswith("Extension modules:"))


def open_progress(black_box: Path) -> Floats:
    """The progress that a worker writes and its owner reads: `[2]`, as for `TaskRow`."""
    return np.memmap(progress_file(black_box), dtype=np.int64, mode="r+", shape=(2,))


def notes_file(black_box: Path) -> Path:
    """Where a worker writes lines for its owner to print."""
    return black_box.with_suffix(".notes")


def prepare_worker(black_box: Path, limited_output: bool) -> None:
    """Makes a worker process leave Ctrl-C to its owner, end with it, and say where it is when it dies or hangs."""
    forget_safe_path()
    with contextlib.suppress(OSError):
        os.setsid()  # Ctrl-C on the terminal does not reach it, and what it starts can be ended with it
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
    """Ends this process when the one that started it does, even in the middle of a step, and clears up after it."""
    owner = parent_process()
    if owner is not None:
        owner.join()
        shutil.rmtree(folder, ignore_errors=True)
        end_with_children(os.getpid())
        os._exit(1)


def end_with_children(pid: int) -> None:
    """Kills a worker process with the processes that its environments started."""
    with contextlib.suppress(OSError):
        if os.getpgid(pid) == pid:  # it leads a group of its own: never kill that of the owner
            os.killpg(pid, signal.SIGKILL)
    with contextlib.suppress(OSError):
        os.kill(pid, signal.SIGKILL)
