"""Agents with a memory: acting, and cutting and joining of their states."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from metarl.learning.networks.cells.cache import Cache
from metarl.learning.networks.cells.table import CELLS
from metarl.learning.trials.actor import Memory
from metarl.registry import agent_class
from metarl.types import Spaces, Step, Task, TaskParameter, Trajectories

SMALL = {
    "units": 6,
    "encoder": (5,),
    "hidden": (7,),
    "decoder": (6,),
    "latent": 2,
    "episodes_per_trial": 3,
}
OF_CELL: dict[str, dict[str, Any]] = {cell: {"cell": cell} for cell in CELLS}
OF_CELL["attention"] |= {"attention_heads": 3}  # which divide the units
AGENTS: dict[str, tuple[str, dict[str, Any]]] = {
    **{f"rl2 {cell}": ("rl2", settings) for cell, settings in OF_CELL.items()},
    "rl2 aggregated": ("rl2", {"aggregate": "max"}),
    "rl2 hypernetwork": ("rl2", {"head": "hypernetwork"}),
    **{f"varibad {cell}": ("varibad", settings) for cell, settings in OF_CELL.items() if cell != "gru"},
    "varibad": ("varibad", {}),
    "varibad aggregated": ("varibad", {"aggregate": "max"}),
    "recurrent-sac": ("recurrent-sac", {}),
    "rma conv": ("rma", {"history_steps": 12}),
    "rma gru": ("rma", {"history_encoder": "gru"}),
}
Play = Callable[..., list[Trajectories]]


@pytest.fixture(params=AGENTS)
def agent(request: pytest.FixtureRequest, spaces: Spaces) -> Any:
    """A small agent none of whose parameters is zero."""
    name, settings = AGENTS[request.param]
    kind: Any = agent_class(name)
    spaces = replace(spaces, task_parameters=(TaskParameter("number", 1),))
    known = {key: value for key, value in SMALL.items() if hasattr(kind.Config(), key)}
    built = kind(kind.Config(**known, **settings), spaces, device=torch.device("cpu"), rng=np.random.default_rng(0))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in built.network.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return built


def step_of(agent: Any, m: int, e: int, **changes: Any) -> Step:
    """A step in the middle of an episode."""
    rng = np.random.default_rng(8)
    step = Step(
        observation=rng.standard_normal((m, e, agent.spaces.observation_size)).astype(np.float32),
        previous_action=np.full((m, e, agent.spaces.action_size), 1.0, dtype=np.float32),
        previous_reward=np.full((m, e), 2.0, dtype=np.float32),
        first=np.zeros((m, e), dtype=np.bool_),
        live=np.ones((m, e), dtype=np.bool_),
    )
    return replace(step, **changes)


def leaves(content: Any) -> list[torch.Tensor]:
    """The tensors of a network's memory; those of a cache without what is beyond its length."""
    if isinstance(content, torch.Tensor):
        return [content]
    if isinstance(content, Cache):
        capacity = content.entries[0].shape[1]
        there = (torch.arange(capacity) < content.length[:, None]).unsqueeze(2)
        return [*(torch.where(there, part, 0.0) for part in content.entries), content.length, content.position]
    return [leaf for part in content for leaf in leaves(part)]


def same_rows(one: Memory[Any], other: Memory[Any]) -> list[bool]:
    """For each row whether its memory is the same, bit for bit."""
    pairs = zip(leaves(one.content), leaves(other.content), strict=True)
    return torch.stack([(a == b).view(len(a), -1).all(dim=-1) for a, b in pairs]).all(dim=0).tolist()


def assert_equal(one: Memory[Any], other: Memory[Any]) -> None:
    """Equal states, bit for bit."""
    assert np.array_equal(one.feedback, other.feedback)
    for mine, theirs in ((one.content, other.content), (one.before, other.before)):
        assert [t.shape for t in leaves(mine)] == [t.shape for t in leaves(theirs)]
        assert all(torch.equal(a, b) for a, b in zip(leaves(mine), leaves(theirs), strict=True))


