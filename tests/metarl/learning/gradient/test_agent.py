"""Properties of all gradient-based agents."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from metarl.agent import MetaAgent
from metarl.checkpoint import load_newest, save_checkpoint
from metarl.learning.gradient.agent import GradientAgent
from metarl.registry import AGENTS, agent_class, names
from metarl.rollout import TrajectoryBuilder
from metarl.seeding import Streams
from metarl.storage import read_tensors
from metarl.types import MetaBatch, Progress, Spaces, Task, Trajectories

GRADIENT_AGENTS = [name for name in names(AGENTS) if issubclass(agent_class(name), GradientAgent)]
ADAPTS_DEVIATIONS = [name for name in GRADIENT_AGENTS if name != "meta-networks"]
"""Agents that adapt all parameters of their policy; see tests/agents/test_meta_networks.py for the other one."""
FIRST_GROWTH = {"meta-lstm": 0.2005}
"""Deviation after a first step from 0.2, of agents that begin with a step size of 0.01 instead of 0.1."""
M, E = 3, 8
TASKS = tuple(Task.of("toy", index=i) for i in range(M))
BRISK: dict[str, dict[str, Any]] = {"promp": {"lr": 0.02}}
"""Settings that learn within a few updates, where the defaults take more."""
Reward = Callable[[np.ndarray], np.ndarray]


def test_the_family_is_complete() -> None:
    assert {"maml-trpo", "fomaml", "meta-sgd", "reptile", "promp"} <= set(GRADIENT_AGENTS)


@pytest.fixture(params=["continuous", "discrete"])
def some_spaces(request, spaces: Spaces, discrete_spaces: Spaces) -> Spaces:
    return spaces if request.param == "continuous" else discrete_spaces


@pytest.fixture(params=GRADIENT_AGENTS)
def name(request) -> str:
    return request.param


@pytest.fixture
def make(name: str, some_spaces: Spaces) -> Callable[..., MetaAgent[Any]]:
    def make(seed: int = 0, **settings: Any) -> MetaAgent[Any]:
        kind = agent_class(name)
        config = kind.Config(hidden=(6,), **settings)
        return kind(config, some_spaces, device=torch.device("cpu"), rng=np.random.default_rng(seed))

    return make


def play(agent: MetaAgent[Any], state: Any, rng: np.random.Generator, reward: Reward) -> Trajectories:
    """Episodes with random observations, rewarded by the action alone."""
    spaces = agent.spaces

    def look() -> np.ndarray:
        return rng.standard_normal((M, E, spaces.observation_size))

    builder, t = TrajectoryBuilder(M, E, spaces, look()), 0
    while builder.unfinished:
        action, state = agent.act(state, builder.step, rng)
        t += 1
        builder.add(action, look(), reward(action.environment), rng.random((M, E)) < 0.02, t == spaces.horizon)
    return builder.build()


def experience(agent: MetaAgent[Any], seed: int, reward: Reward) -> MetaBatch:
    rng, state, trajectories = np.random.default_rng(seed), agent.begin(TASKS, E), []
    for k in range(agent.adaptation_steps + 1):
        if k:
            state = agent.adapt(state, trajectories[-1])
        trajectories.append(play(agent, state, rng, reward))
    return MetaBatch(TASKS, tuple(trajectories))


def liking_two(action: np.ndarray) -> np.ndarray:
    """A reward with its maximum at choice 2, or at 2 in the last component."""
    return -np.abs(action[..., -1] - 2.0)


def test_saved_and_restored_it_goes_on_bit_for_bit(make, tmp_path: Path) -> None:
    settings = {"normalise_observations": True, "normalise_rewards": True}
    agent, twin = make(0, **settings), make(1, **settings)
    untrained = agent.tensors()
    for seed in range(2):
        agent.meta_update(experience(agent, seed, liking_two))
    for name, tensor in agent.tensors().items():
        assert not torch.equal(tensor, untrained[name]), f"{name} is trained"
    save_checkpoint(tmp_path, agent, Streams(0), Progress(2, 2), keep=2)
    load_newest(tmp_path, twin)
    for seed in (2, 3):
        batches = [experience(one, seed, liking_two) for one in (agent, twin)]
        assert np.array_equal(batches[0].collects[-1].actions, batches[1].collects[-1].actions)
        assert agent.meta_update(batches[0]) == twin.meta_update(batches[1])
    assert agent.counters() == twin.counters()
    for name, tensor in agent.tensors().items():
        assert torch.equal(tensor, twin.tensors()[name]), name


def test_a_checkpoint_that_does_not_fit_is_refused_and_changes_nothing(make) -> None:
    agent, other = make(0), make(1)
    before = agent.tensors()
    for name, tensor in other.tensors().items():
        with pytest.raises(ValueError, match=name):
            agent.restore({**other.tensors(), name: torch.stack([tensor, tensor])}, {})
    assert all(torch.equal(t, agent.tensors()[name]) for name, t in before.items())


def test_adapting_changes_neither_the_agent_nor_the_state_and_each_task_goes_its_own_way(make) -> None:
    agent = make(0)
    state = agent.begin(TASKS, E)
    trajectories = play(agent, state, np.random.default_rng(0), liking_two)
    kept, before = state.parameters.clone(), agent.tensors()
    adapted = agent.adapt(state, trajectories)
    assert torch.equal(state.parameters, kept)
    assert all(torch.equal(t, agent.tensors()[name]) for name, t in before.items())
    assert not torch.equal(numbers(adapted)[0], numbers(adapted)[1])
    assert torch.equal(numbers(agent.adapt(state, trajectories)), numbers(adapted)), "it draws nothing"


def numbers(state: Any) -> torch.Tensor:
    """All numbers of each task's state, `[M, n]`."""
    return torch.cat([t.flatten(1) for field in fields(state) for t in leaves(getattr(state, field.name))], dim=1)


