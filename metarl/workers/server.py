"""The server process that workers are forked from: started once per owner, and gone with it."""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing import forkserver, resource_tracker, util
from multiprocessing.process import BaseProcess

from metarl.own_code.safe_path import safe_path

START_METHOD = "forkserver"
"""Start method of workers: from a clean process, since threads of this one do not survive a fork."""
PRELOADED = ("metarl.workers.preloaded", "metarl.gymnasium_envs.batch")
"""Modules that the server imports once for all workers."""
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
"""Environment of the server: libraries that read it when they are imported use one thread."""
FOLDER = "METARL_LISTENER_FOLDER"
"""Environment variable of the server: folder of the socket that it listens on."""
OWNER = "METARL_LISTENER_OWNER"
"""Environment variable of the server: process id of its owner."""
OWNER_SECONDS = 1.0
"""Time in which an owner whose files are closed is gone, s."""
RESTARTS = (0.02, 0.04, 0.08, 0.16, 0.32)
"""Waits before a start is tried again, s."""
_one_server = threading.Lock()


@contextlib.contextmanager
def ctrl_c_is_ours(*, later: bool = False) -> Iterator[None]:
    """Context whose new processes ignore Ctrl-C, which a terminal sends to all processes.

    Args:
        later: Also delay Ctrl-C in this process until they are started. Otherwise Ctrl-C right after a fork would leave
            an unregistered process.
    """
    came: list[int] = []
    handler = signal.getsignal(signal.SIGINT)
    later = later and callable(handler) and threading.current_thread() is threading.main_thread()
    if later:
        signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
    resource_tracker.ensure_running()  # started later, it would unblock Ctrl-C
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if later:
            signal.signal(signal.SIGINT, handler)
        if came:
            signal.raise_signal(signal.SIGINT)


def start_server(more: Sequence[str] = ()) -> None:
    """Starts the server if it does not run; it imports its modules while this process goes on.

    Args:
        more: Further modules to import there.
    """
    multiprocessing.get_context(START_METHOD).set_forkserver_preload([*PRELOADED, *more])
    _ensure_running()


def start_process(make: Callable[[], BaseProcess]) -> BaseProcess:
    """Starts a process; if the server has died, by a new server.

    A server that is killed closes its files some milliseconds before it is dead, and until then `ensure_running` takes
    it for alive. So the start is tried again, after a wait that doubles each time.

    Args:
        make: Makes the process.
    """
    waits = iter(RESTARTS)
    while True:
        process = make()
        try:
            process.start()
            return process
        except (EOFError, ConnectionError):
            wait = next(waits, None)
            if wait is None:
                raise
        time.sleep(wait)
        _ensure_running()


def environment() -> dict[str, str]:
    """The environment variables of this process, never those of the server that is being started."""
    with _one_server:
        return dict(os.environ)


def _ensure_running() -> None:
    """Starts the server if it does not run, with the modules of the last start."""
    own = {FOLDER: util.get_temp_dir(), OWNER: str(os.getpid())}
    try:
        with (
            _one_server,
            ctrl_c_is_ours(later=True),
            safe_path(),
            _environment(ONE_THREAD),
            _environment(own, replace=True),
        ):
            forkserver.ensure_running()
    except OSError as error:
        if "path too long" in str(error):
            raise OSError(f"{error}: {own[FOLDER]}; set TMPDIR to a shorter folder") from error
        raise


def remove_folder_at_end() -> None:
    """Makes the server remove the folder of its socket if its owner was killed; a living owner does that itself."""
    server, folder = os.getpid(), os.environ.pop(FOLDER, "")
    owner = int(os.environ.pop(OWNER, "0"))  # its parent may be another process by now

    def remove() -> None:
        if not folder or os.getpid() != server:
            return
        until = time.monotonic() + OWNER_SECONDS
        while os.getppid() == owner and time.monotonic() < until:
            time.sleep(0.01)
        if os.getppid() != owner:
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)


def let_server_end() -> None:
    """Lets the server end with its owner. By default it waits for its workers too, and one of them may hang."""
    server = getattr(forkserver, "_forkserver", None)
    alive = getattr(server, "_forkserver_alive_fd", None)
    if server is not None and isinstance(alive, int):
        os.close(alive)
        server._forkserver_alive_fd = None


@contextlib.contextmanager
def _environment(variables: Mapping[str, str], *, replace: bool = False) -> Iterator[None]:
    """Context with some environment variables set; those that already are stay, unless they are to be replaced."""
    before = {name: os.environ.get(name) for name in variables if replace or name not in os.environ}
    os.environ.update({name: variables[name] for name in before})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
