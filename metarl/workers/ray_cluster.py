"""Ray: started on this machine, or a cluster that is joined; quiet, and gone afterwards if it was started here."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from typing import Any, TextIO

from metarl.vector import available_cores
from metarl.workers.faults import WorkersError

SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",  # sends no usage statistics
    "RAY_USAGE_STATS_PROMPT_ENABLED": "0",
    "RAY_NUM_REDIS_GET_RETRIES": "3",  # tries to reach a cluster; a try at one that has crashed takes 40 s
}
"""Environment of Ray, unless the user has set it."""
RUNTIME_ENV = "RAY_RUNTIME_ENV"
"""Variable with the runtime environment of the actors, as JSON; Ray's own client reads it too."""
REACH_SECONDS = 5.0
"""Time limit of a first connection to a cluster, s."""
TOKEN = "AuthToken"
"""Part of Ray's message about a cluster that asks for a token."""

REASON = 400
"""Most characters of Ray's own words in an error line."""


class Cluster:
    """A connection to Ray. A Ray that this process is already connected to is used, and left as it is.

    Args:
        address: `auto`, `HOST:PORT`, or None to start Ray on this machine.
        cpus: Number of CPUs that a Ray started here counts; None for all cores.

    Attributes:
        ray: The package.
        started_here: Whether Ray was started on this machine for this run.

    Raises:
        WorkersError: Ray is not installed, or there is no cluster to join.
    """

    def __init__(self, address: str | None, cpus: int | None) -> None:
        for name, value in SETTINGS.items():
            os.environ.setdefault(name, value)
        self.ray = _imported()
        self._connected = not self.ray.is_initialized()
        self.started_here = self._connected and address is None
        if not self._connected:
            return
        if address not in (None, "auto"):
            _reach(str(address))
        options: dict[str, Any] = {
            "address": address or "local",
            "log_to_driver": False,
            "logging_level": logging.ERROR,
            "runtime_env": _runtime_env(),
        }
        if address is None:
            options |= {"num_cpus": cpus or available_cores(), "include_dashboard": False}
        with _handlers_kept(), _stderr_in_a_file() as said:
            try:
                self.ray.init(**options)
            except Exception as error:  # Ray raises exceptions of several types
                said.seek(0)
                raise WorkersError(_why(address, error, said.read())) from error
        _stop_messages(self.ray)

    @property
    def cpus(self) -> int:
        """Number of CPUs of all nodes."""
        return int(self.ray.cluster_resources().get("CPU", 0))

    @property
    def free_cpus(self) -> int:
        """Number of CPUs that nobody uses."""
        return int(self.ray.available_resources().get("CPU", 0))

    def close(self) -> None:
        """Leaves the cluster; a Ray that was started here ends."""
        if self._connected:
            with _handlers_kept(), _stderr_in_a_file():
                self.ray.shutdown()
            self._connected = False


def _imported() -> Any:
    try:
        import ray
    except ImportError as error:
        raise WorkersError(
            'workers: got ray, but the package cannot be imported; run: pip install "metarl-robots[ray]"'
            + ("" if isinstance(error, ModuleNotFoundError) and error.name == "ray" else f" ({error})")
        ) from error
    return ray


def _reach(address: str) -> None:
    """Connects to an address once: Ray itself would try a wrong one for minutes.

    Raises:
        WorkersError: Nothing answers there, or it is not of the form `HOST:PORT`.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or "/" in host:
        raise WorkersError(f"ray_address: got {address!r}, expected auto or HOST:PORT, as `ray start --head` prints it")
    try:
        socket.create_connection((host.strip("[]"), int(port)), REACH_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise WorkersError(
            f"ray_address: got {address}, where nothing answers ({error}); start a cluster with `ray start --head`, "
            "which prints its address"
        ) from error


def _runtime_env() -> Any:
    text = os.environ.get(RUNTIME_ENV, "").strip()
    try:
        value = json.loads(text or "null")
    except json.JSONDecodeError as error:
        raise WorkersError(f"{RUNTIME_ENV}: got {text!r}, expected JSON such as {EXAMPLE} ({error})") from error
    if not isinstance(value, dict | None):
        raise WorkersError(f"{RUNTIME_ENV}: got {text!r}, expected a JSON object such as {EXAMPLE}")
    return value


EXAMPLE = '{"working_dir": "."}'
"""A runtime environment that sends the working folder to all nodes."""


def _why(address: str | None, error: Exception, said: str) -> str:
    """One line on a Ray that cannot be used."""
    if TOKEN in f"{error}{said}":
        return (
            f"ray_address: the cluster at {address} asks for a token; set RAY_AUTH_MODE=token, with the cluster's "
            "token in ~/.ray/auth_token of this machine"
        )
    reason = " ".join(str(error).split())[:REASON] or type(error).__name__
    if address is None:
        return f"workers: Ray cannot be started on this machine: {reason}"
    return f"ray_address: got {address}, and no cluster can be joined: {reason}"


def _stop_messages(ray: Any) -> None:
    """Ends the thread that prints Ray's messages about lost processes to stdout, where results belong."""
    with contextlib.suppress(AttributeError):  # it is internal to Ray
        worker = ray._private.worker.global_worker
        worker.threads_stopped.set()
        worker.gcs_error_subscriber.close()


@contextlib.contextmanager
def _handlers_kept() -> Iterator[None]:
    """Context that restores the handlers of signals: Ray replaces that of SIGTERM."""
    ours = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)} if ours else {}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)


@contextlib.contextmanager
def _stderr_in_a_file() -> Iterator[TextIO]:
    """Context whose messages on stderr, also those of native code, go to a file."""
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as file:
        sys.stderr.flush()
        stderr = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            with contextlib.redirect_stderr(file):
                yield file
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