def leaves(value: Any) -> list[torch.Tensor]:
    return [value] if isinstance(value, torch.Tensor) else [t for part in value for t in leaves(part)]


def some_tasks(trajectories: Trajectories, part: slice) -> Trajectories:
    """The trajectories of some of the tasks."""
    arrays = {f.name: getattr(trajectories, f.name) for f in fields(trajectories)}
    cut = {name: value[part] if isinstance(value, np.ndarray) else value for name, value in arrays.items()}
    return Trajectories(**{**cut, "extras": {name: value[part] for name, value in trajectories.extras.items()}})


def test_a_state_is_cut_and_joined_along_its_tasks(make) -> None:
    agent = make(0)
    state = agent.begin(TASKS, E)
    trajectories = play(agent, state, np.random.default_rng(0), liking_two)
    adapted = agent.adapt(state, trajectories)
    parts = [slice(0, 1), slice(1, M)]
    pieces = [adapted.tasks(part) for part in parts]
    assert [len(piece.parameters) for piece in pieces] == [1, M - 1]
    assert torch.equal(numbers(type(adapted).join(pieces)), numbers(adapted))
    assert not torch.equal(numbers(pieces[0])[0], numbers(pieces[1])[0]), "an order that matters"

    apart = [agent.adapt(state.tasks(part), some_tasks(trajectories, part)) for part in parts]
    kept = numbers(adapted)
    moved = (kept - torch.nn.functional.pad(numbers(state), (0, kept.shape[1] - numbers(state).shape[1]))).norm()
    assert (numbers(type(adapted).join(apart)) - kept).norm() < 1e-5 * moved, "batches of other shapes"


def test_it_learns_what_pays(name: str, make) -> None:
    agent = make(0, **BRISK.get(name, {}))
    first = experience(agent, 0, liking_two)
    for seed in range(25):
        metrics = agent.meta_update(experience(agent, seed, liking_two))
        assert all(np.isfinite(v) for v in metrics.values())
    last = experience(agent, 0, liking_two)
    gain = last.collects[0].returns().mean() - first.collects[0].returns().mean()
    assert gain > 0.25 * -first.collects[0].returns().mean()


def make_narrow(name: str, spaces: Spaces) -> GradientAgent[Any]:
    """An agent with standard deviations of 0.2, which is also their lower bound."""
    kind = agent_class(name)
    config = kind.Config(hidden=(6,), init_std=0.2, min_std=0.2, **BRISK.get(name, {}))
    return kind(config, spaces, device=torch.device("cpu"), rng=np.random.default_rng(0))


