"""The thread pool in which the calling thread works too."""

from __future__ import annotations

import threading

import pytest

from metarl.envs.workers import Workers


def test_every_share_is_done_once_the_first_by_the_caller() -> None:
    workers, done = Workers(3), {}

    def work(share: int) -> None:
        done[share] = threading.current_thread()

    workers.run(work, range(3))
    workers.run(work, [])
    assert sorted(done) == [0, 1, 2]
    assert done[0] is threading.current_thread()
    assert threading.current_thread() not in (done[1], done[2])
    assert workers.map(lambda x: x**2, range(5)) == [0, 1, 4, 9, 16]
    workers.close()


@pytest.mark.parametrize("bad", [0, 1])
def test_what_goes_wrong_in_a_share_reaches_the_caller_after_all_are_done(bad: int) -> None:
    workers, done = Workers(2), []

    def work(share: int) -> None:
        if share == bad:
            raise RuntimeError(f"share {share}")
        done.append(share)

    with pytest.raises(RuntimeError, match=f"share {bad}"):
        workers.run(work, range(2))
    assert done == [1 - bad]
    workers.close()