def test_the_memory_survives_the_end_of_an_episode_and_not_that_of_a_trial(agent: Any) -> None:
    rng = np.random.default_rng(0)
    start = agent.begin([Task.of("noise")], 2)
    fresh = leaves(agent.network.fresh_memory(2))
    assert all(torch.equal(one, other) for one, other in zip(leaves(start.content), fresh, strict=True))
    assert not start.feedback.any()
    _, lived = agent.act(start, step_of(agent, 1, 2, first=np.ones((1, 2), dtype=np.bool_)), rng)
    episode = Trajectories(
        all_observations=np.zeros((1, 2, 6, 3), dtype=np.float32),
        actions=np.float32([[[[0, 0], [1, 4], [0, 0], [0, 0], [0, 0]], [[0, 1]] * 4 + [[-1, -2]]]]),
        rewards=np.float32([[[0, 7, 0, 0, 0], [0, 0, 0, 0, 5]]]),
        terminated=np.zeros((1, 2, 5), dtype=np.bool_),
        truncated=np.array([[[0, 1, 0, 0, 0], [0] * 5]], dtype=np.bool_),
        mask=np.array([[[1, 1, 0, 0, 0], [1, 1, 1, 1, 1]]], dtype=np.bool_),
        success=None,
        diverged=np.zeros((1, 2), dtype=np.bool_),
        extras={},
    )
    adapted = agent.adapt(lived, episode)
    assert same_rows(adapted, lived) == [True, True]
    assert same_rows(lived, start) == [False, False]
    assert adapted.feedback.tolist() == [[[1, 1, 7, 1], [-1, -1, 5, 1]]]
    again = agent.begin([Task.of("noise")], 2)
    assert same_rows(again, start) == [True, True]
    assert not again.feedback.any()


def test_a_row_whose_episode_is_over_keeps_its_memory(agent: Any) -> None:
    rng = np.random.default_rng(0)
    _, state = agent.act(agent.begin([Task.of("noise")] * 2, 2), step_of(agent, 2, 2), rng)
    before = [t.clone() for t in leaves(state.content)]
    _, after = agent.act(state, step_of(agent, 2, 2, live=np.array([[True, False], [False, True]])), rng)
    assert same_rows(after, state) == [False, True, True, False]
    assert all(torch.equal(*pair) for pair in zip(leaves(state.content), before, strict=True)), "a state is a value"


def test_the_first_step_of_an_episode_is_told_what_the_state_carries(agent: Any) -> None:
    """At the first step of an episode `Step` has zeros; the feedback is that of the state, from `adapt`."""
    carried = np.float32([[[0.5, -0.5, 3.0, 1.0]]])
    empty = agent.begin([Task.of("noise")], 1)
    first = step_of(agent, 1, 1, first=np.ones((1, 1), dtype=np.bool_))
    states = [
        agent.act(state, step, np.random.default_rng(0))[1]
        for state, step in (
            (empty, first),
            (Memory(empty.content, carried), first),
            (Memory(empty.content, carried), step_of(agent, 1, 1)),
            (empty, step_of(agent, 1, 1)),
        )
    ]
    assert same_rows(states[0], states[1]) == [False]
    assert same_rows(states[2], states[3]) == [True], "later steps are told by Step alone"


def test_trials_are_counted_as_the_protocol_wants(agent: Any) -> None:
    assert agent.adaptation_steps == 2
    assert agent.episodes_per_adaptation(20) == 1


def test_a_state_is_the_join_of_its_parts_and_parts_act_as_the_whole(agent: Any, play: Play) -> None:
    """Rows do not depend on one another; only the shapes of the products differ."""
    rng = np.random.default_rng(0)
    _, state = agent.act(agent.begin([Task.of("noise")] * 3, 2), step_of(agent, 3, 2), rng)
    state = agent.adapt(state, play(agent, [[[5, 2], [1, 5], [3, 4]]])[0])
    _, state = agent.act(state, step_of(agent, 3, 2), rng)
    assert same_rows(state, replace(state, content=state.before)) == [False] * 6, "it has lived since `adapt`"
    parts = [slice(0, 1), slice(1, 3)]
    assert_equal(Memory.join([state.tasks(part) for part in parts]), state)
    fresh = replace(state, before=None)
    assert_equal(Memory.join([fresh.tasks(part) for part in parts]), replace(state, before=state.content))

    off = 1e-5 if getattr(agent.config, "cell", "") == "snail" else 1e-6  # its activations are larger
    step = step_of(agent, 3, 2, live=np.array([[True, False], [True, True], [False, True]]))
    whole, after = agent.act(state, step, rng, mode=True)
    for part in parts:
        some = Step(*(array[part] for array in vars(step).values()))
        action, then = agent.act(state.tasks(part), some, rng, mode=True)
        assert action.environment == pytest.approx(whole.environment[part], abs=off)
        for name, extra in action.extras.items():
            assert extra == pytest.approx(whole.extras[name][part], abs=1e-5), name
        for mine, theirs in zip(leaves(then.content), leaves(after.tasks(part).content), strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=off)


def test_a_part_of_a_state_holds_no_more_than_its_rows(agent: Any) -> None:
    state = agent.begin([Task.of("noise")] * 3, 2).tasks(slice(1, 2))
    for tensor in leaves(state.content):
        assert tensor.untyped_storage().nbytes() == tensor.nbytes
