"""Playing in this process for an agent on another device; the device itself is pretended."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from metarl.envs.point_robot import point_robot
from metarl.seeding import Streams
from metarl.workers import blocks
from metarl.workers.blocks import Batches, Block, InProcess
from metarl.workers.packed import device_of

ELSEWHERE = torch.device("meta")


@pytest.fixture
def acted(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The actors of all blocks that are played."""
    seen: list[Any] = []
    play = Batches.play

    def watched(self: Batches, actor: Any, *rest: Any) -> Any:
        seen.append(actor)
        return play(self, actor, *rest)

    monkeypatch.setattr(Batches, "play", watched)
    return seen


def block(one: Any) -> Block[Any]:
    return Block(tuple(one.tasks), 2, 10, one.agent.begin(one.tasks, 2), Streams(0))


def test_an_agent_elsewhere_acts_through_a_copy_on_the_cpu(
    trial, acted: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = trial(point_robot())
    player = InProcess(point_robot().make_envs)
    ((expected, here),) = player.play(one.agent, [block(one)])
    assert acted == [one.agent]
    monkeypatch.setattr(blocks, "device_of", lambda value: ELSEWHERE)
    ((found, there),) = player.play(one.agent, [block(one)])
    player.close()
    assert acted[1] is not one.agent
    assert vars(acted[1]).keys() == set(one.agent.acts_with) < vars(one.agent).keys()
    assert device_of(acted[1]) == torch.device("cpu")
    assert (found.actions == expected.actions).all()
    assert device_of(here) == torch.device("cpu")
    assert device_of(there) == ELSEWHERE


def test_an_agent_that_cannot_be_packed_acts_where_it_is(trial, acted: list[Any]) -> None:
    one = trial(point_robot())
    one.agent.acting_part = lambda: (x for x in ())
    player = InProcess(point_robot().make_envs)
    player.play(one.agent, [block(one)])
    player.close()
    assert acted == [one.agent]


def test_a_value_is_on_the_first_device_that_is_not_the_cpu() -> None:
    near, far = torch.zeros(2), torch.zeros(2, device=ELSEWHERE)
    assert device_of({"a": near, "b": [far]}) == ELSEWHERE
    assert device_of((near, "text")) == torch.device("cpu")
