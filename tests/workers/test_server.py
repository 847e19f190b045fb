"""The server process that workers are forked from."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from multiprocessing import forkserver
from multiprocessing.connection import wait
from typing import Any

import pytest

from metarl.envs.point_robot import point_robot
from metarl.workers import server
from metarl.workers.pool import Processes


def test_workers_start_while_their_server_is_dying(soon: Callable[..., None]) -> None:
    pool = Processes(point_robot().make_envs, 2)
    for _ in range(5):
        soon(lambda: all(worker.pid for worker in pool._workers))
        sentinels = [worker.sentinel for worker in pool._workers]
        os.kill(forkserver._forkserver._forkserver_pid, signal.SIGKILL)
        wait(sentinels, 10.0)  # its files are closed, but it may not be dead
        pool._drop(list(pool._workers))
        pool._fill()
        soon(lambda: all(worker.pid or worker.problem for worker in pool._workers))
        assert [worker.problem for worker in pool._workers] == [""] * len(pool._workers)
    pool.close()


@pytest.mark.parametrize("failures", [0, 2, 5, 6])
def test_a_start_is_tried_again_if_the_server_has_died(monkeypatch: pytest.MonkeyPatch, failures: int) -> None:
    starts: list[Any] = []
    waits: list[Any] = []

    class Process:
        def start(self) -> None:
            starts.append(self)
            if len(starts) <= failures:
                raise EOFError("unexpected EOF")

    make: Any = Process
    monkeypatch.setattr(time, "sleep", waits.append)
    monkeypatch.setattr(server, "_ensure_running", lambda: waits.append("server"))
    if failures > len(server.RESTARTS):
        with pytest.raises(EOFError):
            server.start_process(make)
    else:
        assert server.start_process(make) is starts[-1]
    assert len(set(starts)) == min(failures + 1, 6)
    assert waits == [what for wait in server.RESTARTS[:failures] for what in (wait, "server")]
