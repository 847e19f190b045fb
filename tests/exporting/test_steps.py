"""One step of every policy by plain operations acts as the agent does, over whole trials."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from metarl.exporting.contract import QUIET, acts_by
from metarl.learning.networks.cells.base import Cell
from metarl.learning.networks.cells.settings import CellName
from metarl.learning.networks.exported.step import Actions, MemorylessStep, Normalise
from metarl.learning.networks.modules import hidden_layers
from metarl.registry import AGENTS, agent_class, names
from metarl.types import Task

ALL = names(AGENTS)
BOUNDED_ONLY = [n for n in ALL if n in ("pearl", "recurrent-sac") or getattr(agent_class(n), "needs_reward", False)]
WITH_CELLS = ("rl2", "varibad", "recurrent-sac")
CELLS = [(agent, cell, how) for agent in WITH_CELLS for cell in get_args(CellName) for how in ("none", "max")]
OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("maml-trpo", {"activation": "relu", "inner_steps": 2, "action_scale": 2.0}),
    ("meta-networks", {"activation": "relu", "inner_steps": 2}),
    ("meta-networks", {"hidden": (4, 6), "representation": ()}),
    ("multitask", {"std": "state", "mean": "tanh", "max_std": 2.0}),
    ("oracle", {"normalise_observations": False}),
    ("pearl", {"context_next_observation": True}),
    ("rl2", {"head": "hypernetwork"}),
    ("rl2", {"head": "hypernetwork", "hidden": (4, 3), "mean": "tanh", "std": "state", "max_std": 2.0}),
    ("rl2", {"encoder": (), "activation": "relu", "hidden": (4,), "reward_input_scale": 0.1}),
    ("rl2", {"cell": "attention", "attention_window": 1}),
    ("rl2", {"cell": "attention", "attention_window": 4, "cell_layers": 1, "attention_heads": 2}),
    ("rl2", {"normalise_observations": False, "action_scale": 3.0}),
    ("varibad", {"normalise_belief": False, "encoder": ()}),
    ("grbal", {"learned_rates": False, "method": "mppi"}),
    ("rebal", {"ensemble": 2, "probabilistic": True, "activation": "tanh"}),
]
Fixture = Callable[..., Any]


def check(agent: Any, step_of: Fixture, traced: Fixture, largest_difference: Fixture, sampled: bool = False) -> None:
    step, state = step_of(agent, sampled)
    assert largest_difference(agent, step, state, traced(step)) < 1e-5


@pytest.mark.parametrize("name", ALL)
def test_a_step_acts_as_its_agent(name: str, build, step_of, traced, largest_difference) -> None:
    check(build(name), step_of, traced, largest_difference)


@pytest.mark.parametrize("name", [name for name in ALL if name not in BOUNDED_ONLY])
def test_so_it_does_with_choices(name: str, build, step_of, traced, largest_difference) -> None:
    discrete = dataclasses.replace(build(name).spaces, action_low=(2.0,), action_high=(5.0,), choices=4)
    check(build(name, discrete), step_of, traced, largest_difference)
    check(build(name, discrete), step_of, traced, largest_difference, sampled=True)


@pytest.mark.parametrize("name", ALL)
def test_so_it_does_with_the_same_random_numbers(name: str, build, step_of, traced, largest_difference) -> None:
    check(build(name), step_of, traced, largest_difference, sampled=True)


@pytest.mark.parametrize(("name", "cell", "aggregate"), CELLS)
def test_so_it_does_with_every_cell(name, cell, aggregate, build, step_of, traced, largest_difference) -> None:
    check(build(name, cell=cell, aggregate=aggregate), step_of, traced, largest_difference)


@pytest.mark.parametrize(("name", "settings"), OPTIONS)
def test_so_it_does_with_every_option(name, settings, build, step_of, traced, largest_difference) -> None:
    check(build(name, **settings), step_of, traced, largest_difference)


@pytest.mark.parametrize("cell", get_args(CellName))
def test_a_trial_longer_than_those_of_training_goes_on(cell, build, step_of, traced, largest_difference) -> None:
    short = dataclasses.replace(build("rl2").spaces, horizon=5)
    agent = build("rl2", short, cell=cell, episodes_per_trial=1)  # the trial that is played has 13 steps
    check(agent, step_of, traced, largest_difference)


@pytest.mark.parametrize("name", ALL)
def test_a_contract_says_who_explores_without_the_noise_of_training(name: str, build, step_of) -> None:
    quiet = name in ("rl2", "varibad", "recurrent-sac", "rma", "pearl")
    assert (acts_by(step_of(build(name), False)[0]) == QUIET) == quiet
    assert acts_by(step_of(build(name), True)[0]) == "random numbers: the input `noise`"


def test_an_untrained_planner_has_no_step(build) -> None:
    agent = build("mb-mpc")
    agent.iteration = 0
    with pytest.raises(ValueError, match="which plays random actions; expected at least 1, train it longer"):
        agent.policy_step(agent.begin([Task("a task")], 1))


def test_a_network_without_a_cell_is_refused(build) -> None:
    agent = build("rl2")
    agent.network.cell = hidden_layers((5, 8), "tanh", np.random.default_rng(0))
    with pytest.raises(ValueError, match="got a RecurrentActorCritic with 0 cells"):
        agent.policy_step(None)


def test_normalisation_in_single_precision_is_as_exact_as_in_double() -> None:
    mean, deviation = torch.tensor([1000.0000123, -3.0], dtype=torch.float64), torch.tensor([1e-3, 2.0]).double()
    x = torch.tensor([[1000.00024414, 5.0, 7.0], [1e6, -1e6, -7.0]])
    seen = Normalise({"a.mean": mean, "a.deviation": deviation})(x)
    exact = ((x.double()[:, :2] - mean) / deviation).clamp(-10, 10)
    assert seen[:, :2].numpy() == pytest.approx(exact.numpy(), rel=1e-6)
    assert seen[:, 2].tolist() == [7.0, -7.0], "inputs without statistics pass"
    assert 0.2 < float(seen[0, 0]) < 0.25


def test_previous_action_reward_and_done_count_from_the_second_step(build, step_of, traced) -> None:
    step, _ = step_of(build("rl2"))
    run = traced(step)
    given = {name: np.zeros(size, np.float32) for name, size in step.sizes.items()}
    changed = given | {name: np.ones_like(given[name]) for name in ("previous_action", "previous_reward", "done")}
    first, memory = run(given)
    assert np.array_equal(first, run(changed)[0])
    for name in ("previous_action", "previous_reward", "done"):
        later = given | {"memory": memory, name: changed[name]}
        assert np.abs(run(later)[0] - run(given | {"memory": memory})[0]).max() > 1e-4, name
    assert memory[0] == 1.0


def test_actions_are_mapped_and_clipped_by_hand() -> None:
    tensors = {
        "action_low": torch.tensor([-1.0, -torch.inf]),
        "action_high": torch.tensor([3.0, 2.0]),
        "action_offset": torch.tensor([1.0, 0.0]),
        "action_factor": torch.tensor([0.5, 1.0]),
    }
    about = {"choices": 0, "first_choice": 0, "action_scale": 4.0, "bounded": [True, False]}
    actions = Actions(tensors, about)
    assert actions.to_environment(torch.tensor([[2.0, 5.0]])).tolist() == [[2.0, 2.0]]
    assert actions.to_environment(torch.tensor([[9.0, -5.0]])).tolist() == [[3.0, -5.0]]
    assert actions.to_features(torch.tensor([[2.0, 7.0]])).tolist() == [[0.5, 7.0]], "(2 - 1) / (0.5 * 4)"
    choices = Actions(tensors, {"choices": 3, "first_choice": 4, "action_scale": 1.0, "bounded": [False]})
    assert choices.to_environment(torch.tensor([[2.0]])).tolist() == [[6.0]]
    assert choices.to_features(torch.tensor([[5.0]])).tolist() == [[0.0, 1.0, 0.0]]


def test_inputs_and_memory_have_the_sizes_that_a_step_declares(build, step_of) -> None:
    step, _ = step_of(build("varibad", cell="lstm"), True)
    assert step.sizes == {
        "observation": 3,
        "previous_action": 2,
        "previous_reward": 1,
        "done": 1,
        "memory": 1 + 2 * 8,
        "noise": 2,
    }
    assert [part.name for part in step.parts] == ["steps", "hidden state", "cell state"]
    assert isinstance(step_of(build("multitask"))[0], MemorylessStep)


class Average(Cell[Tensor]):
    """The running sum of the inputs: a cell that export does not know."""

    def __init__(self, inputs: int, start: float = 0.0) -> None:
        super().__init__()
        self.outputs, self.start = inputs, start

    def fresh_memory(self, rows: int) -> Tensor:
        return torch.full((rows, self.outputs), self.start)

    def forward(self, x: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        sums = memory.unsqueeze(1) + x.cumsum(dim=1)
        return sums, sums[:, -1]


def test_a_cell_of_ones_own_is_traced_as_it_is(build, step_of, traced, largest_difference) -> None:
    agent = build("rl2", units=5)  # as many as the last layer of the encoder has
    agent.network.cell = Average(5)
    step, state = step_of(agent)
    assert [part.size for part in step.parts] == [1, 5]
    assert largest_difference(agent, step, state, traced(step)) < 1e-5
    agent.network.cell = Average(5, start=1.0)
    with pytest.raises(ValueError, match="got a Average whose memory does not start as zeros"):
        agent.policy_step(state)
