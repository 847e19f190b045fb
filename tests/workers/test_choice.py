"""`--workers`: its forms, and environments that can be sent to workers."""

from __future__ import annotations

from dataclasses import replace

import fatal_robot
import numpy as np
import pytest

from metarl.registry import FAMILIES, make_family, names
from metarl.workers import choice as choice_module
from metarl.workers.blocks import InProcess
from metarl.workers.choice import NamedEnvs, WorkerChoice, make_player, read_workers, sendable_envs
from metarl.workers.faults import BlockError, Tries, WorkersError
from metarl.workers.packed import pack, unpack
from metarl.workers.pool import Processes

OPTIONS = {"ml1": "ml1:reach-v3", "ml": "ml:reach-v3/push-v3"}


@pytest.mark.parametrize("name", names(FAMILIES))
def test_the_environments_of_every_family_can_be_sent(name: str) -> None:
    spec = OPTIONS.get(name, name)
    family = make_family(spec)
    sent = sendable_envs(family, spec)
    assert type(unpack(pack(sent))) is type(sent)
    if name not in ("ml10", "ml25", "ml45"):  # many models
        here, there = family.make_envs(1, 1, 5), unpack(pack(sent))(1, 1, 5)
        assert type(here) is type(there)
        assert here.spaces == there.spaces
        here.close()
        there.close()


def test_environments_that_pickle_does_not_find_are_sent_by_name() -> None:
    family = fatal_robot.unpicklable()
    sent = sendable_envs(family, "fatal_robot:unpicklable")
    assert sent == NamedEnvs("fatal_robot:unpicklable", None)
    envs = unpack(pack(sent))(2, 3, 4)
    assert (envs.num_tasks, envs.episodes, envs.horizon) == (2, 3, 4)
    assert sendable_envs(family, "") is family.make_envs


def test_without_a_name_they_are_played_here_or_refused() -> None:
    family = fatal_robot.unpicklable()
    said: list[str] = []
    player = make_player(WorkerChoice(None), family, "", 4, say=said.append)
    assert isinstance(player, InProcess)
    if choice_module.available_cores() > 1:
        (line,) = said
        assert line.startswith("sampling in this process: the environments cannot be sent to worker processes")
    with pytest.raises(WorkersError, match="define functions and classes at the top of a module"):
        make_player(WorkerChoice(2), family, "", 4)


@pytest.mark.parametrize(("cores", "blocks", "count"), [(1, 8, 0), (2, 8, 2), (16, 8, 8), (16, 1, 0), (4, 4, 4)])
def test_auto_keeps_cores_busy(monkeypatch: pytest.MonkeyPatch, cores: int, blocks: int, count: int) -> None:
    monkeypatch.setattr(choice_module, "available_cores", lambda: cores)
    assert read_workers("auto").number(blocks) == count
    assert f"chosen by {cores} cores" in read_workers("auto").in_words(blocks)
    assert isinstance(make_player(read_workers("0"), make_family("point-robot"), "point-robot", blocks), InProcess)


def test_fewer_workers_than_were_asked_for_are_explained() -> None:
    assert read_workers("6").in_words(2) == (
        "sampling: 2 blocks of tasks, 2 worker processes (6 asked for; at most one per block: --blocks)"
    )
    assert "asked" not in read_workers("2").in_words(2)


def test_the_forms_of_workers() -> None:
    assert read_workers("3", silent=5.0) == WorkerChoice(3, silent=5.0)
    assert read_workers("ray") == WorkerChoice(None, True)
    assert read_workers("ray:2", address="auto") == WorkerChoice(2, True, "auto")
    for wrong in ("", "-1", "1.5", "ray:0", "ray:", "ray:x", "two", "99999", "٣"):
        with pytest.raises(ValueError, match="expected auto, a number from 0"):
            read_workers(wrong)
    with pytest.raises(ValueError, match="without Ray"):
        read_workers("2", address="auto")


def test_an_explicit_number_starts_that_many_at_once() -> None:
    player = make_player(WorkerChoice(1, silent=7.0), make_family("point-robot"), "point-robot", 4)
    assert isinstance(player, Processes)
    assert (player.count, player._silent, player._strict) == (1, 7.0, True)
    player.close()


def test_the_error_of_a_block_names_its_tasks_and_shortens_them() -> None:
    tasks = make_family("point-robot").distribution.sample(40, np.random.default_rng(0))
    tries = Tries([1, 39], tasks)
    for _ in range(2):
        tries.failed(1, "died", "")
    with pytest.raises(BlockError) as caught:
        tries.failed(1, "died", "the trace")
    message = str(caught.value)
    assert message.startswith("block 1 of 2 (tasks 1 to 39 of the meta-batch) failed 3 times")
    assert message.endswith("...")
    assert len(message) < 800
    assert caught.value.trace == "the trace"
    assert caught.value.__notes__ == ["Traceback of the worker:\nthe trace"]


def test_a_callers_own_family_is_never_made_by_the_name_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """It cannot be pickled, and a family of its name is registered."""
    registered = make_family("point-robot")
    mine = replace(registered, make_envs=lambda *sizes: registered.make_envs(*sizes))
    assert sendable_envs(mine, "point-robot") == NamedEnvs("point-robot", None)
    said: list[str] = []
    choice = WorkerChoice(by_name=False)
    monkeypatch.setattr(choice_module, "available_cores", lambda: 2)
    assert isinstance(make_player(choice, mine, "point-robot", 2, say=said.append), InProcess)
    assert len(said) == 1
    assert said[0].startswith("sampling in this process: the environments cannot be sent to worker processes")
    with pytest.raises(WorkersError, match="cannot be sent"):
        make_player(WorkerChoice(2, by_name=False), mine, "point-robot", 2)


@pytest.mark.parametrize(
    ("count", "blocks", "most", "expected"),
    [(None, 4, 8, 2), (None, 1, 8, 0), (6, 2, None, 2), (6, 2, 4, 4), (3, 8, 8, 3), (0, 8, 8, 0)],
)
def test_no_more_workers_than_blocks(
    count: int | None, blocks: int, most: int | None, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice_module, "available_cores", lambda: 2)
    assert WorkerChoice(count).number(blocks, most) == expected