def paid_for_noise(agent: GradientAgent[Any], seed: int, price: float) -> MetaBatch:
    """A meta-batch with rewards of `price` times the squared noise of the first component, in standard deviations.

    The reward does not depend on the mean. A larger deviation has a larger return if `price` is positive, a smaller one
    if it is negative.
    """
    rng, state, trajectories = np.random.default_rng(seed), agent.begin(TASKS, E), []
    for k in range(agent.adaptation_steps + 1):
        if k:
            state = agent.adapt(state, trajectories[-1])
        played = play(agent, state, rng, liking_two)
        own = agent.policy(state.parameters, torch.tensor(played.observations).flatten(1, 2))
        output = torch.tensor(played.extras["policy_output"]).flatten(1, 2)
        noise = ((output - own.mean) * torch.exp(-own.log_std))[..., 0].reshape(played.mask.shape)
        trajectories.append(replace(played, rewards=np.where(played.mask, price * noise.numpy() ** 2, 0.0)))
    return MetaBatch(TASKS, tuple(trajectories))


def spread(parameters: torch.Tensor) -> torch.Tensor:
    """Standard deviation of the first component of two."""
    return parameters[..., -2].exp()


@pytest.mark.parametrize("name", ADAPTS_DEVIATIONS)
@pytest.mark.parametrize("start", [0.02, 0.2], ids=["below the floor", "at the floor"])
def test_a_deviation_restored_at_or_below_its_floor_grows_when_that_pays(name: str, spaces, start: float) -> None:
    agent = make_narrow(name, spaces)
    tensors = agent.tensors()
    parameters = tensors["parameters"].clone()
    parameters[-2:] = math.log(start)
    agent.restore({**tensors, "parameters": parameters}, agent.counters())
    assert spread(agent.tensors()["parameters"]).item() == pytest.approx(0.2)
    assert spread(parameters).item() == pytest.approx(start), "what was handed over is left as it was"
    first = paid_for_noise(agent, 0, 1.0)
    assert (
        spread(agent.adapt(agent.begin(TASKS, E), first.collects[0]).parameters) > FIRST_GROWTH.get(name, 0.202)
    ).all()
    agent.meta_update(first)
    for seed in range(1, 4):
        agent.meta_update(paid_for_noise(agent, seed, 1.0))
    assert spread(agent.tensors()["parameters"]) > 0.21


@pytest.mark.parametrize("name", ADAPTS_DEVIATIONS)
def test_a_deviation_that_was_pressed_on_its_floor_comes_back(name: str, spaces: Spaces) -> None:
    agent = make_narrow(name, spaces)
    floor = math.log(0.2) - 1e-6
    for seed in range(5):
        batch = paid_for_noise(agent, seed, -1.0)
        agent.meta_update(batch)
        assert agent.tensors()["parameters"][-2:].min() >= floor
        assert agent.adapt(agent.begin(TASKS, E), batch.collects[0]).parameters[:, -2:].min() >= floor
    assert spread(agent.tensors()["parameters"]).item() == pytest.approx(0.2, abs=2e-3)
    for seed in range(5):
        agent.meta_update(paid_for_noise(agent, seed, 1.0))
    assert spread(agent.tensors()["parameters"]) > 0.21


def test_one_inner_step_takes_all_episodes_of_a_task(make) -> None:
    agent = make(0, inner_steps=2)
    assert agent.adaptation_steps == 2
    assert agent.episodes_per_adaptation(7) == 7


def test_the_saved_policy_is_the_one_of_the_task_asked_for(make, tmp_path: Path) -> None:
    agent = make(0)
    state = agent.adapt(agent.begin(TASKS, E), experience(agent, 0, liking_two).collects[0])
    agent.save_policy(state, tmp_path / "policy.safetensors", task=1)
    tensors, description = read_tensors(tmp_path / "policy.safetensors")
    expected = state.parameters[1, : tensors["weight_0"].numel()].view(tensors["weight_0"].shape)
    assert torch.equal(tensors["weight_0"], expected)
    assert description["normalise_observations"] is False
